"""Fault plans, and what they do to a world."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from splitweave.proto.ids import RequestId, WorkerId
from splitweave.proto.views import Role
from splitweave.sim.cores import CoreBuilder
from splitweave.sim.errors import InvariantBroken
from splitweave.sim.faults import HangUp
from splitweave.sim.invariants import check_view
from splitweave.sim.leftovers import leftovers
from splitweave.sim.plan import draw_plan
from splitweave.sim.run import Run, arrivals_of, simulate
from splitweave.sim.scenario import FaultSpec, Scenario, load_scenario
from splitweave.sim.world import Watching, World, queue_world

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
WORKERS = [WorkerId("w0"), WorkerId("w1")]
S = 1_000_000_000


def _calm() -> Scenario:
    scenario = load_scenario(EXAMPLES / "faults.toml")
    return replace(scenario, faults=FaultSpec(), checked=True)


def _world(scenario: Scenario) -> tuple[World, Run, Any]:
    world = queue_world(scenario, CoreBuilder(scenario), Watching(checked=True))
    return world, Run(world, arrivals_of(scenario)), world.scheduler


def _running(world: World, queue: Any) -> Any:
    """Some stream that has begun and not ended; time goes on until there is one."""
    while True:
        queue.run_until(queue.now_ns + S // 100)
        for stream in world.clients.streams.values():
            if stream.tokens and not stream.ended and stream.max_tokens - stream.tokens > 10:
                return stream


def test_a_plan_is_drawn_from_its_seed_in_order_of_time() -> None:
    spec = load_scenario(EXAMPLES / "faults.toml").faults
    plans = [draw_plan(spec, seed, WORKERS, [0, S, 2 * S]) for seed in (1, 1, 2)]
    assert plans[0] == plans[1] != plans[2]
    times = [fault.at_ns for fault in plans[0]]
    assert times == sorted(times)
    assert all(0 <= f.at_ns <= 6 * S for f in plans[0] if not isinstance(f, HangUp))


def test_counts_are_the_most_of_a_kind() -> None:
    spec = FaultSpec(until_s=1.0, crashes=3)
    counts = {len(draw_plan(spec, seed, WORKERS, [])) for seed in range(60)}
    assert counts == {0, 1, 2, 3}


def test_no_faults_is_an_empty_plan() -> None:
    assert draw_plan(FaultSpec(), 1, WORKERS, [0] * 50) == []


def test_a_quiet_run_leaves_nothing_and_loses_nothing() -> None:
    outcome = simulate(_calm())
    assert leftovers(outcome.world) == []
    assert all(stream.finish for stream in outcome.world.clients.streams.values())


def test_a_killed_worker_comes_back_as_the_next_life_and_all_streams_end() -> None:
    world, run, queue = _world(_calm())
    queue.run_until(1 * S)
    world.kill_worker(WorkerId("decode-0"), S // 10)
    assert WorkerId("decode-0") not in world.mail.workers
    queue.run_until(2 * S)
    world.start_worker(WorkerId("decode-0"))
    assert world.mail.workers[WorkerId("decode-0")].key.incarnation == 2
    queue.run_until(60 * S)
    run.judge_end()


def test_a_worker_whose_next_life_hangs_while_it_loads_is_started_again() -> None:
    calm = _calm()
    limits = replace(calm.limits, cluster={**calm.limits.cluster, "load_ns_max": 3 * S})
    world, run, queue = _world(replace(calm, limits=limits))
    queue.run_until(1 * S)
    world.kill_worker(WorkerId("decode-0"), S // 10)
    queue.run_until(4 * S)
    assert WorkerId("decode-0") not in world.mail.workers
    queue.run_until(6 * S)
    assert world.mail.workers[WorkerId("decode-0")].key.incarnation == 2
    queue.run_until(60 * S)
    run.judge_end()


def test_a_frozen_worker_says_nothing_until_it_thaws() -> None:
    world, run, queue = _world(_calm())
    queue.run_until(1 * S)
    party = world.mail.workers[WorkerId("decode-1")]
    world.freeze_worker(WorkerId("decode-1"))
    before = party.engine.iterations
    queue.run_until(int(1.5 * S))
    assert party.engine.iterations == before
    world.thaw_worker(party.key)
    queue.run_until(60 * S)
    run.judge_end()


def test_running_streams_do_not_notice_a_dead_controller() -> None:
    world, run, queue = _world(_calm())
    stream = _running(world, queue)
    world.kill_controller()
    tokens = stream.tokens
    queue.run_until(queue.now_ns + S // 10)
    assert stream.tokens > tokens
    world.start_controller(None)
    queue.run_until(60 * S)
    run.judge_end()


def test_a_client_that_hangs_up_ends_its_stream_and_frees_its_blocks() -> None:
    world, run, queue = _world(_calm())
    stream = _running(world, queue)
    world.hang_up(stream.request_id)
    assert stream.ended
    queue.run_until(queue.now_ns + S // 10)
    held = [view.request_id for party in world.mail.workers.values()
            for view in party.core.view(queue.now_ns).requests]  # fmt: skip
    assert stream.request_id not in held
    world.hang_up(stream.request_id)
    world.hang_up(RequestId("nobody"))
    queue.run_until(60 * S)
    run.judge_end()


def test_a_stream_that_never_ends_is_noticed() -> None:
    scenario = replace(_calm(), end_within_s=0.5)
    scenario = replace(
        scenario, pools=[replace(pool, role=Role.MIXED, blocks=48) for pool in scenario.pools]
    )

    class Deaf(CoreBuilder):
        def worker(self, info: Any) -> Any:
            core = super().worker(info)
            core.step = lambda event, now_ns: []  # type: ignore[method-assign]
            return core

    with pytest.raises(InvariantBroken, match=r"streams did not end within 0\.5 s: r"):
        simulate(scenario, builder=Deaf(scenario))


def test_blocks_that_do_not_add_up_are_noticed() -> None:
    world, _, queue = _world(_calm())
    queue.run_until(S)
    view = world.mail.workers[WorkerId("decode-0")].core.view(queue.now_ns)
    check_view(view)
    with pytest.raises(InvariantBroken, match="decode-0#1: free"):
        check_view(replace(view, blocks_free=view.blocks_free + 1))


def test_an_operators_drain_is_answered_and_the_worker_replaced() -> None:
    scenario = _calm()
    faults = replace(scenario.faults, until_s=4.0, drains=4)
    for seed in range(20):
        outcome = simulate(replace(scenario, faults=faults, seed=seed))
        if outcome.world.retired:
            break
    assert outcome.world.retired
    assert len(outcome.world.answers) == len(outcome.plan)
