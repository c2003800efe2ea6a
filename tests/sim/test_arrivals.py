"""Arrivals and prompts: their statistics, their sharing, and traces at their edges."""

from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from splitweave.proto.blocks import block_hashes
from splitweave.proto.ids import GatewayId
from splitweave.sim.errors import TraceError
from splitweave.sim.streams import VOCAB
from splitweave.sim.workloads.arrivals import Arrival, Segment
from splitweave.sim.workloads.lengths import Fixed, Lognormal, Uniform
from splitweave.sim.workloads.order import cut, scaled, spread
from splitweave.sim.workloads.prompts import PromptMaker, quick_block_hashes
from splitweave.sim.workloads.source import Source, read_trace
from splitweave.sim.workloads.specs import PoissonSpec

DATA = Path(__file__).resolve().parents[2] / ".." / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="no ../shared/data here")
S = 1_000_000_000
HEADER = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
ROW = '{"timestamp": 3000, "input_length": 600, "output_length": 5, "hash_ids": [7, 9]}\n'


def _poisson(seed: int = 1, **changes: Any) -> list[Arrival]:
    spec = PoissonSpec(kind="poisson", **({"requests": 4000} | changes))
    return list(Source(spec, seed, 131072))


def _read(form: str, tmp_path: Path, data: str | bytes) -> list[Arrival]:
    path = tmp_path / "trace"
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return list(read_trace(path, form))


@pytest.mark.parametrize("rate_per_s", [0.5, 20.0, 3000.0])
def test_gaps_are_exponential_at_the_given_rate(rate_per_s: float) -> None:
    times = [a.at_ns / S for a in _poisson(rate_per_s=rate_per_s)]
    gaps = [b - a for a, b in pairwise(times)]
    mean = sum(gaps) / len(gaps)
    deviation = (sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) ** 0.5
    assert mean == pytest.approx(1 / rate_per_s, rel=0.06)
    assert deviation / mean == pytest.approx(1, abs=0.08)  # 1 for exponential gaps
    assert min(gaps) >= 0


def test_groups_are_drawn_alike_and_a_short_prompt_keeps_a_token_of_its_own() -> None:
    length = Uniform(kind="uniform", low=1, high=20)
    arrivals = _poisson(rate_per_s=1.0, prompt=length, shared_prefix_tokens=8, prefix_groups=4)
    groups = Counter(a.segments[0].name for a in arrivals if len(a.segments) == 2)
    assert len(groups) == 4
    assert max(groups.values()) < 1.2 * min(groups.values())
    for arrival in arrivals:
        assert arrival.segments[-1].name.startswith("own/")
        assert arrival.segments[-1].tokens >= 1
        assert 1 <= arrival.prompt_tokens <= 20


def test_a_lognormal_is_cut_at_its_bounds_and_refuses_a_p90_below_its_median() -> None:
    length = Lognormal(kind="lognormal", median=2, p90=2000, max=3000)
    drawn = {a.prompt_tokens for a in _poisson(rate_per_s=1.0, prompt=length)}
    assert (min(drawn), max(drawn)) == (1, 3000)
    flat = Lognormal(kind="lognormal", median=50, p90=50, max=3000)
    assert {a.prompt_tokens for a in _poisson(rate_per_s=1.0, prompt=flat)} == {50}
    with pytest.raises(ValidationError, match=r"p90 \(100\) is below median \(1000\)"):
        Lognormal(kind="lognormal", median=1000, p90=100, max=5000)


def test_a_request_depends_on_seed_and_number_and_not_on_what_was_made_before() -> None:
    arrivals = _poisson(
        rate_per_s=1.0, requests=30, prompt=Fixed(kind="fixed", tokens=40),
        shared_prefix_tokens=16, prefix_groups=2,
    )  # fmt: skip

    def made(seed: int, order: list[int]) -> dict[int, Any]:
        maker = PromptMaker(seed, 16, frozenset({3}))
        return {n: maker.request(n, arrivals[n], GatewayId("g")) for n in order}

    forward = made(1, list(range(30)))
    assert made(1, list(range(29, -1, -1))) == forward
    assert all(made(2, [n])[n].token_ids != forward[n].token_ids for n in range(30))
    assert len({request.sampling.seed for request in forward.values()}) == 30
    for request in forward.values():
        assert request.prompt_tokens == 40
        assert request.block_hashes == block_hashes(request.token_ids, 16)
        assert all(0 <= token_id < VOCAB for token_id in request.token_ids)
        assert (request.arrived_ns, request.stop_token_ids) == (0, frozenset({3}))


@given(st.lists(st.integers(0, 2**40), max_size=70), st.integers(1, 20))
@settings(deadline=None)
def test_quick_hashes_are_the_hashes_of_any_prompt(token_ids: list[int], size: int) -> None:
    assert quick_block_hashes(tuple(token_ids), size) == block_hashes(tuple(token_ids), size)


