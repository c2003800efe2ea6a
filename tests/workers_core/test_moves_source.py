"""The source's half of a move: each stage, each way out, each repeat."""

from dataclasses import replace

import pytest
from fleet import LIMITS, key_of
from solo import PEER, SELF, Solo, handoff_of
from splitweave.proto.cluster_events import MoveEnded, RequestEnded
from splitweave.proto.effects import ClearTimer, RunIteration, ToWorker
from splitweave.proto.gateway_events import MoveReported
from splitweave.proto.ids import Epoch
from splitweave.proto.move import MoveKind, MoveReport, Stage
from splitweave.proto.requests import FinishReason
from splitweave.proto.worker_events import (
    AbortAcked,
    CopyFailed,
    CopySent,
    HandoverOffered,
    LeaseAsked,
    LeaseOpened,
    LeaseRefused,
    MoveAborted,
    MoveCommitted,
    MoveOrdered,
    PeerLost,
    RequestCancelled,
    StreamAcked,
)

M1 = "m1"
COMMITTED = MoveCommitted(move_id=M1, target=PEER, epoch=Epoch(0, 1))
ABORTED = MoveAborted(move_id=M1, peer=PEER, reason="no")
ACKED = AbortAcked(move_id=M1, peer=PEER)


def decoding(tokens: int = 3, limits=LIMITS, prompt: int = 30) -> Solo:
    """A request that decodes here, with so many tokens of output."""
    solo = Solo(limits)
    solo.assign("r", prompt, 40)
    while solo.held("r").output_tokens < tokens:
        solo.iterate()
    return solo


def reserving() -> Solo:
    solo = decoding()
    solo.migrate("r")
    return solo


def copying() -> Solo:
    """Stage COPY with all full blocks in flight."""
    solo = reserving()
    solo.open_lease(16)
    return solo


def handing_over() -> Solo:
    """Stage HANDOVER with the last copy in flight."""
    solo = copying()
    solo.send_copies(solo.copies)
    solo.iterate()
    assert solo.phase("r") == "handover"
    return solo


def reports(solo: Solo) -> list[MoveReport]:
    return [event.report for event in solo.sent(MoveEnded)]


def outcome(solo: Solo) -> list[tuple[str, str]]:
    return [(str(report.outcome), report.reason) for report in reports(solo)]


def peer_words(solo: Solo) -> list[str]:
    return [type(e.event).__name__ for e in solo.effects if isinstance(e, ToWorker)]


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
    solo.step(LeaseRefused(move_id=M1, target=PEER, reason="full"))
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
    assert [copy.copy_id for copy in copies] == ["m1/0", "m1/1"]
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
    solo.step(LeaseRefused(move_id=M1, target=PEER, reason="full"))
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
    solo.step(CopyFailed(copy_id="m1/0", move_id=M1, reason="cut"))
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


# ---- copies of an iteration


def prefilling(limits=LIMITS, **more) -> Solo:
    """A handoff whose lease opens during the first of three chunks."""
    solo = Solo(limits)
    solo.assign("r", 40, 9, handoff=handoff_of("r"), **more)
    return solo


def test_a_handoff_asks_as_its_request_begins() -> None:
    solo = prefilling()
    assert [event.blocks for event in solo.sent(LeaseAsked)] == [11]


def test_a_request_next_in_line_asks_while_another_runs() -> None:
    solo = Solo()
    solo.assign("q", 5)
    solo.assign("r", 5, handoff=handoff_of("r", "m1"))
    assert [event.move_id for event in solo.sent(LeaseAsked)] == ["m1"]
    solo.assign("s", 5, handoff=handoff_of("s", "m2"))
    assert solo.sent(LeaseAsked) == []
    solo.iterate()
    assert [event.move_id for event in solo.sent(LeaseAsked)] == ["m2"]


def test_a_request_that_cannot_begin_does_not_ask_yet() -> None:
    solo = Solo(replace(LIMITS, sequences_max=1))
    solo.assign("q", 5)
    solo.assign("r", 5, handoff=handoff_of("r"))
    assert solo.sent(LeaseAsked) == []


def test_prefill_copies_layers_while_it_computes() -> None:
    solo = prefilling()
    solo.open_lease(11)
    solo.iterate()
    assert [copy.target_blocks for copy in solo.copies] == [(100, 101, 102, 103)]
    spans = [(c.first_layer, c.last_layer, c.target_blocks) for c in solo.iteration_copies]
    assert spans == [(0, 2, (104, 105, 106, 107)), (2, 4, (104, 105, 106, 107))]
    solo.iterate()
    spans = [(c.first_layer, c.last_layer, c.target_blocks) for c in solo.iteration_copies]
    assert spans == [(0, 2, (108, 109)), (2, 4, (108, 109))]


