"""Generated workloads: their statistics, their seeds, their cuts, and what they hold in memory."""

import hashlib
import json
import subprocess
import sys
import tracemalloc
from itertools import chain, islice, pairwise
from statistics import fmean, pstdev
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError
from sim_worlds import source
from splitweave.proto.requests import RequestClass
from splitweave.sim.workloads.arrivals import Arrival, Segment
from splitweave.sim.workloads.lengths import Length, Percentiles, mean_of, value_at
from splitweave.sim.workloads.open_loop import rate_at
from splitweave.sim.workloads.order import cut, merged, scaled
from splitweave.sim.workloads.specs import DiurnalSpec

S = 1_000_000_000
SPECS: list[dict[str, Any]] = [
    {"kind": "poisson", "rate_per_s": 5.0, "requests": 50},
    {"kind": "gamma", "rate_per_s": 5.0, "cv": 4.0, "requests": 50, "prefix_groups": 2}
    | {"shared_prefix_tokens": 30},
    {"kind": "diurnal", "curve": [[0.0, 1.0], [30.0, 9.0]], "period_s": 60.0, "requests": 50},
    {"kind": "batch", "requests": 50, "at_s": 2.0, "within_s": 60.0},
    {"kind": "sessions", "rate_per_s": 5.0, "sessions": 50},
    {"kind": "synthetic", "like": "azure-code", "requests": 50},
    {"kind": "synthetic", "like": "mooncake-conversation", "requests": 50},
]
MIX = {"kind": "mix", "parts": SPECS}
SCRIPT = """
import hashlib, json, sys
from pydantic import TypeAdapter
from splitweave.sim.workloads.source import Source
from splitweave.sim.workloads.specs import WorkloadSpec
spec = TypeAdapter(WorkloadSpec).validate_json(sys.argv[1])
print(hashlib.sha256(repr(list(Source(spec, 7, 9000))).encode()).hexdigest())
"""


def _gaps(arrivals: list[Arrival]) -> list[float]:
    return [(b.at_ns - a.at_ns) / S for a, b in pairwise(arrivals)]


@pytest.mark.parametrize("table", [*SPECS, MIX], ids=lambda table: table["kind"])
@given(seed=st.integers(0, 1000))
@settings(deadline=None, max_examples=15)
def test_a_workload_is_sorted_complete_and_the_same_each_time(
    table: dict[str, Any], seed: int
) -> None:
    whole = source(table, seed)
    arrivals = list(whole)
    assert [a.at_ns for a in arrivals] == sorted(a.at_ns for a in arrivals)
    assert arrivals == list(whole) == list(source(table, seed))
    assert len(arrivals) == (50 if table is not MIX else 50 * len(SPECS))
    assert whole.requests in (None, len(arrivals))
    assert all(a.prompt_tokens >= 1 and a.output_tokens >= 1 for a in arrivals)
    if table["kind"] != "batch":  # of fixed lengths and times: nothing of it is drawn
        assert arrivals != list(source(table, seed + 1))


def test_a_workload_is_the_same_in_another_process_with_another_hash_seed() -> None:
    text = json.dumps(MIX)
    shown = [
        subprocess.run(
            [sys.executable, "-P", "-c", SCRIPT, text],
            capture_output=True, text=True, check=True,
            env={"PYTHONHASHSEED": hash_seed, "PYTHONPATH": ":".join(p for p in sys.path if p)},
        ).stdout.strip()
        for hash_seed in ("1", "2")
    ]  # fmt: skip
    here = hashlib.sha256(repr(list(source(MIX, 7, 9000))).encode()).hexdigest()
    assert shown == [here, here]


@pytest.mark.parametrize("cv", [0.2, 1.0, 3.0])
def test_gamma_gaps_have_their_rate_and_their_variation(cv: float) -> None:
    table = {"kind": "gamma", "rate_per_s": 20.0, "cv": cv, "requests": 20_000}
    gaps = _gaps(list(source(table)))
    assert fmean(gaps) == pytest.approx(0.05, rel=0.08)
    assert pstdev(gaps) / fmean(gaps) == pytest.approx(cv, rel=0.1)


