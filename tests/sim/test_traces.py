"""Arrivals: drawn and read, and what is wrong with a bad file."""

from pathlib import Path
from typing import Any

import pytest
from splitweave.proto.blocks import block_hashes
from splitweave.proto.ids import GatewayId
from splitweave.sim.errors import TraceError
from splitweave.sim.workloads.arrivals import Arrival, Segment
from splitweave.sim.workloads.lengths import Fixed, Lognormal, Uniform
from splitweave.sim.workloads.order import cut, scaled, spread
from splitweave.sim.workloads.prompts import PromptMaker, quick_block_hashes
from splitweave.sim.workloads.source import Source, read_trace
from splitweave.sim.workloads.specs import PoissonSpec

DATA = Path(__file__).resolve().parents[2] / ".." / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="no ../shared/data here")
HEADER = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
ROW = '{"timestamp": 3000, "input_length": 600, "output_length": 5, "hash_ids": [7, 9]}\n'


def _poisson(seed: int = 1, **changes: Any) -> Any:
    values = {
        "rate_per_s": 10.0,
        "requests": 2000,
        "prompt": Uniform(kind="uniform", low=10, high=30),
        "output": Fixed(kind="fixed", tokens=5),
        "shared_prefix_tokens": 0,
        "prefix_groups": 0,
    }
    return list(Source(PoissonSpec(kind="poisson", **(values | changes)), seed, 131072))


def _write(tmp_path: Path, text: str) -> Any:
    path = tmp_path / "trace"
    path.write_text(text)
    return path


def test_poisson_has_its_rate_and_its_seed() -> None:
    arrivals = _poisson()
    assert arrivals == _poisson() != _poisson(seed=2)
    assert arrivals[-1].at_ns / 1e9 == pytest.approx(200, rel=0.1)
    assert {a.prompt_tokens for a in arrivals} == set(range(10, 31))


def test_lognormal_hits_its_median_and_p90() -> None:
    arrivals = _poisson(prompt=Lognormal(kind="lognormal", median=1000, p90=3000, max=20000))
    lengths = sorted(a.prompt_tokens for a in arrivals)
    assert lengths[1000] == pytest.approx(1000, rel=0.1)
    assert lengths[1800] == pytest.approx(3000, rel=0.15)


def test_prompts_of_a_group_share_their_prefix_and_nothing_else() -> None:
    arrivals = _poisson(requests=40, shared_prefix_tokens=8, prefix_groups=2)
    maker = PromptMaker(1, 4, frozenset())
    prompts = [maker.request(i, a, GatewayId("g")) for i, a in enumerate(arrivals)]
    assert len({prompt.token_ids[:8] for prompt in prompts}) == 2
    assert len({prompt.token_ids[8:] for prompt in prompts}) == 40
    assert [len(p.token_ids) for p in prompts] == [a.prompt_tokens for a in arrivals]


def test_quick_hashes_are_the_hashes() -> None:
    token_ids = tuple(range(100, 175))
    assert quick_block_hashes(token_ids, 16) == block_hashes(token_ids, 16)
    assert quick_block_hashes((1, 2), 16) == ()


def test_azure_rows_are_read_and_dated_from_the_first(tmp_path: Path) -> None:
    rows = "2023-11-16 18:17:03.9799600,4808,10\n2023-11-16 18:17:04.0319600,3180,8\n"
    arrivals = read_trace(_write(tmp_path, HEADER + rows), "azure")
    assert [(a.at_ns, a.prompt_tokens, a.output_tokens) for a in arrivals] == [
        (0, 4808, 10),
        (52_000_000, 3180, 8),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no requests"),
        (HEADER, "no requests"),
        ("a,b\n", ":1: the columns are a,b; expected TIMESTAMP"),
        (HEADER + "2023-11-16 18:17:03,5\n", ":2: 2 columns, expected 3"),
        (HEADER + "yesterday,5,5\n", ":2: TIMESTAMP 'yesterday' is not a date"),
        (HEADER + "2023-11-16 18:17:03,0,5\n", ":2: ContextTokens is '0'; expected a whole"),
        (HEADER + "2023-11-16 18:17:03,5,many\n", ":2: GeneratedTokens is 'many'"),
    ],
)
def test_bad_azure_files_are_refused_by_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(TraceError) as caught:
        list(read_trace(_write(tmp_path, text), "azure"))
    assert message in str(caught.value)


def test_mooncake_rows_share_blocks_by_hash_id(tmp_path: Path) -> None:
    rows = _write(tmp_path, ROW + ROW.replace("[7, 9]", "[7, 8]"))
    arrivals = read_trace(rows, "mooncake")
    maker = PromptMaker(1, 16, frozenset())
    first, second = (maker.request(i, a, GatewayId("g")) for i, a in enumerate(arrivals))
    assert len(first.token_ids) == 600
    assert first.token_ids[:512] == second.token_ids[:512]
    assert first.token_ids[512:] != second.token_ids[512:]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", ":1: not JSON"),
        ("[]\n", ":1: not a JSON object"),
        (ROW + '{"timestamp": 1}\n', ":2: missing hash_ids, input_length, output_length"),
        (ROW.replace("3000", '"x"'), ":1: timestamp is 'x'"),
        (ROW.replace("600", "0"), ":1: input_length is 0"),
        (ROW.replace("600", "2000"), ":1: hash_ids has fewer than the 4 blocks"),
    ],
)
def test_bad_mooncake_files_are_refused_by_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(TraceError) as caught:
        list(read_trace(_write(tmp_path, text), "mooncake"))
    assert message in str(caught.value)


def test_a_missing_trace_is_named(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match=r"gone\.csv: No such file"):
        list(read_trace(tmp_path / "gone.csv", "azure"))


def test_speed_limit_and_spread() -> None:
    arrivals = [
        Arrival(at_ns=n * 3_000_000_000, segments=(Segment("own/1", 5),), output_tokens=1)
        for n in (0, 0, 0, 1, 1)
    ]
    quick = scaled(cut(arrivals, 0.0, None, 4), 2.0)
    assert [a.at_ns for a in quick] == [0, 0, 0, 1_500_000_000]
    moved = [a.at_ns for a in spread(arrivals, 3.0, 1)]
    assert moved == sorted(moved)
    assert moved[2] < 3_000_000_000 <= moved[3]
    assert len(set(moved)) == 5


@needs_data
@pytest.mark.parametrize(("name", "count"), [("conv", 19366), ("code", 8819)])
def test_the_azure_traces_are_read_whole(name: str, count: int) -> None:
    arrivals = list(read_trace(DATA / "azure" / f"AzureLLMInferenceTrace_{name}.csv", "azure"))
    assert len(arrivals) == count
    assert 3400 < arrivals[-1].at_ns / 1e9 < 3600


@needs_data
def test_mooncakes_trace_is_read_whole_and_shares_what_it_says() -> None:
    path = DATA / "mooncake" / "mooncake_fast25_synthetic_trace.jsonl"
    arrivals = list(read_trace(path, "mooncake"))
    assert len(arrivals) == 3993
    seen, hits, total = set(), 0, 0
    for arrival in arrivals:
        total += arrival.prompt_tokens
        for segment in arrival.segments:
            if segment not in seen:
                break
            hits += segment.tokens
        seen.update(arrival.segments)
    assert hits / total == pytest.approx(0.651, abs=0.02)
