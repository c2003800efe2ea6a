"""Trace files of every format: what is read, and by which line a bad one is refused."""

import json
import tracemalloc
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from public_traces import needs_data, public_trace
from splitweave.proto.ids import GatewayId
from splitweave.proto.requests import RequestClass
from splitweave.sim.errors import TraceError
from splitweave.sim.workloads import lines as lines_module
from splitweave.sim.workloads.arrivals import Arrival, Segment
from splitweave.sim.workloads.csv_traces import moment_ns
from splitweave.sim.workloads.lines import lines
from splitweave.sim.workloads.order import REORDER_MAX
from splitweave.sim.workloads.prompts import PromptMaker
from splitweave.sim.workloads.source import read_trace

S = 1_000_000_000
AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
BURST = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
BURST3 = "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Log Type\n"
OURS = '{"at_s": 1.5, "prompt_tokens": 700, "output_tokens": 9}\n'
MOON = '{"timestamp": 30, "input_length": 600, "output_length": 5, "hash_ids": [7, 9]}\n'


def _read(tmp_path: Path, form: str, data: str | bytes) -> list[Arrival]:
    path = tmp_path / "trace"
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return list(read_trace(path, form))


def _shown(arrivals: list[Arrival]) -> list[tuple[float, int, int]]:
    return [(a.at_ns / S, a.prompt_tokens, a.output_tokens) for a in arrivals]


def test_azures_files_of_2024_are_read_with_their_zones(tmp_path: Path) -> None:
    rows = (
        "2024-05-12 00:00:10+00:00,200,20\n"
        "2024-05-12 00:00:10.250000+00:00,300,30\n"
        "2024-05-12T02:00:11.5+02:00,400,40\n"
        "2024-05-12 00:00:12Z,500,50\n"
    )
    shown = _shown(_read(tmp_path, "azure", AZURE + rows))
    assert shown == [(0, 200, 20), (0.25, 300, 30), (1.5, 400, 40), (2, 500, 50)]


@given(st.integers(0, 4 * 10**9), st.integers(0, S - 1), st.integers(0, 9))
def test_moments_are_whole_nanoseconds_whatever_the_decimals(
    second: int, part: int, digits: int
) -> None:
    fraction = f"{part:09}"[:digits]
    shown = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%d %H:%M:%S")
    shown += f".{fraction}" if fraction else ""
    assert moment_ns(shown) == second * S + int(fraction.ljust(9, "0"))
    assert moment_ns(shown) == moment_ns(shown + "+00:00") == moment_ns(shown + "Z")


def test_columns_go_by_name_and_others_are_passed_over(tmp_path: Path) -> None:
    text = 'GeneratedTokens,"TIMESTAMP",NumImages,ContextTokens\n5,"2024-10-15 00:00:00",2,77\n'
    assert _shown(_read(tmp_path, "azure", text)) == [(0, 77, 5)]


@pytest.mark.parametrize(
    "text",
    [
        BURST + "5,ChatGPT,472,18,490,Conversation log\n45,GPT-4,87,30,117,API log\n",
        BURST3 + "5.0,u-1,43,GPT-4,472,18,API log\n45.0,,2,ChatGPT,87,30,API log\n",
    ],
)
def test_burstgpt_is_read_in_both_layouts(tmp_path: Path, text: str) -> None:
    assert _shown(_read(tmp_path, "burstgpt", text)) == [(0, 472, 18), (40, 87, 30)]


def test_requests_that_failed_in_burstgpt_are_passed_over(tmp_path: Path) -> None:
    rows = "5,GPT-4,300,0,300,API log\n7,GPT-4,300,1,301,API log\n"
    assert _shown(_read(tmp_path, "burstgpt", BURST + rows)) == [(0, 300, 1)]
    with pytest.raises(TraceError, match=r"trace: no requests in it"):
        _read(tmp_path, "burstgpt", BURST + "5,GPT-4,300,0,300,API log\n")


def test_splitwises_and_llmservingsims_own_files_are_read(tmp_path: Path) -> None:
    text = (
        "request_id,request_type,application_id,arrival_timestamp,batch_size,prompt_size,token_size\n"
        "0,2,0,0.5,1,986,121\n1,2,0,0.75,1,4098,54\n"
    )
    assert _shown(_read(tmp_path, "splitwise", text)) == [(0, 986, 121), (0.25, 4098, 54)]
    row = {"request_id": "b", "input_toks": 23, "output_toks": 5, "arrival_time": 1787267980.25}
    text = json.dumps(row) + "\n" + json.dumps(row | {"arrival_time": 1787267980.5})
    assert _shown(_read(tmp_path, "llmservingsim", text)) == [(0, 23, 5), (0.25, 23, 5)]


