"""Words of a move's earlier life are void: each lease has a number, and every word bears it.

A move lives twice when a worker has forgotten that it ended and a double of its order comes.
"""

from dataclasses import replace

import pytest
from fleet import Fleet
from parts import LIMITS, MS, Network, key_of
from solo import PEER, Solo, handoff_of, request_of
from source_stages import ABORTED, ACKED, COMMITTED, M1, decoding, outcome, peer_words
from splitweave.proto.effects import CopyBlocks, OpenLease
from splitweave.proto.ids import Epoch, WorkerKey
from splitweave.proto.move import MoveKind
from splitweave.proto.worker_events import (
    AbortAcked,
    HandoverOffered,
    LeaseAsked,
    LeaseOpened,
    LeaseRefused,
    MoveAborted,
    MoveOrdered,
    RequestAssigned,
)
from target_stages import REQUEST, land, lent, offered

FORGETFUL = replace(LIMITS, ended_moves_max=1)
GAVE_UP = MoveAborted(move_id=M1, lease=2, peer=PEER, reason="no")
LET_GO = AbortAcked(move_id=M1, lease=2, peer=PEER)


def ask(solo: Solo, lease: int, blocks: int = 5) -> None:
    solo.step(
        LeaseAsked(
            move_id=M1,
            lease=lease,
            kind=MoveKind.MIGRATION,
            source=PEER,
            request=REQUEST,
            hashes=(),
            blocks=blocks,
        )
    )


def leased_twice() -> Solo:
    """The target of lease 2 of a move whose lease 1 it has forgotten."""
    solo = Solo(FORGETFUL)
    ask(solo, 1)
    solo.step(replace(LET_GO, lease=1))
    solo.step(AbortAcked(move_id="m9", lease=9, peer=PEER))
    ask(solo, 2)
    assert solo.ordered(OpenLease) == [OpenLease(move_id=M1, lease=2)]
    assert lent(solo) == (5, 0)
    return solo


# ---- the target


def test_an_old_ack_frees_no_block_of_a_new_lease() -> None:
    """Its copies may be under way: what they write would land in another request's memory."""
    solo = leased_twice()
    assert solo.step(replace(LET_GO, lease=1)) == []
    assert lent(solo) == (5, 0)
    solo.step(GAVE_UP)
    assert lent(solo) == (0, 5)
    assert solo.step(replace(LET_GO, lease=1)) == []
    assert lent(solo) == (0, 5)
    solo.step(LET_GO)
    assert lent(solo) == (0, 0)


def test_an_old_abort_is_acknowledged_and_closes_nothing() -> None:
    solo = leased_twice()
    solo.step(replace(GAVE_UP, lease=1))
    (acked,) = solo.sent(AbortAcked)
    assert acked.lease == 1
    assert lent(solo) == (5, 0)


def test_old_asks_and_offers_say_nothing_of_a_new_lease() -> None:
    solo = leased_twice()
    ask(solo, 1, blocks=9)
    assert solo.effects == []
    land(solo, "m1/2.0")
    solo.step(replace(offer_of(2), lease=1))
    assert solo.effects == []
    solo.step(offer_of(2))
    assert peer_words(solo) == ["MoveCommitted"]


def offer_of(lease: int) -> HandoverOffered:
    return HandoverOffered(
        move_id=M1, lease=lease, source=PEER, emitted=(), computed=8, copies=("m1/2.0",)
    )


@pytest.mark.parametrize("closed", [False, True])
def test_a_later_lease_of_a_move_is_proof_that_the_earlier_one_is_over(*, closed: bool) -> None:
    """The source begins a move anew only when the former one's copies have all ended."""
    solo = Solo()
    ask(solo, 1)
    if closed:
        solo.fire("target_move", M1, LIMITS.lease_ns)
        assert lent(solo) == (0, 5)
    ask(solo, 2)
    assert lent(solo) == (0, 0)
    (aborted,) = solo.sent(MoveAborted)
    assert (aborted.lease, aborted.reason) == (2, "no such lease")


def test_an_ack_of_a_later_lease_frees_the_earlier_one() -> None:
    solo = offered()
    solo.step(LET_GO)
    assert lent(solo) == (0, 0)


# ---- the source


def begun_twice() -> Solo:
    """The source of lease 2 of a move whose first life it has forgotten, with copies in flight."""
    solo = decoding(limits=FORGETFUL)
    solo.migrate("r")
    solo.step(LeaseRefused(move_id=M1, lease=1, target=PEER, reason="no"))
    solo.step(AbortAcked(move_id="m9", lease=9, peer=PEER))
    solo.migrate("r")
    (asked,) = solo.sent(LeaseAsked)
    assert asked.lease == 2
    solo.open_lease(16, lease=2)
    assert [copy.lease for copy in solo.copies] == [2] * len(solo.copies) != []
    return solo


