"""The source stops, offers, and learns the outcome; and what may end a move at any stage."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from parts import LIMITS, key_of
from solo import PEER, Solo, handoff_of
from source_stages import (
    ABORTED,
    ACKED,
    COMMITTED,
    M1,
    copying,
    decoding,
    handing_over,
    outcome,
    peer_words,
    reports,
    reserving,
)
from splitweave.proto.cluster_events import RequestEnded
from splitweave.proto.effects import RunIteration
from splitweave.proto.gateway_events import MoveReported
from splitweave.proto.ids import Epoch
from splitweave.proto.move import Stage
from splitweave.proto.worker_events import (
    AbortAcked,
    CopyFailed,
    HandoverOffered,
    LeaseOpened,
    LeaseRefused,
    MoveAborted,
    MoveCommitted,
    PeerLost,
    RequestCancelled,
    StreamAcked,
)

# ---- HANDOVER


def test_the_handover_copies_the_rest_and_names_every_copy() -> None:
    solo = copying()
    solo.send_copies(solo.copies)
    solo.iterate()
    assert [copy.target_blocks for copy in solo.copies] == [(108,)]
    offer = solo.sent(HandoverOffered)[0]
    assert offer.copies == ("m1/1.0", "m1/1.1", "m1/1.2")
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
    solo.step(CopyFailed(copy_id="m1/1.2", move_id=M1, reason="cut"))
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
def test_a_dead_target_ends_the_move_and_not_the_request(stage: Callable[[], Solo]) -> None:
    solo = stage()
    solo.step(PeerLost(key=PEER))
    assert outcome(solo) == [("aborted", "target b#1 is dead")]
    assert solo.batch == {"r": 1}
    solo.iterate()
    assert solo.phase("r") == "decode"


@pytest.mark.parametrize("stage", [reserving, copying, handing_over])
def test_a_cancellation_aborts_at_every_stage(stage: Callable[[], Solo]) -> None:
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
def test_words_of_another_worker_are_not_the_targets(stage: Callable[[], Solo]) -> None:
    solo = stage()
    other = key_of("c")
    for event in (
        LeaseOpened(move_id=M1, lease=1, target=other, blocks=(1,) * 20, present=0),
        LeaseRefused(move_id=M1, lease=1, target=other, reason=""),
        MoveCommitted(move_id=M1, lease=1, target=other, epoch=Epoch(0, 1)),
        MoveAborted(move_id=M1, lease=1, peer=other, reason=""),
        AbortAcked(move_id=M1, lease=1, peer=other),
    ):
        assert solo.step(event) == []


@pytest.mark.parametrize("stage", [reserving, copying])
def test_a_commit_that_was_never_offered_is_ignored(stage: Callable[[], Solo]) -> None:
    solo = stage()
    assert solo.step(COMMITTED) == []
    assert solo.phase("r") == "decode"


def test_a_refusal_overtaken_by_the_handover_is_ignored() -> None:
    solo = handing_over()
    assert solo.step(LeaseRefused(move_id=M1, lease=1, target=PEER, reason="late")) == []


def test_a_lease_that_opens_after_the_end_is_disowned() -> None:
    solo = reserving()
    solo.step(LeaseRefused(move_id=M1, lease=1, target=PEER, reason="full"))
    solo.open_lease()
    assert peer_words(solo) == ["MoveAborted", "AbortAcked"]


def test_a_lease_that_opens_while_copies_end_is_not_acked_yet() -> None:
    solo = copying()
    solo.step(CopyFailed(copy_id="m1/1.0", move_id=M1, reason="cut"))
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
