"""Plans of faults: every kind comes up, within its bounds, independent of what came before."""

from collections import Counter
from dataclasses import replace
from itertools import pairwise
from typing import Any, get_args

import pytest
from sim_worlds import EXAMPLES, poisson, scenario
from splitweave.proto.ids import GatewayId, WorkerId
from splitweave.proto.views import Role
from splitweave.sim import faults
from splitweave.sim.faults import Crash, Deed, Fault, HangUp
from splitweave.sim.metrics import measure
from splitweave.sim.plan import STAGES, TROUBLED_KINDS, draw_plan
from splitweave.sim.run import simulate
from splitweave.sim.scenario import FaultSpec, load_scenario

S = 1_000_000_000
WORKERS = [WorkerId(f"w{n}") for n in range(4)]
SPEC = replace(
    load_scenario(EXAMPLES / "faults.toml").faults,
    stage_faults=6,
    partitions=2,
    kind_losses=3,
    full_memories=1,
    late_letters=2,
    host_troubles=1,
)
KINDS = {
    "crashes": faults.Crash,
    "freezes": faults.Freeze,
    "message_troubles": faults.MessageTrouble,
    "cuts": faults.Cut,
    "slow_links": faults.SlowLink,
    "copy_troubles": faults.CopyTrouble,
    "stuck_transports": faults.StuckTransport,
    "controller_restarts": faults.ControllerRestart,
    "gateway_crashes": faults.GatewayCrash,
    "migrations": faults.Migrate,
    "drains": faults.Drain,
    "role_switches": faults.SwitchRole,
    "stage_faults": faults.StageFault,
    "partitions": faults.CutPair,
    "kind_losses": faults.MessageTrouble,
    "full_memories": faults.FullMemory,
    "late_letters": faults.LateLetter,
    "host_troubles": faults.HostTrouble,
}


