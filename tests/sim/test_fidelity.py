"""The fidelity benchmark's own parts; and, where the data lies, what it claims of vLLM."""

from dataclasses import replace
from pathlib import Path

import pytest
from splitweave.benchmarks.truths.closed_loop import ClosedLoop, Load
from splitweave.benchmarks.truths.comparison import compare, statistics
from splitweave.benchmarks.truths.folders import data_folder
from splitweave.benchmarks.truths.silicon import (
    Engine,
    Point,
    errors,
    fit,
    halves,
    loss,
    predict,
    read_points,
)
from splitweave.benchmarks.truths.vllm_run import read_run, replay
from splitweave.sim.costs.catalogue import load_catalogue
from splitweave.sim.costs.decoder import Decoder
from splitweave.sim.costs.device import DeviceRoofline
from splitweave.sim.costs.efficiency import Efficiency
from splitweave.sim.costs.parallel import Parallel
from splitweave.sim.costs.work import Prefill, Work

DATA = data_folder()
with_data = pytest.mark.skipif(DATA is None, reason="shared/data is not beside the repository")
LLAMA_8B = Decoder(
    layers=32, hidden=4096, heads=32, kv_heads=8, head_dim=128, ffn=14336, vocab=128256
)
COST = DeviceRoofline(LLAMA_8B, load_catalogue().device("H100"), Parallel(), Efficiency())
START = Engine(efficiency=Efficiency(gemm=0.5, host_us=300))


def load(**given: int) -> Load:
    plain = {
        "concurrency": 1, "prompt_tokens": 100, "output_tokens": 5, "kv_tokens": 10_000,
        "batched_tokens_max": 8192, "rounds": 1,
    }  # fmt: skip
    return Load(**(plain | given))


def seconds(work: Work) -> float:
    return COST.work_ns(work) / 1e9


def point(**given: object) -> Point:
    plain = {
        "engine": "vllm", "model": "Qwen/Qwen3-32B", "system": "h100_sxm", "tp": 2, "fp8": False,
        "prompt_tokens": 256, "output_tokens": 16, "concurrency": 4, "ttft_s": 1.0, "tpot_s": 1.0,
    }  # fmt: skip
    return Point(**(plain | given))  # type: ignore[arg-type]


def test_one_client_waits_for_its_prefill_and_then_for_each_decode() -> None:
    said = ClosedLoop(COST, load()).run()
    assert said.ttft_s == pytest.approx(seconds(Work((Prefill(100, 0),), draws=1)))
    by_hand = [Work((), 1, 101 + n, 101 + n, 1) for n in range(4)]
    assert said.tpot_s == pytest.approx(sum(map(seconds, by_hand)) / 4, rel=1e-3)


def test_a_prompt_beyond_the_budget_takes_several_iterations() -> None:
    said = ClosedLoop(COST, load(batched_tokens_max=60)).run()
    parts = [Work((Prefill(60, 0),)), Work((Prefill(40, 60),), draws=1)]
    assert said.ttft_s == pytest.approx(sum(map(seconds, parts)))


def test_those_that_memory_has_no_room_for_wait_for_an_end() -> None:
    free, full = (
        ClosedLoop(COST, load(concurrency=8, rounds=3, kv_tokens=tokens)).run()
        for tokens in (10_000, 300)
    )
    assert full.ttft_s > 2 * free.ttft_s
    assert full.tpot_s < free.tpot_s


def test_later_rounds_are_spread_so_they_wait_less_than_the_burst() -> None:
    loads = [
        load(concurrency=16, batched_tokens_max=100, output_tokens=40, rounds=n) for n in (1, 6)
    ]
    once, often = (ClosedLoop(COST, given).run() for given in loads)
    assert often.ttft_s < once.ttft_s


def test_statistics_are_nearest_rank() -> None:
    found = statistics([float(n) for n in range(1, 101)])
    assert found == {"mean": 50.5, "p50": 50, "p90": 90, "p99": 99}


def test_a_line_holds_within_its_own_bound() -> None:
    recorded, simulated = {"E2E": [1.0, 2.0, 3.0]}, {"E2E": [1.04, 2.08, 3.12]}
    lines = compare(recorded, simulated, {"E2E": 0.05, "E2E mean": 0.025})
    assert {line.statistic: line.holds for line in lines} == {
        "mean": False, "p50": True, "p90": True, "p99": True,
    }  # fmt: skip
    assert lines[0].error == pytest.approx(0.04)


def test_similar_points_are_never_on_both_sides() -> None:
    points = [point(tp=tp, concurrency=n) for tp in (1, 2, 4, 8) for n in (1, 2, 3)]
    fitted, held = halves(points)
    assert {p.group for p in fitted}.isdisjoint(p.group for p in held)
    assert len(fitted) + len(held) == len(points)


def test_fitting_finds_its_way_back_to_known_factors() -> None:
    truth = Engine(efficiency=Efficiency(gemm=0.62, host_us=800))
    blank = [point(concurrency=n, prompt_tokens=t) for n in (1, 8) for t in (128, 2048)]
    points = []
    for one in blank:
        said = predict(one, truth)
        points.append(point(**(vars(one) | {"ttft_s": said.ttft_s, "tpot_s": said.tpot_s})))
    assert errors(points, truth).tpot == pytest.approx(0)
    found = fit(points, START, sweeps=2)
    assert loss(points, found) < 0.4 * loss(points, START)


@with_data
def test_the_silicon_points_are_read() -> None:
    assert DATA is not None
    points = read_points(DATA / "silicon" / "sample.csv")
    engines = {p.engine for p in points}
    assert engines == {"trtllm", "vllm"}
    assert len(points) == 294


@with_data
def test_a_recorded_vllm_run_is_read_and_replayed_as_it_was_served() -> None:
    assert DATA is not None
    run = read_run(DATA / "vllm_runs" / "RTXPRO6000-Llama-3.1-8B")
    assert (len(run.requests), run.sequences_max, run.skew) == (300, 128, True)
    few = replace(run, requests=run.requests[1:6])
    outcome, simulated = replay(few, 0.0)
    assert outcome.scenario.pools[0].blocks == run.blocks
    for said, was in zip(simulated["TTFT"], few.recorded()["TTFT"], strict=True):
        assert 0 < said < was  # they had the first request's decoding beside them
    lengths = [s.prompt_tokens for s in outcome.world.clients.streams.values()]
    assert lengths == [request.prompt_tokens for request in few.requests]


def test_without_data_there_is_no_folder(tmp_path: Path) -> None:
    assert data_folder(tmp_path / "nowhere") is None
    assert data_folder(tmp_path) == tmp_path
