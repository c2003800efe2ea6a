"""The source asks for a lease and copies ahead: each repeat, each way out."""

from dataclasses import replace

from parts import LIMITS, key_of
from solo import PEER, SELF, Solo, handoff_of
from source_stages import (
    ABORTED,
    M1,
    copying,
    decoding,
    outcome,
    peer_words,
    reserving,
)
from splitweave.proto.effects import ClearTimer
from splitweave.proto.move import MoveKind
from splitweave.proto.worker_events import (
    CopyFailed,
    CopySent,
    LeaseAsked,
    LeaseRefused,
    MoveOrdered,
    RequestCancelled,
)

# ---- RESERVE


def test_an_ordered_move_asks_for_all_known_tokens_and_one() -> None:
    solo = reserving()
    asked = solo.sent(LeaseAsked)[0]
    assert asked.blocks == 9  # 30 + 3 + 1 tokens
    assert (asked.kind, asked.source) == (MoveKind.MIGRATION, SELF)
    assert len(asked.request.emitted) == 3
    assert len(asked.hashes) == 8
    assert solo.timer("source_move") == solo.now_ns + LIMITS.lease_ask_ns


def test_the_source_goes_on_decoding_while_it_asks() -> None:
    solo = reserving()
    solo.iterate(3)
    assert solo.held("r").output_tokens == 6


def test_it_asks_again_and_then_gives_up() -> None:
    solo = reserving()
    for _ in range(LIMITS.lease_asks_max - 1):
        solo.fire("source_move", M1)
        assert len(solo.sent(LeaseAsked)) == 1
    solo.fire("source_move", M1)
    assert outcome(solo) == [("aborted", f"no answer to {LIMITS.lease_asks_max} asks for a lease")]
    assert peer_words(solo) == ["MoveAborted", "AbortAcked"]
    assert solo.ordered(ClearTimer)
    assert solo.fire("source_move", M1) == []


def test_an_ask_repeated_later_asks_for_what_is_known_by_then() -> None:
    solo = reserving()
    solo.iterate(4)
    solo.fire("source_move", M1)
    assert solo.sent(LeaseAsked)[0].blocks == 10


def test_a_refusal_ends_it() -> None:
    solo = reserving()
    solo.step(LeaseRefused(move_id=M1, lease=1, target=PEER, reason="full"))
    assert outcome(solo) == [("aborted", "full")]
    solo.iterate()
    assert solo.phase("r") == "decode"


def test_the_same_order_again_is_ignored() -> None:
    solo = reserving()
    assert solo.step(MoveOrdered(order=handoff_of("r", M1, MoveKind.MIGRATION))) == []
    solo.step(ABORTED)
    assert solo.step(MoveOrdered(order=handoff_of("r", M1, MoveKind.MIGRATION))) == []


def test_a_second_order_for_a_moving_request_is_refused() -> None:
    solo = reserving()
    solo.migrate("r", "m2")
    assert outcome(solo) == [("aborted", "already in move m1")]


def test_orders_that_cannot_be_are_answered() -> None:
    solo = decoding()
    solo.migrate("nobody", "m1")
    assert outcome(solo) == [("aborted", "unknown request")]
    order = replace(handoff_of("r", "m2", MoveKind.MIGRATION), target=SELF)
    solo.step(MoveOrdered(order=order))
    assert outcome(solo) == [("aborted", "a#1 is not a source for a#1")]
    order = replace(handoff_of("r", "m3", MoveKind.MIGRATION), source=key_of("a", 0))
    solo.step(MoveOrdered(order=order))
    assert outcome(solo) == [("aborted", "a#1 is not a source for b#1")]


def test_a_finished_request_is_not_moved() -> None:
    solo = Solo()
    solo.assign("r", 5, 1)
    solo.iterate()
    solo.migrate("r")
    assert outcome(solo) == [("aborted", "finished")]


def test_no_more_migrations_are_open_than_allowed() -> None:
    solo = Solo(replace(LIMITS, moves_max=1))
    solo.assign("r", 5)
    solo.assign("s", 5)
    solo.migrate("r", "m1")
    solo.migrate("s", "m2")
    assert outcome(solo) == [("aborted", "1 migrations already")]


# ---- COPY


def test_full_blocks_are_copied_in_order_and_in_bounded_pieces() -> None:
    solo = copying()
    copies = solo.copies
    assert [len(copy.source_blocks) for copy in copies] == [4, 4]
    assert [copy.copy_id for copy in copies] == ["m1/1.0", "m1/1.1"]
    assert [block for copy in copies for block in copy.target_blocks] == list(range(100, 108))
    assert {(copy.first_layer, copy.last_layer) for copy in copies} == {(0, 4)}