def _plans(spec: FaultSpec, seeds: int = 100, arrivals: int = 0) -> list[Fault]:
    times = [n * S // 8 for n in range(arrivals)]
    return [fault for seed in range(seeds) for fault in draw_plan(spec, seed, WORKERS, times)]


def test_every_kind_of_fault_comes_up_in_the_example() -> None:
    seen = {type(fault) for fault in _plans(SPEC, seeds=30, arrivals=32)}
    assert seen == set(get_args(Fault)) == {*KINDS.values(), HangUp}


@pytest.mark.parametrize("key", KINDS)
def test_a_count_is_of_its_own_kind_alone_and_draws_up_to_it(key: str) -> None:
    spec = replace(FaultSpec(until_s=2.0), **{key: 2})
    counts = Counter()
    for seed in range(40):
        plan = draw_plan(spec, seed, WORKERS, [])
        assert all(type(fault) is KINDS[key] for fault in plan)
        counts[len(plan)] += 1
    assert set(counts) == {0, 1, 2}


def test_every_fault_begins_before_the_heal_and_lasts_seconds_at_most() -> None:
    longest: dict[str, int] = {}
    for fault in _plans(SPEC):
        assert 0 <= fault.at_ns <= SPEC.until_s * S
        for name in ("for_ns", "down_ns", "noticed_ns", "killed_ns"):
            value = getattr(fault, name, None)
            if value is not None:
                assert value >= 0
                longest[name] = max(longest.get(name, 0), value)
    assert longest["for_ns"] <= max(SPEC.freeze_s_max, 3.0) * S
    assert longest["down_ns"] <= 3 * S
    assert longest["noticed_ns"] <= S
    assert longest["killed_ns"] <= 2 * S


def test_the_strength_of_a_fault_keeps_to_its_spec() -> None:
    drawn = _plans(SPEC)
    messages = [f.trouble for f in drawn if isinstance(f, faults.MessageTrouble)]
    troubles = [trouble for trouble in messages if not trouble.kinds]
    assert 0.5 * SPEC.message_loss < max(t.loss for t in troubles) <= SPEC.message_loss
    assert max(t.duplicate for t in troubles) <= SPEC.message_duplicate
    assert max(t.delay_ns_max for t in troubles) <= SPEC.message_delay_s * S
    assert all(10 <= f.factor <= 10_000 for f in drawn if isinstance(f, faults.SlowLink))
    copies = [f for f in drawn if isinstance(f, faults.CopyTrouble)]
    assert all(0 <= f.fail + f.damage <= 1 for f in copies)


def test_every_worker_every_party_and_every_role_has_its_turn() -> None:
    drawn = _plans(SPEC)
    assert {f.worker_id for f in drawn if isinstance(f, faults.Crash)} == set(WORKERS)
    cut = {f.party for f in drawn if isinstance(f, faults.Cut)}
    assert cut == {"controller", "gateway.0", *WORKERS}
    assert {f.role for f in drawn if isinstance(f, faults.SwitchRole)} == set(Role)
    targets = {f.target for f in drawn if isinstance(f, faults.Migrate)}
    assert targets == {None, *WORKERS}
    killed = {f.killed_ns is None for f in drawn if isinstance(f, faults.Freeze)}
    assert killed == {True, False}


def test_clients_hang_up_at_the_given_share_within_two_seconds_of_asking() -> None:
    times = [n * S for n in range(2000)]
    plan: list[Any] = draw_plan(FaultSpec(cancels=0.3), 1, WORKERS, times)
    assert 500 < len(plan) < 700
    assert all(0 <= f.at_ns - times[f.index] <= 2 * S for f in plan)
    assert len({f.index for f in plan}) == len(plan)
    assert len(draw_plan(FaultSpec(cancels=1.0), 1, WORKERS, times)) == 2000


def test_stage_faults_wait_for_every_half_with_every_deed_on_either_side() -> None:
    drawn = [f for f in _plans(SPEC, seeds=300) if isinstance(f, faults.StageFault)]
    assert {f.half for f in drawn} == set(STAGES)
    assert {f.deed for f in drawn} == set(Deed)
    assert {f.peer for f in drawn} == {True, False}
    assert any(f.delay_ns == 0 for f in drawn)


def test_some_losses_are_of_a_few_types_only() -> None:
    drawn = [f.trouble for f in _plans(SPEC) if isinstance(f, faults.MessageTrouble)]
    kinds = [trouble.kinds for trouble in drawn if trouble.kinds]
    assert {len(listed) for listed in kinds} == {1, 2, 3}
    assert {kind for listed in kinds for kind in listed} == set(TROUBLED_KINDS)


def test_partitions_have_two_ends_often_both_workers() -> None:
    drawn = [f for f in _plans(SPEC) if isinstance(f, faults.CutPair)]
    assert all(f.source != f.target for f in drawn)
    workers = [{f.source, f.target} <= set(WORKERS) for f in drawn]
    assert 0.4 < sum(workers) / len(workers) < 0.95


def test_every_gateway_of_a_cluster_may_crash() -> None:
    gateways = [GatewayId("gateway.0"), GatewayId("gateway.1")]
    spec = FaultSpec(until_s=1.0, gateway_crashes=2)
    plans = [fault for seed in range(20) for fault in draw_plan(spec, seed, WORKERS, [], gateways)]
    assert {f.gateway_id for f in plans if isinstance(f, faults.GatewayCrash)} == set(gateways)


def test_workers_fail_as_often_as_their_mtbf_says_and_come_back_after_their_start() -> None:
    spec = FaultSpec(until_s=100_000.0, mtbf_s=1000.0, restart_s=60.0)
    plan = draw_plan(spec, 1, WORKERS, [])
    assert all(isinstance(fault, Crash) and fault.down_ns == 60 * S for fault in plan)
    expected = len(WORKERS) * 100_000 / 1060
    assert len(plan) == pytest.approx(expected, rel=0.15)
    for worker_id in WORKERS:
        times = [fault.at_ns for fault in plan if fault.worker_id == worker_id]  # type: ignore[union-attr]
        assert all(later - sooner > 60 * S for sooner, later in pairwise(times))


def test_a_fleet_whose_workers_fail_serves_everybody_more_slowly() -> None:
    load = poisson(10, 100, 40, 20)
    calm = simulate(scenario(workload=load))
    faults = {"until_s": 10.0, "mtbf_s": 4.0, "restart_s": 2.0}
    failing = simulate(scenario(workload=load, faults=faults))
    assert measure(failing).completed == measure(calm).completed == 100
    slow, quick = measure(failing).e2e, measure(calm).e2e
    assert slow is not None
    assert quick is not None
    assert slow.p90_s > 2 * quick.p90_s