def test_a_diurnal_rate_follows_its_curve_round_the_clock() -> None:
    curve = [[10.0, 2.0], [40.0, 20.0]]
    table = {"kind": "diurnal", "curve": curve, "period_s": 100.0, "until_s": 20_000.0}
    whole = source(table)
    assert isinstance(whole.spec, DiurnalSpec)
    rates = [rate_at(whole.spec, at_s) for at_s in (10, 25, 40, 75, 0, 110, 99.999)]
    assert rates == pytest.approx([2, 11, 20, 11, 4.57, 2, 4.57], abs=0.01)
    counts = [0] * 10
    for arrival in whole:
        counts[arrival.at_ns // S % 100 // 10] += 1
    for tenth, count in enumerate(counts):
        expected = 200 * 10 * fmean(rate_at(whole.spec, 10 * tenth + x) for x in range(1, 10, 2))
        assert count == pytest.approx(expected, rel=0.1)


def test_a_flat_curve_is_a_poisson_process() -> None:
    table = {"kind": "diurnal", "curve": [[0.0, 8.0]], "requests": 8000}
    gaps = _gaps(list(source(table)))
    assert fmean(gaps) == pytest.approx(1 / 8, rel=0.05)
    assert pstdev(gaps) / fmean(gaps) == pytest.approx(1, abs=0.05)


def test_a_batch_comes_at_once_and_is_of_its_class() -> None:
    arrivals = list(source(SPECS[3]))
    assert {a.at_ns for a in arrivals} == {2 * S}
    assert {a.request_class for a in arrivals} == {RequestClass.BATCH}
    assert {a.within_ns for a in arrivals} == {60 * S}
    assert {a.request_class for a in source(SPECS[0])} == {None}  # as [classes] says


def test_parts_of_a_mix_share_no_prefix_and_keep_their_own() -> None:
    part = SPECS[1] | {"cv": 1.0, "requests": 200}
    arrivals = list(source({"kind": "mix", "parts": [part, part]}))
    groups = {a.segments[0].name for a in arrivals}
    assert groups == {"group/0/0", "group/0/1", "group/1/0", "group/1/1"}
    own = [a.segments[-1].name for a in arrivals]
    assert len(set(own)) == 400
    assert all(name.startswith("own/") for name in own)
    assert len({a.at_ns for a in arrivals}) == 400  # each part has dice of its own


def _every_second(count: int) -> list[Arrival]:
    segment = Segment("own/1", 5)
    return [Arrival(at_ns=n * S, segments=(segment,), output_tokens=1) for n in range(count)]


@given(st.integers(0, 30), st.integers(1, 30), st.integers(1, 40))
def test_a_cut_takes_exactly_its_span_and_its_number(begin: int, width: int, number: int) -> None:
    kept = list(cut(_every_second(50), float(begin), float(begin + width), number))
    expected = [second - begin for second in range(begin, min(50, begin + width))][:number]
    assert [a.at_ns for a in kept] == [second * S for second in expected]


def test_a_cut_reads_no_further_than_it_must() -> None:
    read: list[int] = []

    def watched() -> Any:
        for arrival in _every_second(50):
            read.append(arrival.at_ns // S)
            yield arrival

    assert len(list(cut(watched(), 0.0, None, 3))) == 3
    assert read == [0, 1, 2]
    read.clear()
    assert len(list(cut(watched(), 0.0, 3.0, None))) == 3
    assert read == [0, 1, 2, 3]


@given(st.lists(st.integers(0, 10**12), min_size=1), st.floats(0.01, 100))
def test_scaling_divides_every_time_and_changes_nothing_else(
    times: list[int], speedup: float
) -> None:
    arrivals = [
        Arrival(at_ns=at, segments=(Segment(f"own/{at}", 5),), output_tokens=3)
        for at in sorted(times)
    ]
    quick = list(scaled(arrivals, speedup))
    assert [a.at_ns for a in quick] == [round(a.at_ns / speedup) for a in arrivals]
    assert [(a.segments, a.output_tokens) for a in quick] == [
        (a.segments, a.output_tokens) for a in arrivals
    ]


@given(st.lists(st.lists(st.integers(0, 50)), max_size=4))
def test_merging_keeps_order_and_every_arrival(parts: list[list[int]]) -> None:
    streams = [
        [Arrival(at_ns=at, segments=(Segment(f"x/{n}", 1),), output_tokens=1) for n, at in
         enumerate(sorted(times))] for times in parts
    ]  # fmt: skip
    together = list(merged(streams))
    assert [a.at_ns for a in together] == sorted(chain.from_iterable(parts))
    assert len({a.segments for a in together}) == len(together)


@pytest.mark.parametrize("table", [*SPECS[:3], *SPECS[4:]], ids=lambda table: table["kind"])
def test_a_long_workload_lies_never_in_memory(table: dict[str, Any]) -> None:
    count = {"sessions": 20_000} if table["kind"] == "sessions" else {"requests": 20_000}
    whole = source(table | count)
    list(islice(whole, 10))  # what is loaded once
    tracemalloc.start()
    read = sum(1 for _ in whole)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert read == 20_000
    assert peak < 10_000_000  # Mooncake's likeness keeps the blocks of some thousand prompts


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"kind": "poisson", "rate_per_s": 1.0}, "give requests or until_s"),
        ({"kind": "sessions", "rate_per_s": 1.0}, "give sessions or until_s"),
        ({"kind": "synthetic", "like": "azure-code"}, "give requests or until_s"),
        ({"kind": "gamma", "rate_per_s": 1.0, "cv": 0.0, "requests": 1}, "cv"),
        (SPECS[2] | {"curve": []}, "curve"),
        (SPECS[2] | {"curve": [[0.0, 0.0]]}, "curve: every rate is 0"),
        (SPECS[2] | {"curve": [[5.0, 1.0], [4.0, 1.0]]}, "curve: times must rise"),
        (SPECS[2] | {"curve": [[0.0, 1.0], [60.0, 1.0]]}, "below period_s (60)"),
        (SPECS[4] | {"think_s": {"median": 9.0, "p90": 3.0}}, "p90 (3) is below median (9)"),
        ({"kind": "trace", "format": "azure", "path": "x", "speedup": 2.0, "rate_per_s": 1.0},
         "give speedup or rate_per_s, not both"),
        ({"kind": "trace", "format": "azure", "path": "x", "from_s": 9.0, "until_s": 5.0},
         "until_s (5) must exceed from_s (9)"),
        ({"kind": "mix", "parts": []}, "parts"),
    ],
)  # fmt: skip
def test_what_cannot_be_generated_is_refused(table: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        source(table)
    assert message in str(caught.value)


def test_percentiles_are_drawn_as_given() -> None:
    points = [(0.0, 10.0), (50.0, 100.0), (90.0, 100.0), (100.0, 10_000.0)]
    shown = [value_at(points, percent) for percent in (0, 25, 50, 70, 95, 99.99)]
    assert shown == pytest.approx([10, 31.6, 100, 100, 1000, 9954], rel=1e-2)
    length = {"kind": "percentiles", "at": points}
    table = {"kind": "poisson", "rate_per_s": 1.0, "requests": 20_000, "prompt": length}
    drawn = sorted(a.prompt_tokens for a in source(table))
    assert drawn[0] == 10
    assert Percentiles(kind="percentiles", at=points).max_tokens == 10_000
    assert [drawn[5000], drawn[10_000], drawn[19_000]] == pytest.approx([31.6, 100, 1000], rel=0.1)
    assert fmean(drawn) == pytest.approx(mean_of(points), rel=0.05)


@pytest.mark.parametrize(
    ("at", "message"),
    [
        ([[0.0, 1.0]], "at least 2"),
        ([[1.0, 1.0], [100.0, 2.0]], "goes from 1 to 100 %, not from 0 to 100"),
        ([[0.0, 0.5], [100.0, 2.0]], "begins at 0.5, below 1"),
        ([[0.0, 5.0], [100.0, 2.0]], "unsorted"),
    ],
)
def test_percentiles_that_are_none_are_refused(at: Any, message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(Length).validate_json(json.dumps({"kind": "percentiles", "at": at}))
    assert message in str(caught.value)