def test_azure_keeps_its_hundred_nanoseconds_and_sorts_what_is_out_of_order(tmp_path: Path) -> None:
    rows = "2023-11-16 18:17:04.0000001,5,1\n2023-11-16 18:17:03.9999999,6,2\n"
    later = "2023-11-17 00:00:00,7,3\r\n\r\n"
    arrivals = _read("azure", tmp_path, HEADER + rows + later)
    assert [(a.at_ns, a.prompt_tokens) for a in arrivals][:2] == [(0, 6), (200, 5)]
    assert arrivals[2].at_ns == 20576 * S + 100


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEADER + "2023-11-16 18:17:03,5,5\n\n2023-11-16 18:17:03.x,5,5\n", ":4: TIMESTAMP"),
        (HEADER + "2023-11-16 18:17:03,5,-1\n", ":2: GeneratedTokens is '-1'; expected a whole"),
        (HEADER + "2023-11-16 18:17:03,5,5,5\n", ":2: 4 columns, expected 3"),
        (HEADER + "2023-02-30 18:17:03,5,5\n", ":2: TIMESTAMP '2023-02-30 18:17:03' is not"),
        (b"TIMESTAMP\xff", "invalid UTF-8 at byte 9"),
    ],
)
def test_a_bad_azure_line_is_named(tmp_path: Path, text: Any, message: str) -> None:
    with pytest.raises(TraceError) as caught:
        _read("azure", tmp_path, text)
    assert message in str(caught.value)


@pytest.mark.parametrize("stamp", ["NaN", "Infinity", "-1", "null", "[]"])
def test_a_mooncake_stamp_that_is_no_time_is_refused_by_line(tmp_path: Path, stamp: str) -> None:
    with pytest.raises(TraceError, match=r":2: timestamp is .*; expected milliseconds >= 0"):
        _read("mooncake", tmp_path, ROW + ROW.replace("3000", stamp))


@pytest.mark.parametrize("count", ["true", "5.5", "null", '"x"', "-3"])
def test_a_mooncake_count_that_is_none_is_refused_by_line(tmp_path: Path, count: str) -> None:
    with pytest.raises(TraceError, match=r":3: output_length is .*; expected a whole number"):
        _read("mooncake", tmp_path, ROW + "\n" + ROW.replace(": 5", f": {count}"))


@pytest.mark.parametrize(("tokens", "pieces"), [(1, [1]), (512, [512]), (513, [512, 1])])
def test_a_mooncake_prompt_is_whole_blocks_and_a_tail(
    tmp_path: Path, tokens: int, pieces: list[int]
) -> None:
    (arrival,) = _read("mooncake", tmp_path, ROW.replace("600", str(tokens)))
    assert [segment.tokens for segment in arrival.segments] == pieces
    assert arrival.segments[0] == Segment("block/7", pieces[0])


@given(st.lists(st.integers(0, 50), min_size=1, max_size=30), st.floats(0.1, 20.0))
def test_a_speedup_keeps_order_and_shares_and_a_limit_takes_the_first(
    seconds: list[int], speedup: float
) -> None:
    arrivals = [
        Arrival(at_ns=s * S, segments=(Segment(f"own/{n}", 5),), output_tokens=1)
        for n, s in enumerate(sorted(seconds))
    ]
    quick = list(scaled(arrivals, speedup))
    assert [a.segments for a in quick] == [a.segments for a in arrivals]
    assert [a.at_ns for a in quick] == [round(a.at_ns / speedup) for a in arrivals]
    assert list(scaled(cut(arrivals, 0.0, None, 3), speedup)) == quick[:3]


@given(st.lists(st.integers(0, 5), min_size=1, max_size=30), st.integers(1, 9))
def test_spreading_keeps_every_arrival_in_its_bucket(buckets: list[int], seed: int) -> None:
    arrivals = [
        Arrival(at_ns=b * 3 * S, segments=(Segment(f"own/{n}", 5),), output_tokens=1)
        for n, b in enumerate(sorted(buckets))
    ]
    moved = list(spread(arrivals, 3.0, seed))
    assert sorted(a.at_ns // (3 * S) for a in moved) == sorted(buckets)
    assert Counter(a.segments for a in moved) == Counter(a.segments for a in arrivals)
    assert moved == list(spread(arrivals, 3.0, seed))


@needs_data
def test_mooncakes_conversations_are_read_whole() -> None:
    path = DATA / "mooncake" / "mooncake_fast25_conversation_trace.jsonl"
    arrivals = list(read_trace(path, "mooncake"))
    assert len(arrivals) == 12031
    assert 3500 < arrivals[-1].at_ns / S < 3600
    assert sum(a.prompt_tokens for a in arrivals) / 12031 == pytest.approx(12035, rel=0.01)