@pytest.mark.parametrize(("group", "spans"), [(1, 4), (3, 2), (4, 1), (9, 1)])
def test_layer_groups_cover_all_layers_once(group: int, spans: int) -> None:
    solo = prefilling(replace(LIMITS, layer_group=group))
    solo.open_lease(11)
    solo.iterate()
    copies = solo.iteration_copies
    assert len(copies) == spans
    assert [n for c in copies for n in range(c.first_layer, c.last_layer)] == [0, 1, 2, 3]


def test_the_last_chunk_brings_the_unfinished_block_along() -> None:
    solo = Solo()
    solo.assign("r", 34, 9, handoff=handoff_of("r"))
    solo.open_lease(9)
    solo.iterate(2)
    assert [copy.target_blocks for copy in solo.iteration_copies][0] == (108,)


def test_a_migration_leaves_the_unfinished_block_for_the_handover() -> None:
    solo = Solo()
    solo.assign("r", 34, 9)
    solo.migrate("r")
    solo.open_lease(9)
    solo.iterate(2)
    assert solo.iteration_copies == ()


def test_an_iteration_copies_nothing_while_earlier_blocks_wait() -> None:
    solo = prefilling(replace(LIMITS, copies_in_flight_max=1, copy_blocks_max=1))
    solo.open_lease(11)
    solo.iterate()
    assert len(solo.copies) == 1
    assert solo.iteration_copies == ()


def test_a_handoff_stops_with_its_first_token() -> None:
    solo = prefilling()
    solo.open_lease(11)
    solo.iterate(3)
    assert solo.phase("r") == "handover"
    offer = solo.sent(HandoverOffered)[0]
    assert (len(offer.emitted), offer.computed) == (1, 40)
    assert offer.copies == ("m1/0", "m1/1", "m1/2", "m1/3", "m1/4")
    assert [chunk.first_index for chunk in solo.chunks] == [0]
    assert solo.batch == {}


def test_a_handoff_whose_lease_comes_late_decodes_on_and_then_moves() -> None:
    solo = prefilling()
    solo.iterate(5)
    assert solo.held("r").output_tokens == 3
    solo.open_lease(12)
    copies = solo.copies
    assert len(copies) == 3
    solo.iterate()
    assert solo.phase("r") == "decode"
    solo.send_copies(copies)
    solo.iterate()
    assert solo.phase("r") == "handover"


def test_a_request_that_ends_with_its_first_token_is_not_handed_off() -> None:
    solo = Solo()
    solo.assign("r", 5, 1, handoff=handoff_of("r"))
    solo.open_lease(2)
    solo.iterate()
    assert outcome(solo) == [("aborted", "finished")]
    assert [chunk.finish for chunk in solo.chunks] == [FinishReason.LENGTH]


def test_a_waiting_request_is_moved_without_a_copy() -> None:
    solo = Solo(replace(LIMITS, sequences_max=1))
    solo.assign("q", 5)
    solo.assign("r", 12)
    solo.migrate("r")
    solo.open_lease(4)
    offer = solo.sent(HandoverOffered)[0]
    assert (offer.emitted, offer.computed, offer.copies) == ((), 0, ())
    solo.step(COMMITTED)
    assert solo.phase("r") is None


def test_a_waiting_request_waits_again_after_an_aborted_handover() -> None:
    solo = Solo(replace(LIMITS, sequences_max=1))
    solo.assign("q", 5)
    solo.assign("r", 12)
    solo.migrate("r")
    solo.open_lease(4)
    solo.step(ABORTED)
    assert solo.phase("r") == "waiting"


# ---- HANDOVER


def test_the_handover_copies_the_rest_and_names_every_copy() -> None:
    solo = copying()
    solo.send_copies(solo.copies)
    solo.iterate()
    assert [copy.target_blocks for copy in solo.copies] == [(108,)]
    offer = solo.sent(HandoverOffered)[0]
    assert offer.copies == ("m1/0", "m1/1", "m1/2")
    assert (len(offer.emitted), offer.computed) == (4, 33)
    assert solo.ordered(RunIteration) == []