def test_each_move_asks_for_a_lease_of_its_own_and_repeats_its_number() -> None:
    solo = decoding()
    solo.assign("q", 30, 40)
    numbers = []
    for name, move_id in (("r", "m1"), ("q", "m2")):
        solo.migrate(name, move_id)
        numbers += [asked.lease for asked in solo.sent(LeaseAsked)]
        solo.fire("source_move", move_id)
        numbers += [asked.lease for asked in solo.sent(LeaseAsked)]
    assert numbers == [1, 1, 2, 2]


def test_no_copy_of_a_later_life_has_the_id_of_an_earlier_ones() -> None:
    solo = begun_twice()
    assert all(copy.copy_id.startswith("m1/2.") for copy in solo.copies)


def test_old_words_of_the_target_end_nothing_of_the_new_life() -> None:
    solo = begun_twice()
    for word in (ACKED, COMMITTED, LeaseRefused(move_id=M1, lease=1, target=PEER, reason="no")):
        solo.step(word)
        assert (peer_words(solo), outcome(solo)) == ([], [])
    solo.step(ABORTED)
    (acked,) = solo.sent(AbortAcked)
    assert acked.lease == 1
    assert outcome(solo) == []
    solo.step(replace(ABORTED, lease=2))
    assert outcome(solo) == [("aborted", "no")]


def test_an_old_commit_does_not_end_a_new_handover() -> None:
    solo = begun_twice()
    solo.send_copies(solo.copies)
    solo.iterate()
    assert solo.phase("r") == "handover"
    solo.step(COMMITTED)
    assert solo.phase("r") == "handover"
    solo.step(replace(COMMITTED, lease=2))
    assert solo.phase("r") is None


def test_a_lease_of_an_earlier_life_is_disowned_and_never_written() -> None:
    solo = begun_twice()
    solo.open_lease(16, lease=1)
    assert peer_words(solo) == ["MoveAborted", "AbortAcked"]
    assert [word.lease for word in solo.sent(MoveAborted) + solo.sent(AbortAcked)] == [1, 1]
    assert solo.ordered(CopyBlocks) == []


def test_a_handoff_that_waits_anew_lets_go_of_its_earlier_life() -> None:
    """Its lease has no number yet."""
    solo = Solo(replace(FORGETFUL, sequences_max=1))
    solo.assign("first", 8, 40)
    handoff = handoff_of("r")
    solo.step(RequestAssigned(request=request_of("r", 8), handoff=handoff))
    solo.step(ABORTED)
    (acked,) = solo.sent(AbortAcked)
    assert acked.lease == 1
    solo.open_lease(4, lease=1)
    assert peer_words(solo) == ["MoveAborted", "AbortAcked"]


# ---- both


def test_a_doubled_order_and_a_late_ack_cost_no_block() -> None:
    """The whole of it: the ack of the first life comes while the second one's copies fly."""
    fleet = Fleet("ab", FORGETFUL, Network(copy_ns=8 * MS))
    fleet.run(10 * MS)
    fleet.ask("a", "r", list(range(38)), 120)
    fleet.run(6 * MS)
    order = fleet.migrate("r", "a", "b")
    fleet.run(1 * MS)
    for key in (key_of("a"), key_of("b")):
        fleet.post(key, MoveAborted(move_id=order.move_id, lease=1, peer=other(key), reason="no"))
    fleet.run(30 * MS)
    for key in (key_of("a"), key_of("b")):  # both have heard of another move since
        fleet.post(key, AbortAcked(move_id="m9", lease=9, peer=other(key)))
    fleet.post(order.source, MoveOrdered(order=order))
    fleet.run(2 * MS)
    target = fleet.core("b")
    assert target.view(fleet.now_ns).blocks_leased > 0
    fleet.post(key_of("b"), AbortAcked(move_id=order.move_id, lease=1, peer=key_of("a")))
    fleet.ask("b", "s", list(range(200, 240)), 20)  # takes whatever is free
    fleet.run_until_done()
    for stream in fleet.streams.values():
        assert stream.text == stream.expected
    assert [report.epoch for report in fleet.reports][-1:] == [Epoch(0, 1)]


def other(key: WorkerKey) -> WorkerKey:
    return key_of("b") if key == key_of("a") else key_of("a")


def test_a_reopened_lease_is_told_from_its_past() -> None:
    solo = leased_twice()
    ask(solo, 2)
    (opened,) = solo.sent(LeaseOpened)
    assert (opened.lease, len(opened.blocks)) == (2, 5)