def test_our_own_format_has_classes_and_shared_blocks_where_they_are_given(tmp_path: Path) -> None:
    rows = OURS + OURS.replace("9}", '9, "class": "batch", "blocks": ["system", 4]}')
    plain, shared = _read(tmp_path, "splitweave", rows)
    assert plain.segments == (Segment("own/1", 700),)
    assert plain.request_class is None
    assert shared.segments == (Segment("block/system", 512), Segment("block/4", 188))
    assert shared.request_class is RequestClass.BATCH


BAD: list[tuple[str, str | bytes, str]] = [
    ("azure", "TIMESTAMP,ContextTokens\n", ":1: the columns are TIMESTAMP,ContextTokens; expected"),
    ("azure", "TIMESTAMP,ContextTokens\n", "(missing: GeneratedTokens)"),
    ("azure", AZURE + "2023-11-16 18:17:03,5,5\n2023-11-16 18:17:04,-5,5\n", ":3: ContextTokens"),
    ("azure", AZURE + "2023-11-16 18:17:03,5,5\n2023-11-16 18:1", ":3: 1 columns, expected 3 (the"),
    ("azure", AZURE + "2023-11-16 18:17:03,5,", ":2: GeneratedTokens is ''; expected a whole"),
    ("azure", AZURE + "2023-11-16 18:17:03,5.5,5\n", ":2: ContextTokens is '5.5'"),
    ("azure", AZURE + "2023-11-16 25:17:03,5,5\n", ":2: TIMESTAMP '2023-11-16 25:17:03' is not"),
    ("azure", AZURE + "2023-11-16 18:17:03 PM,5,5\n", "is not a date and time"),
    ("azure", AZURE.encode() + b"2023-11-16 18:17:03,5,\xe9\n", ":2: invalid UTF-8 at byte 22"),
    ("azure", AZURE.encode("utf-16"), "trace: is UTF-16; expected plain UTF-8 text"),
    ("azure", b"\x1f\x8b\x08\x00", "trace: is packed by gzip"),
    ("burstgpt", BURST + "5,GPT-4,3,-1,2,API log\n", ":2: Response tokens is '-1'"),
    ("burstgpt", BURST + "5,GPT-4,0,7,7,API log\n", ":2: Request tokens is '0'"),
    ("burstgpt", BURST + "nan,GPT-4,3,1,4,API log\n", ":2: Timestamp 'nan' is not a number of sec"),
    ("burstgpt", BURST + "-1,GPT-4,3,1,4,API log\n", ":2: Timestamp '-1' is not a number"),
    ("burstgpt", BURST + "1e999,GPT-4,3,1,4,API log\n", ":2: Timestamp '1e999' is not"),
    ("splitwise", "a,b\n1,2\n", "expected arrival_timestamp,prompt_size,token_size"),
    ("mooncake", MOON + MOON[:40], ":2: not JSON"),
    ("mooncake", MOON + MOON[:40], "(the file ends within this line: is it whole?)"),
    ("mooncake", MOON + MOON.replace("[7, 9]", '"7"'), ":2: hash_ids has fewer than the 2 blocks"),
    ("mooncake", MOON + MOON.replace("[7, 9]", "[7, null]"), ":2: hash_ids holds None; expected"),
    ("mooncake", MOON.replace("30", "true"), ":1: timestamp is True; expected milliseconds >= 0"),
    ("splitweave", OURS + OURS.replace("9}", '9, "class": "low"}'), ":2: class is 'low'; expected"),
    (
        "splitweave",
        OURS.replace("700", "0"),
        ":1: prompt_tokens is 0; expected a whole number >= 1",
    ),
    ("splitweave", '{"at_s": 1}\n', ":1: missing output_tokens, prompt_tokens"),
    ("splitweave", "[" * 100_000, ":1: not JSON"),
]


@pytest.mark.parametrize(("form", "data", "message"), BAD)
def test_what_is_wrong_with_a_line_is_told_by_its_number(
    tmp_path: Path, form: str, data: str | bytes, message: str
) -> None:
    with pytest.raises(TraceError) as caught:
        _read(tmp_path, form, data)
    assert message in str(caught.value)