@pytest.mark.parametrize(("blocks_max", "stops"), [(1, False), (8, False), (9, True)])
def test_a_migration_stops_when_little_enough_is_left(blocks_max: int, stops: bool) -> None:
    solo = decoding(limits=replace(LIMITS, handover_blocks_max=blocks_max))
    solo.migrate("r")
    solo.open_lease(16)
    solo.iterate()  # nothing has been sent yet: nine blocks are left
    assert (solo.phase("r") == "handover") == stops


def test_the_offer_is_repeated() -> None:
    solo = handing_over()
    first = solo.sent(HandoverOffered)
    solo.fire("source_move", M1)
    assert solo.sent(HandoverOffered) == first
    assert solo.timer("source_move") is not None


def test_a_commit_drops_the_request_and_keeps_the_prefix() -> None:
    solo = handing_over()
    solo.send_copies(solo.copies)
    solo.step(COMMITTED)
    assert solo.phase("r") is None
    solo.assert_no_block_used()
    assert solo.view.blocks_cached == 8
    assert solo.sent(RequestEnded) == []
    assert solo.sent(MoveReported)[0].report == reports(solo)[0]


def test_the_report_accounts_for_bytes_and_time() -> None:
    solo = decoding()
    begun_ns = solo.now_ns
    solo.migrate("r")
    solo.open_lease(16, present=2)
    solo.send_copies(solo.copies)
    solo.iterate()
    solo.send_copies(solo.copies)
    solo.step(COMMITTED)
    (report,) = reports(solo)
    assert (report.outcome, report.reason, report.epoch) == (Stage.COMMITTED, "", Epoch(0, 1))
    assert (report.blocks, report.transfer_bytes, report.hidden_bytes) == (7, 300, 200)
    assert report.reserve_ns == 1000
    assert report.copy_ns == 1_002_000
    assert report.handover_ns == 2000
    total = report.reserve_ns + report.copy_ns + report.handover_ns
    assert total == solo.now_ns - begun_ns - 1000


def test_the_report_of_a_commit_waits_for_its_last_copy() -> None:
    solo = handing_over()
    copies = solo.copies
    solo.step(COMMITTED)
    assert reports(solo) == []
    assert solo.phase("r") is None
    solo.send_copies(copies)
    assert outcome(solo) == [("committed", "")]
    assert reports(solo)[0].handover_ns == 1000


def test_a_handover_without_an_answer_runs_on_and_asks_for_the_outcome() -> None:
    solo = handing_over()
    solo.fire("source_move", M1, LIMITS.handover_ns)
    assert peer_words(solo) == ["MoveAborted"]
    assert solo.phase("r") == "decode"
    assert solo.batch == {"r": 1}
    assert reports(solo) == []
    solo.fire("source_move", M1)
    assert peer_words(solo) == ["MoveAborted"]


def test_the_outcome_may_be_an_abort() -> None:
    solo = handing_over()
    copies = solo.copies
    solo.fire("source_move", M1, LIMITS.handover_ns)
    solo.send_copies(copies)
    solo.step(ACKED)
    assert outcome(solo) == [("aborted", f"no commit for {LIMITS.handover_ns} ns")]
    solo.iterate()
    assert solo.phase("r") == "decode"


def test_the_outcome_may_be_a_commit_even_in_flight() -> None:
    solo = handing_over()
    solo.send_copies(solo.copies)
    solo.fire("source_move", M1, LIMITS.handover_ns)
    assert solo.batch == {"r": 1}
    solo.step(COMMITTED)
    assert outcome(solo) == [("committed", "")]
    assert solo.phase("r") is None
    solo.iterate()
    assert solo.chunks == []
    solo.assert_no_block_used()


def test_a_request_that_finished_meanwhile_waits_for_its_ack_as_any_other() -> None:
    solo = handing_over()
    solo.send_copies(solo.copies)
    solo.fire("source_move", M1, LIMITS.handover_ns)
    while solo.batch:
        solo.iterate()
    assert solo.phase("r") == "finished"
    solo.step(COMMITTED)
    assert outcome(solo) == [("committed", "")]
    assert reports(solo)[0].epoch == Epoch(0, 1)
    assert solo.held("r").epoch == Epoch(0)
    solo.fire("resend", "r")
    assert len(solo.chunks) == 1
    solo.step(StreamAcked(request_id="r"))
    assert solo.phase("r") is None


