"""The fidelity benchmark's own parts; and, where the data lies, what it claims of vLLM."""

from dataclasses import replace
from pathlib import Path

import pytest
from splitweave.benchmarks.truths.closed_loop import ClosedLoop, Front, Load
from splitweave.benchmarks.truths.comparison import compare, statistics
from splitweave.benchmarks.truths.fitting import choices, errors, fit, loss, settle
from splitweave.benchmarks.truths.folders import data_folder
from splitweave.benchmarks.truths.scatter import draw
from splitweave.benchmarks.truths.silicon import (
    Engine,
    Point,
    halves,
    predict,
    read_points,
    within_reach,
)
from splitweave.benchmarks.truths.silicon_check import ENGINES
from splitweave.benchmarks.truths.split_point import predict_split, read_split_points
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


def test_a_prompts_way_to_the_engine_is_in_its_ttft() -> None:
    front = Front(turn_s=0.01, front_s=0.004)
    near, far = (ClosedLoop(COST, load(), around).run() for around in (None, front))
    assert far.ttft_s == pytest.approx(near.ttft_s + 0.014)
    assert far.tpot_s == pytest.approx(near.tpot_s)


def test_the_front_end_takes_one_request_at_a_time() -> None:
    front = Front(front_s=1.0)  # each has long left when the next comes
    said = ClosedLoop(COST, load(concurrency=4, output_tokens=2), front).run()
    alone = seconds(Work((Prefill(100, 0),), draws=1))
    assert said.ttft_s == pytest.approx((1 + 2 + 3 + 4) / 4 + alone, rel=1e-6)


def test_who_comes_during_an_iteration_waits_for_its_end() -> None:
    alone = seconds(Work((Prefill(100, 0),), draws=1))
    beside = seconds(Work((Prefill(100, 0),), 1, 101, 100, 2))
    late_s = 0.9 * alone  # the second prompt comes while the first one is computed
    said = ClosedLoop(COST, load(concurrency=2, output_tokens=50), Front(front_s=late_s)).run()
    waits = (late_s + alone, late_s + alone + beside)
    assert said.ttft_s == pytest.approx(sum(waits) / 2, rel=1e-3)


def test_an_iteration_that_is_settled_ahead_costs_who_comes_another_wait() -> None:
    given = load(concurrency=8, rounds=4, output_tokens=20)
    now, ahead = (
        ClosedLoop(COST, given, Front(turn_s=0.002, front_s=0.001, ahead=n)).run() for n in (0, 1)
    )
    assert ahead.ttft_s > now.ttft_s


def test_a_warm_run_does_not_count_its_first_burst() -> None:
    given = load(concurrency=32, rounds=3, output_tokens=40, batched_tokens_max=200)
    cold, warm = (ClosedLoop(COST, given, Front(warm=value)).run() for value in (False, True))
    assert warm.ttft_s < cold.ttft_s


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
    points = [
        point(tp=tp, concurrency=n, prompt_tokens=length)
        for tp in (1, 2, 4, 8)
        for n in (1, 2, 3)
        for length in (128, 256, 1024)
    ]
    assert halves(points) == halves(points)
    assert all(halves(points))
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


def test_settings_are_chosen_by_what_fits() -> None:
    truth = Engine(efficiency=START.efficiency, batched_tokens_max=256, front_us=900.0)
    points = []
    for one in (point(concurrency=n, prompt_tokens=t) for n in (2, 16) for t in (300, 1500)):
        said = predict(one, truth)
        points.append(point(**(vars(one) | {"ttft_s": said.ttft_s, "tpot_s": said.tpot_s})))
    engines = [replace(truth, batched_tokens_max=n, front_us=600.0) for n in (256, 4096)]
    assert settle(points, engines).batched_tokens_max == 256
    assert len({(e.ahead, e.batched_tokens_max, e.warm) for e in choices()}) == len(choices())


def test_points_that_the_peak_forbids_are_set_aside_with_their_like() -> None:
    slow, quick = {"ttft_s": 1.0, "tpot_s": 0.05}, {"ttft_s": 1e-4, "tpot_s": 1e-5}
    points = [
        point(**slow),
        point(system="h200_sxm", **slow),
        point(system="h200_sxm", concurrency=64, **quick),
    ]
    inside, beyond = within_reach(points)
    assert inside == points[:1]
    assert beyond == points[1:]
    assert beyond[1].peak_share > 1


@with_data
def test_held_back_silicon_points_are_predicted_within_what_was_asked() -> None:
    assert DATA is not None
    points, beyond = within_reach(read_points(DATA / "silicon" / "sample.csv"))
    models = {(p.model, p.system) for p in beyond}
    assert models == {("nvidia/Llama-3.1-8B-Instruct-FP8", "h200_sxm")}
    for name, engine in ENGINES.items():
        held = halves([point for point in points if point.engine == name])[1]
        off = errors(held, engine)
        assert off.ttft <= 0.20
        assert off.tpot <= 0.10


@with_data
def test_the_one_disaggregated_point_is_read_and_said_something_of() -> None:
    assert DATA is not None
    (one,) = read_split_points(DATA / "silicon" / "sample.csv")
    assert (one.engine, one.prefill_tp, one.decode_tp, one.batch) == ("vllm", 1, 4, 224)
    ttft_s, tpot_s = predict_split(one, ENGINES["vllm"])
    assert 0.1 < ttft_s < 1
    assert 0.005 < tpot_s < 0.05


def test_a_run_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / "pictures" / "run.svg"
    times = {"TTFT": [0.1, 0.2], "TPOT": [0.01, 0.02], "E2E": [1.0, 2.0]}
    draw(path, "a run", times, times)
    assert "<svg" in path.read_text()


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
