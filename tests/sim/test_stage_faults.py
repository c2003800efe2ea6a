"""Faults that wait for a stage, one-way cuts, seized memory, deadlines."""

from dataclasses import replace
from typing import Any

import pytest
from sim_worlds import EXAMPLES, world_of
from splitweave.proto.gateway_events import RejectCode
from splitweave.proto.ids import WorkerId
from splitweave.sim import faults
from splitweave.sim.coverage import FAULTS, SOURCE, TARGET, Coverage
from splitweave.sim.faults import Deed, StageFault
from splitweave.sim.inject import Injector
from splitweave.sim.observer import HalfChanged, Observer
from splitweave.sim.scenario import FaultSpec, load_scenario
from splitweave.sim.world import World
from splitweave.workers.core.halves import Half

S = 1_000_000_000
MS = 1_000_000
DECODE, PREFILL = WorkerId("decode-0"), WorkerId("prefill-0")


class Ambushed:
    """A world with a plan and an observer, whose changes of halves are noted."""

    def __init__(self, *plan: Any, **changes: Any) -> None:
        calm = replace(load_scenario(EXAMPLES / "faults.toml"), faults=FaultSpec(**changes))
        self.coverage = Coverage()
        observer = Observer(self.coverage)
        self.seen: list[tuple[int, HalfChanged]] = []
        self.world, self.run, self.queue = world_of(calm, observer=observer)
        observer.listeners.append(lambda change: self.seen.append((self.queue.now_ns, change)))
        self.injector = Injector(self.world, list(plan))

    def at(self, s: float) -> World:
        self.queue.run_until(int(s * S))
        return self.world

    def finish(self) -> None:
        self.at(60)
        self.run.judge_end()

    def first(self, half: Half) -> tuple[int, HalfChanged]:
        return next((at_ns, change) for at_ns, change in self.seen if change.half is half)


def _stage(half: Half, deed: Deed, **changes: Any) -> StageFault:
    values: dict[str, Any] = {
        "at_ns": 0, "half": half, "deed": deed, "peer": False, "delay_ns": 0, "for_ns": S,
        "noticed_ns": MS, "pick": 0,
    }  # fmt: skip
    return StageFault(**(values | changes))


@pytest.mark.parametrize("peer", [False, True])
@pytest.mark.parametrize("half", [Half.RESERVE, Half.HANDOVER, Half.LEASED, Half.COMMITTED])
def test_a_side_of_a_move_dies_as_it_comes_to_a_stage(half: Half, peer: bool) -> None:
    ambush = Ambushed(_stage(half, Deed.CRASH, peer=peer))
    while not any(change.half is half for _, change in ambush.seen):
        ambush.at(ambush.queue.now_ns / S + 0.001)
    at_ns, change = ambush.first(half)
    source, target = change.order.source, change.order.target
    victim = {change.worker, peer and source, peer and target} - {False}
    dead = (victim - {change.worker}).pop() if peer else change.worker
    ambush.queue.run_until(at_ns)
    assert ambush.world.mail.living(dead) is None
    others = {source, target} - {dead}
    assert all(ambush.world.mail.living(key) is not None for key in others)
    ambush.finish()


def test_only_the_first_move_to_come_there_is_hurt() -> None:
    ambush = Ambushed(_stage(Half.COPY, Deed.CRASH))
    ambush.finish()
    assert ambush.coverage.table(FAULTS)["Crash", "begun"] == 1
    assert ambush.coverage.table(SOURCE)["LeaseOpened", "reserve"] > 5


def test_it_strikes_as_much_later_as_it_says() -> None:
    ambush = Ambushed(_stage(Half.COPY, Deed.FREEZE, delay_ns=70 * MS, for_ns=500 * MS))
    while not ambush.seen or ambush.seen[-1][1].half is not Half.COPY:
        ambush.at(ambush.queue.now_ns / S + 0.001)
    at_ns, change = ambush.first(Half.COPY)
    shell: Any = ambush.world.mail.workers[change.worker.worker_id].shell
    ambush.queue.run_until(at_ns + 70 * MS - 1)
    assert not shell._frozen
    ambush.queue.run_until(at_ns + 70 * MS)
    assert shell._frozen
    ambush.finish()


def test_nothing_waits_before_its_time_nor_after_the_heal() -> None:
    ambush = Ambushed(_stage(Half.RESERVE, Deed.CRASH, at_ns=2 * S))
    ambush.at(1.9)
    assert ambush.coverage.table(FAULTS) == {}
    ambush.injector.heal()
    ambush.finish()
    assert ambush.coverage.table(FAULTS) == {}