def test_no_second_move_starts_before_the_outcome_is_known() -> None:
    solo = handing_over()
    solo.fire("source_move", M1, LIMITS.handover_ns)
    solo.migrate("r", "m2")
    assert outcome(solo) == [("aborted", "already in move m1")]


def test_the_targets_abort_in_the_handover_is_final() -> None:
    solo = handing_over()
    copies = solo.copies
    solo.step(ABORTED)
    assert outcome(solo) == [("aborted", "no")]
    assert solo.batch == {"r": 1}
    solo.send_copies(copies)
    assert peer_words(solo) == ["AbortAcked"]


def test_a_copy_that_fails_in_the_handover_lets_the_source_run_on() -> None:
    solo = handing_over()
    solo.step(CopyFailed(copy_id="m1/2", move_id=M1, reason="cut"))
    assert solo.phase("r") == "decode"
    assert peer_words(solo) == ["MoveAborted"]
    solo.step(ACKED)
    assert outcome(solo) == [("aborted", "copy failed: cut")]


def test_a_cancellation_in_the_handover_asks_for_the_outcome_and_drops() -> None:
    solo = handing_over()
    copies = solo.copies
    solo.step(RequestCancelled(request_id="r"))
    assert solo.phase("r") is None
    assert peer_words(solo) == ["MoveAborted"]
    solo.send_copies(copies)
    solo.assert_no_block_used()
    solo.step(ACKED)
    assert outcome(solo) == [("aborted", "cancelled")]


# ---- any stage


@pytest.mark.parametrize("stage", [reserving, copying, handing_over])
def test_a_dead_target_ends_the_move_and_not_the_request(stage) -> None:
    solo = stage()
    solo.step(PeerLost(key=PEER))
    assert outcome(solo) == [("aborted", "target b#1 is dead")]
    assert solo.batch == {"r": 1}
    solo.iterate()
    assert solo.phase("r") == "decode"


@pytest.mark.parametrize("stage", [reserving, copying, handing_over])
def test_a_cancellation_aborts_at_every_stage(stage) -> None:
    solo = stage()
    copies = solo.copies
    solo.step(RequestCancelled(request_id="r"))
    assert len(solo.sent(RequestEnded)) == 1
    assert "MoveAborted" in peer_words(solo)
    solo.send_copies(copies)
    if solo.batch:
        solo.iterate()
    solo.step(ACKED)
    solo.assert_no_block_used()


@pytest.mark.parametrize("stage", [reserving, copying, handing_over])
def test_words_of_another_worker_are_not_the_targets(stage) -> None:
    solo = stage()
    other = key_of("c")
    for event in (
        LeaseOpened(move_id=M1, target=other, blocks=(1,) * 20, present=0),
        LeaseRefused(move_id=M1, target=other, reason=""),
        MoveCommitted(move_id=M1, target=other, epoch=Epoch(0, 1)),
        MoveAborted(move_id=M1, peer=other, reason=""),
        AbortAcked(move_id=M1, peer=other),
    ):
        assert solo.step(event) == []


@pytest.mark.parametrize("stage", [reserving, copying])
def test_a_commit_that_was_never_offered_is_ignored(stage) -> None:
    solo = stage()
    assert solo.step(COMMITTED) == []
    assert solo.phase("r") == "decode"


def test_a_refusal_overtaken_by_the_handover_is_ignored() -> None:
    solo = handing_over()
    assert solo.step(LeaseRefused(move_id=M1, target=PEER, reason="late")) == []


def test_a_lease_that_opens_after_the_end_is_disowned() -> None:
    solo = reserving()
    solo.step(LeaseRefused(move_id=M1, target=PEER, reason="full"))
    solo.open_lease()
    assert peer_words(solo) == ["MoveAborted", "AbortAcked"]


def test_a_lease_that_opens_while_copies_end_is_not_acked_yet() -> None:
    solo = copying()
    solo.step(CopyFailed(copy_id="m1/0", move_id=M1, reason="cut"))
    solo.open_lease()
    assert peer_words(solo) == ["MoveAborted"]


def test_a_handoff_that_never_asked_ends_without_a_word_to_the_target() -> None:
    solo = Solo(replace(LIMITS, sequences_max=1))
    solo.assign("q", 5)
    solo.assign("r", 5, handoff=handoff_of("r"))
    solo.step(RequestCancelled(request_id="r"))
    assert peer_words(solo) == []
    (report,) = reports(solo)
    assert (report.reserve_ns, report.copy_ns, report.handover_ns) == (0, 0, 0)