def test_a_mark_that_editors_put_before_utf8_is_passed_over(tmp_path: Path) -> None:
    assert len(_read(tmp_path, "splitweave", b"\xef\xbb\xbf" + OURS.encode())) == 1


def test_a_last_line_without_its_end_is_read_if_it_says_all(tmp_path: Path) -> None:
    assert len(_read(tmp_path, "splitweave", OURS + OURS.strip())) == 2


def test_a_line_without_end_is_refused_before_it_fills_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines_module, "LINE_BYTES_MAX", 1000)
    path = tmp_path / "trace"
    path.write_bytes(b"short\n" + b"x" * 5000)
    with pytest.raises(TraceError, match=r"trace:2: the line is longer than 1000 bytes"):
        list(lines(path))


def _late(at: int, late: int) -> str:
    """Requests each second, and one of second 1 after `late` more of them."""
    row = OURS.replace("1.5", "{}")
    times = [*range(at, at + late + 2), at + 1, at + late + 9]
    return "".join(row.replace("{}", str(time)) for time in times)


def test_a_request_that_stands_somewhat_late_is_put_in_its_place(tmp_path: Path) -> None:
    arrivals = _read(tmp_path, "splitweave", _late(100, REORDER_MAX - 2))
    times = [a.at_ns / S for a in arrivals]
    assert times == sorted(times)
    assert times[:3] == [0, 1, 1]


def test_one_that_stands_later_is_refused_by_its_line(tmp_path: Path) -> None:
    with pytest.raises(TraceError) as caught:
        _read(tmp_path, "splitweave", _late(100, REORDER_MAX + 1))
    assert f"trace:{REORDER_MAX + 4}: its time is 1 s before that of a request" in str(caught.value)
    assert "sort the file by time" in str(caught.value)


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=200))
@example([0, 700_000])
@settings(deadline=None, max_examples=30)
def test_any_order_of_a_short_file_comes_out_sorted_and_complete(
    tmp_path_factory: pytest.TempPathFactory, stamps: list[int]
) -> None:
    row = '{{"at_s": {}, "prompt_tokens": {}, "output_tokens": 9}}\n'
    rows = "".join(row.format(stamp, stamp + 1) for stamp in stamps)
    arrivals = _read(tmp_path_factory.mktemp("t"), "splitweave", rows)
    assert [a.prompt_tokens - 1 for a in arrivals] == sorted(stamps)
    assert [a.at_ns for a in arrivals] == [(s - min(stamps)) * S for s in sorted(stamps)]


def test_a_long_file_is_read_in_bounded_memory(tmp_path: Path) -> None:
    path = tmp_path / "trace"
    with path.open("w") as file:
        file.writelines(OURS.replace("1.5", str(second)) for second in range(30_000))
    tracemalloc.start()
    read = sum(1 for _ in read_trace(path, "splitweave"))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert read == 30_000
    assert peak < 1000 * REORDER_MAX  # what waits for its place, not the file


def test_reading_begins_at_once_however_long_the_file(tmp_path: Path) -> None:
    def endless() -> Iterator[str]:
        while True:
            yield OURS

    path = tmp_path / "trace"
    with path.open("w") as file:
        file.writelines(islice(endless(), 3 * REORDER_MAX))
        file.write("broken")
    first = list(islice(read_trace(path, "splitweave"), 5))  # the bad end is not come to
    assert len(first) == 5


def test_mooncakes_blocks_reach_the_prefix_cache_as_equal_hashes(tmp_path: Path) -> None:
    other = MOON.replace("600", "1400").replace("[7, 9]", "[7, 9, 3]")
    arrivals = _read(tmp_path, "mooncake", MOON + other + other.replace("3]", "4]"))
    maker = PromptMaker(1, 64, frozenset())
    hashes = [maker.request(n, a, GatewayId("g")).block_hashes for n, a in enumerate(arrivals)]
    assert hashes[0] == hashes[1][:9]  # 600 tokens are nine whole blocks of 64
    assert hashes[1][:16] == hashes[2][:16]
    assert set(hashes[1][16:]).isdisjoint(hashes[2][16:])


@needs_data
@pytest.mark.parametrize(("name", "count"), [("splitwise", 8466), ("vllm", 300)])
def test_the_other_recorded_runs_are_read_whole(name: str, count: int) -> None:
    arrivals = list(public_trace(name))
    assert len(arrivals) == count
    assert arrivals[0].at_ns == 0