def test_what_the_target_has_is_not_copied() -> None:
    solo = reserving()
    solo.open_lease(16, present=5)
    assert [copy.target_blocks for copy in solo.copies] == [(105, 106, 107)]


def test_no_more_copies_are_in_flight_than_allowed() -> None:
    solo = decoding(limits=replace(LIMITS, copies_in_flight_max=1))
    solo.migrate("r")
    solo.open_lease(16)
    first = solo.copies
    assert len(first) == 1
    solo.send_copies(first)
    assert len(solo.copies) == 1


def test_a_lease_opened_twice_copies_nothing_twice() -> None:
    solo = copying()
    solo.open_lease(16)
    assert solo.copies == []


def test_new_blocks_are_copied_as_they_fill() -> None:
    solo = copying()
    solo.iterate(3)
    assert [copy.target_blocks for copy in solo.copies] == []
    solo.iterate()
    assert [copy.target_blocks for copy in solo.copies] == [(108,)]


def test_the_lease_is_raised_before_it_is_too_small() -> None:
    solo = reserving()
    solo.open_lease(9)
    solo.iterate(2)
    assert solo.sent(LeaseAsked) == []
    solo.iterate()  # 36 known, one more needs a tenth block
    assert [event.blocks for event in solo.sent(LeaseAsked)] == [10]
    solo.iterate()
    assert solo.sent(LeaseAsked) == []
    solo.fire("source_move", M1)
    assert len(solo.sent(LeaseAsked)) == 1


def test_the_source_does_not_stop_while_the_lease_is_too_small() -> None:
    solo = reserving()
    solo.open_lease(9)
    solo.send_copies(solo.copies)
    solo.iterate(1)
    assert solo.phase("r") == "handover"
    other = reserving()
    other.open_lease(9)
    copies = other.copies
    other.iterate(4)
    other.send_copies(copies)
    other.iterate()
    assert other.phase("r") == "decode"
    other.open_lease(10)
    other.iterate()
    assert other.phase("r") == "handover"


def test_a_raise_that_is_refused_aborts() -> None:
    solo = copying()
    solo.step(LeaseRefused(move_id=M1, lease=1, target=PEER, reason="full"))
    assert outcome(solo) == [("aborted", "full")]


def test_no_copy_ended_in_time_aborts() -> None:
    solo = copying()
    solo.fire("source_move", M1, LIMITS.copy_ns - 1)
    assert outcome(solo) == []
    solo.fire("source_move", M1, 1)
    assert outcome(solo) == [("aborted", f"no copy ended for {LIMITS.copy_ns} ns")]


def test_each_end_of_a_copy_gives_the_others_more_time() -> None:
    solo = copying()
    first, _ = solo.copies
    solo.step(CopySent(copy_id=first.copy_id, move_id=M1, transfer_bytes=1), LIMITS.copy_ns - 9)
    solo.fire("source_move", M1, 100)
    assert outcome(solo) == []


def test_a_failed_copy_aborts() -> None:
    solo = copying()
    solo.step(CopyFailed(copy_id="m1/1.0", move_id=M1, reason="cut"))
    assert outcome(solo) == [("aborted", "copy failed: cut")]


def test_the_source_acks_only_when_nothing_is_in_flight() -> None:
    solo = copying()
    first, second = solo.copies
    solo.step(CopyFailed(copy_id=first.copy_id, move_id=M1, reason="cut"))
    assert peer_words(solo) == ["MoveAborted"]
    solo.step(ABORTED)
    assert peer_words(solo) == []
    solo.step(CopySent(copy_id=second.copy_id, move_id=M1, transfer_bytes=1))
    assert peer_words(solo) == ["AbortAcked"]
    solo.step(ABORTED)
    assert peer_words(solo) == ["AbortAcked"]


def test_source_blocks_are_held_until_their_copy_ends() -> None:
    solo = copying()
    copies = solo.copies
    solo.step(RequestCancelled(request_id="r"))
    solo.iterate()
    assert solo.view.requests == ()
    assert solo.view.blocks_held == 8
    solo.send_copies(copies[:1])
    assert solo.view.blocks_held == 4
    solo.send_copies(copies[1:])
    solo.assert_no_block_used()


def test_an_unknown_copy_is_ignored() -> None:
    solo = decoding()
    assert solo.step(CopySent(copy_id="x/1", move_id="x", transfer_bytes=1)) == []
    assert solo.step(CopyFailed(copy_id="x/1", move_id="x", reason="")) == []