@pytest.mark.parametrize("deed", [Deed.CUT, Deed.HANG_UP, Deed.GATEWAY, Deed.CONTROLLER])
def test_every_deed_happens_and_all_streams_end(deed: Deed) -> None:
    ambush = Ambushed(_stage(Half.OFFERED, deed))
    ambush.finish()
    begun = {kind for kind, _ in ambush.coverage.table(FAULTS)}
    assert begun == {"StageFault"} | {
        {
            Deed.CUT: "CutPair",
            Deed.HANG_UP: "HangUp",
            Deed.GATEWAY: "GatewayCrash",
            Deed.CONTROLLER: "ControllerRestart",
        }[deed]
    }


def test_a_one_way_cut_stops_letters_and_copies_one_way_for_its_time() -> None:
    cut = faults.CutPair(at_ns=S, for_ns=S, source=PREFILL, target=DECODE, copies=True)
    ambush = Ambushed(cut)
    seen = []
    for s in (0.9, 1.1, 2.1):
        network, links = ambush.at(s).mail.network, ambush.world.links
        letters = [(t.source, t.target) for t in network._troubles]
        seen.append((letters, [(t.source, t.target) for t in links._troubles]))
    one_way = [(PREFILL, DECODE)]
    assert seen == [([], []), (one_way, one_way), ([], [])]
    ambush.finish()


def test_seized_memory_is_leased_to_nobody_and_comes_back() -> None:
    full = faults.FullMemory(at_ns=S // 2, for_ns=4 * S, worker_id=DECODE, share=1.0)
    ambush = Ambushed(full)
    ambush.at(0.6)
    core = ambush.world.mail.workers[DECODE].core
    leased = core.view(0).blocks_leased
    assert leased > 20  # of 48
    assert core.view(ambush.queue.now_ns).blocks_free <= 2 + 4
    ambush.at(4.4)  # longer than a lease lasts without progress
    assert core.view(0).blocks_leased >= leased
    ambush.at(4.6)
    assert core.view(0).blocks_leased < leased
    ambush.finish()
    assert core.view(0).blocks_leased == core.view(0).blocks_quarantined == 0


def test_a_client_with_a_deadline_gets_its_answer_or_hears_at_its_deadline_why_not() -> None:
    ambush = Ambushed(deadlines=1.0, deadline_s_max=1.0)
    ambush.finish()
    streams = ambush.world.clients.streams.values()
    late = [s for s in streams if s.error is RejectCode.DEADLINE_EXCEEDED]
    assert 3 < len(late) < len(streams)
    assert all(stream.deadline_ns is not None for stream in streams)
    for stream in streams:
        assert stream.last_ns is None or stream.last_ns <= (stream.deadline_ns or 0)


def test_a_deadline_is_right_though_the_gateways_clock_is_wrong() -> None:
    ambush = Ambushed(deadlines=1.0, deadline_s_max=1.0, clock_offset_s=1e6)
    ambush.finish()
    streams = ambush.world.clients.streams.values()
    assert any(stream.finish for stream in streams)
    assert any(stream.error for stream in streams)


def test_an_echo_is_of_a_letter_about_the_move_or_its_request() -> None:
    ambush = Ambushed(*[_stage(Half.COMMITTED, Deed.ECHO, pick=n) for n in range(6)])
    before = Ambushed()
    for one in (ambush, before):
        one.finish()
    asked = [c.coverage.table(TARGET).get(("LeaseAsked", "committed"), 0) for c in (ambush, before)]
    offered = [
        c.coverage.table(TARGET).get(("HandoverOffered", "committed"), 0) for c in (ambush, before)
    ]
    assert asked[0] + offered[0] > asked[1] + offered[1]


def test_memory_is_filled_as_a_side_comes_to_a_stage() -> None:
    ambush = Ambushed(_stage(Half.COPY, Deed.FILL, peer=True))
    while not any(change.half is Half.COPY for _, change in ambush.seen):
        ambush.at(ambush.queue.now_ns / S + 0.001)
    _, change = ambush.first(Half.COPY)
    view = ambush.world.mail.workers[change.order.target.worker_id].core.view(0)
    assert view.blocks_leased > 20  # of 48
    assert view.blocks_free + view.blocks_cached <= 2  # the watermark
    ambush.finish()
