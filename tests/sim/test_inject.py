"""Each fault of a plan happens to the world when it should, and ends when it should."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from sim_worlds import EXAMPLES, world_of
from splitweave.proto.ids import GatewayId, WorkerId
from splitweave.proto.views import Role
from splitweave.sim import faults
from splitweave.sim.inject import Injector
from splitweave.sim.network import Trouble
from splitweave.sim.scenario import FaultSpec, load_scenario
from splitweave.sim.world import FENCED_DOWN_NS, World

S = 1_000_000_000
MS = 1_000_000
DECODE, PREFILL = WorkerId("decode-0"), WorkerId("prefill-0")
GATEWAY = GatewayId("gateway.0")
TROUBLE = Trouble(loss=0.1, duplicate=0.1, delay_ns_max=1000)


class Hurt:
    """A world with a plan; `at` moves time."""

    def __init__(self, *plan: Any) -> None:
        calm = replace(load_scenario(EXAMPLES / "faults.toml"), faults=FaultSpec())
        self.world, self.run, self.queue = world_of(calm)
        self.injector = Injector(self.world, list(plan))

    def at(self, s: float) -> World:
        self.queue.run_until(int(s * S))
        return self.world

    def finish(self) -> None:
        """All streams end as promised."""
        self.at(60)
        self.run.judge_end()


def _incarnation(world: World, worker_id: WorkerId = DECODE) -> int | None:
    party = world.mail.workers.get(worker_id)
    return None if party is None else party.key.incarnation


def test_a_crashed_worker_is_down_for_its_time_and_comes_back_as_its_next_life() -> None:
    hurt = Hurt(faults.Crash(at_ns=S, worker_id=DECODE, noticed_ns=MS, down_ns=S // 2))
    lives = [_incarnation(hurt.at(s)) for s in (0.999, 1.0, 1.499, 1.5)]
    assert lives == [1, None, None, 2]
    hurt.finish()


def test_a_frozen_worker_computes_nothing_until_its_thaw_and_keeps_its_life() -> None:
    freeze = faults.Freeze(at_ns=S, worker_id=DECODE, for_ns=S // 2, killed_ns=None)
    hurt = Hurt(freeze)
    engine = hurt.at(1.02).mail.workers[DECODE].engine
    before = engine.iterations
    hurt.at(1.499)
    assert engine.iterations == before
    hurt.at(1.7)
    assert engine.iterations > before
    assert _incarnation(hurt.at(4)) == 1
    hurt.finish()


def test_a_frozen_worker_may_be_killed_soon_after_its_thaw() -> None:
    freeze = faults.Freeze(at_ns=S, worker_id=DECODE, for_ns=S // 2, killed_ns=S // 4)
    hurt = Hurt(freeze)
    assert [_incarnation(hurt.at(s)) for s in (1.74, 1.75, 2.25)] == [1, None, 2]
    hurt.finish()


def test_a_worker_whose_transport_is_stuck_ends_itself_and_comes_back_as_its_next_life() -> None:
    hurt = Hurt(faults.StuckTransport(at_ns=S, worker_id=DECODE))
    assert [_incarnation(hurt.at(s)) for s in (0.999, 1.0, 1.499, 1.5)] == [1, None, None, 2]
    hurt.finish()


def test_a_freeze_of_a_dead_worker_does_not_touch_its_next_life() -> None:
    crash = faults.Crash(at_ns=S, worker_id=DECODE, noticed_ns=MS, down_ns=S)
    freeze = faults.Freeze(at_ns=S + MS, worker_id=DECODE, for_ns=S, killed_ns=2 * S)
    assert _incarnation(Hurt(crash, freeze).at(6)) == 2


def test_message_troubles_and_cuts_last_their_time() -> None:
    hurt = Hurt(
        faults.MessageTrouble(at_ns=S, for_ns=S, trouble=TROUBLE),
        faults.MessageTrouble(at_ns=S + MS, for_ns=2 * S, trouble=replace(TROUBLE, loss=0.2)),
        faults.Cut(at_ns=S, for_ns=S // 2, party=DECODE),
    )
    network = hurt.world.mail.network
    seen = [
        (sum(t.loss for t in network._troubles), list(network._cut))
        for s in (0.9, 1.1, 1.6, 2.1, 3.1)
        if hurt.at(s)
    ]
    both = pytest.approx(0.3)
    assert seen == [(0, []), (both, [DECODE]), (both, []), (0.2, []), (0, [])]
    hurt.finish()


def test_slow_and_bad_links_last_their_time() -> None:
    hurt = Hurt(
        faults.SlowLink(at_ns=S, for_ns=S, worker_id=DECODE, factor=100.0),
        faults.CopyTrouble(at_ns=S, for_ns=S // 2, fail=0.25, damage=0.5),
    )
    links, base_ns = hurt.world.links, hurt.world.links.pass_ns(PREFILL, DECODE, 1000)
    seen = [
        (links.pass_ns(PREFILL, DECODE, 1000) // base_ns, [t.fail for t in links._troubles])
        for s in (0.9, 1.1, 1.6, 2.1)
        if hurt.at(s)
    ]
    assert seen == [(1, []), (100, [0.25]), (100, []), (1, [])]
    hurt.finish()


def test_a_restarted_controller_is_another_one_that_finds_out_who_lives() -> None:
    hurt = Hurt(faults.ControllerRestart(at_ns=S, down_ns=S // 2))
    first = hurt.at(0.9).mail.controller
    assert hurt.at(1.4).mail.controller is None
    second = hurt.at(2.5).mail.controller
    assert second is not first
    assert second is not None
    workers = second.core.status(hurt.queue.now_ns).workers
    assert {w.worker_id for w in workers} == set(hurt.world.worker_ids)
    hurt.finish()


def test_the_clients_of_a_dead_gateway_go_on_at_the_next_one() -> None:
    crash = faults.GatewayCrash(at_ns=S, gateway_id=GATEWAY, noticed_ns=MS, down_ns=2 * S)
    hurt = Hurt(crash)
    streams = hurt.at(0.999).clients.streams.values()
    theirs = [s for s in streams if s.gateway_id == GATEWAY and not s.ended]
    assert theirs
    assert GATEWAY not in hurt.at(1.4).mail.gateways
    assert {s.gateway_id for s in theirs} == {GatewayId("gateway.1")}
    assert GATEWAY in hurt.at(3.01).mail.gateways
    hurt.finish()
    assert all(s.finish for s in theirs)


def test_operators_asks_are_all_answered() -> None:
    hurt = Hurt(
        faults.Migrate(at_ns=S, pick=3, target=DECODE),
        faults.Migrate(at_ns=S // 100, pick=3, target=None),
        faults.SwitchRole(at_ns=S, worker_id=WorkerId("decode-1"), role=Role.MIXED),
        faults.Drain(at_ns=S, worker_id=WorkerId("decode-2")),
    )
    hurt.finish()
    answers = hurt.world.answers
    assert sorted(answers) == [f"gateway.0/{n}" for n in (1, 2, 3, 4)]
    assert "unknown" in answers["gateway.0/1"].error  # nobody ran yet
    assert hurt.world.retired == 1
    assert hurt.world.mail.workers[WorkerId("decode-1")].core.view(0).role is Role.MIXED


def test_clients_hang_up_when_the_plan_says_even_after_the_heal() -> None:
    times = [2 * S + n * S // 10 for n in range(10)]
    hurt = Hurt(*[faults.HangUp(at_ns=at_ns, index=n) for n in range(32) for at_ns in times])
    hurt.at(1.5)
    hurt.injector.heal()
    hurt.finish()
    streams = hurt.world.clients.streams.values()
    assert sum(s.hung_up for s in streams) > 3
    for stream in streams:  # whoever was there at one of the times is gone
        end_ns = stream.last_ns if stream.last_ns is not None else stream.asked_ns
        met = any(stream.asked_ns < at_ns < end_ns for at_ns in times)
        assert stream.hung_up or not met


def test_the_heal_ends_all_that_is_and_voids_all_that_was_to_come() -> None:
    long_ns = 30 * S
    hurt = Hurt(
        faults.Freeze(at_ns=S, worker_id=WorkerId("decode-1"), for_ns=long_ns, killed_ns=None),
        faults.Crash(at_ns=S, worker_id=DECODE, noticed_ns=MS, down_ns=long_ns),
        faults.Cut(at_ns=S, for_ns=long_ns, party="controller"),
        faults.MessageTrouble(at_ns=S, for_ns=long_ns, trouble=TROUBLE),
        faults.SlowLink(at_ns=S, for_ns=long_ns, worker_id=PREFILL, factor=1e4),
        faults.CopyTrouble(at_ns=S, for_ns=long_ns, fail=1.0, damage=0.0),
        faults.GatewayCrash(at_ns=S, gateway_id=GATEWAY, noticed_ns=MS, down_ns=long_ns),
        faults.ControllerRestart(at_ns=S, down_ns=long_ns),
        faults.Crash(at_ns=3 * S, worker_id=PREFILL, noticed_ns=MS, down_ns=long_ns),
    )
    world = hurt.at(2)
    assert world.mail.controller is None
    hurt.injector.heal()
    network, links = world.mail.network, world.links
    assert (network._troubles, network._cut) == ([], {})
    assert (links._slowdowns, links._troubles) == ({}, [])
    assert set(world.mail.workers) == set(world.worker_ids)
    assert set(world.mail.gateways) == set(world.gateway_ids)
    assert not any(party.shell._frozen for party in world.mail.workers.values())
    assert _incarnation(hurt.at(4), PREFILL) == 1
    hurt.finish()


@pytest.fixture
def zombie() -> Iterator[Hurt]:
    """A worker that was silent for so long that the controller has given it up."""
    hurt = Hurt(faults.Freeze(at_ns=S, worker_id=DECODE, for_ns=4 * S, killed_ns=None))
    yield hurt
    hurt.finish()


def test_a_worker_given_up_ends_itself_when_it_is_told_and_is_replaced(zombie: Hurt) -> None:
    # Dead to the controller at about 2.8 s; it hears of it after its thaw at 5 s.
    lives = [_incarnation(zombie.at(s)) for s in (4.9, 5.0, 5.2, 5.2 + FENCED_DOWN_NS / S)]
    assert lives == [1, 1, None, 2]
    assert _incarnation(zombie.world, PREFILL) == 1


def test_without_a_controller_nobody_is_given_up() -> None:
    hurt = Hurt(
        faults.ControllerRestart(at_ns=S // 2, down_ns=8 * S),
        faults.Freeze(at_ns=S, worker_id=DECODE, for_ns=4 * S, killed_ns=None),
    )
    assert _incarnation(hurt.at(8.4)) == 1
    hurt.finish()
