"""A gateway whose client comes back, here or from another gateway."""

from control_plane import MS, S
from gateway_table import DROP, R1, Front, asked, displaced, opened
from splitweave.cluster.core.limits import GatewayLimits
from splitweave.proto.gateway_events import RejectCode, RequestRejected, ResumeRefused
from splitweave.proto.ids import Epoch
from splitweave.proto.requests import FinishReason

GRACE = GatewayLimits().resume_grace_ns


def refused(front: Front, output_tokens: int) -> list[str]:
    return front.tell(ResumeRefused(request_id=R1, output_tokens=output_tokens))


def test_a_resumed_stream_goes_on_at_the_next_token_in_the_attempt_that_runs() -> None:
    front = Front()
    assert asked(front, resumes=1, emitted=(7, 8)) == ["controller: submit r1@0.0 +2"]
    front.accepted("d0", epoch=Epoch(2, 1))
    assert front.chunk(2, 9, epoch=Epoch(2, 1)) == ["r1[2] = 9"]


def test_a_stream_that_was_cut_here_is_resumed_in_an_attempt_that_it_knows() -> None:
    front = opened()
    front.chunk(0, 7)
    front.tell(_unavailable())
    asked(front, resumes=1, emitted=(7,))
    front.accepted("d0")
    assert front.chunk(1, 8) == ["r1[1] = 8"]


def test_tokens_that_the_worker_sends_before_the_controllers_word_are_taken() -> None:
    front = Front()
    asked(front, resumes=1, emitted=(7, 8))
    assert front.chunk(2, 9, epoch=Epoch(0, 1)) == ["r1[2] = 9"]


def test_what_the_client_has_is_not_delivered_again() -> None:
    front = Front()
    asked(front, resumes=1, emitted=(7, 8))
    assert front.chunk(0, 7, 8) == []
    assert front.chunk(1, 8, 9) == ["r1[2] = 9"]


def test_a_client_that_is_back_before_its_old_call_ended_takes_the_stream_over() -> None:
    front = opened()
    front.chunk(0, 7, 8, 9)
    assert asked(front, resumes=1, emitted=(7,)) == ["controller: submit r1@0.0 +1"]
    assert front.chunk(1, 8, 9) == ["r1[1] = 8 9"]
    assert front.chunk(3, 4, finish=FinishReason.STOP)[0] == "r1[3] = 4"


def test_a_double_of_the_call_that_opened_the_stream_changes_nothing() -> None:
    front = opened()
    front.chunk(0, 7)
    assert asked(front) == []
    assert asked(front, resumes=0, emitted=(7,)) == []


def test_a_resume_here_brings_its_own_deadline() -> None:
    front = opened(deadline_ns=1 * S)
    front.chunk(0, 7)
    asked(front, resumes=1, emitted=(7,), deadline_ns=5 * S)
    assert front.wait(2 * S)[-1] == "controller: submit r1@0.0 +1"
    assert "DEADLINE_EXCEEDED" in front.wait(4 * S)[-1]


def test_a_resume_here_without_a_deadline_lifts_the_old_one() -> None:
    front = opened(deadline_ns=1 * S)
    front.chunk(0, 7)
    asked(front, resumes=1, emitted=(7,))
    front.accepted("d0")
    assert front.wait(2 * S) == []


def test_more_tokens_than_were_delivered_here_are_judged_by_the_worker() -> None:
    front = opened()
    front.chunk(0, 7)
    assert asked(front, resumes=1, emitted=(7, 8, 9))[-1] == "controller: submit r1@0.0 +3"
    said = refused(front, 1)
    told = "tokens_received: is 3, but only 1 tokens were sent"
    assert said[-1] == f"r1 fails, FAILED_PRECONDITION: {told}"
    assert DROP in said


def test_a_client_that_got_more_from_another_gateway_goes_on_here() -> None:
    """It left, got two tokens elsewhere, and was back before its call here ended."""
    front = opened()
    front.chunk(0, 7)
    asked(front, resumes=2, emitted=(7, 8, 9))
    assert front.chunk(1, 8, 9, 10) == ["r1[3] = 10"]


def test_more_tokens_than_the_worker_drew_are_refused_with_both_counts() -> None:
    front = Front()
    asked(front, resumes=1, emitted=(7, 8, 9))
    told = "tokens_received: is 3, but only 1 tokens were sent"
    assert refused(front, 1)[-1] == f"r1 fails, FAILED_PRECONDITION: {told}"


def test_tokens_that_the_client_claims_must_be_those_of_the_stream() -> None:
    front = Front()
    asked(front, resumes=1, emitted=(7, 8, 9))
    told = "tokens_received: is 3, but token 1 of the stream is another"
    assert front.chunk(0, 7, 6)[-1] == f"r1 fails, FAILED_PRECONDITION: {told}"


def test_a_worker_that_is_behind_the_client_catches_up_and_the_stream_goes_on() -> None:
    """Fuzz seed 2400: a late double of the assignment ran once more what had been sent."""
    front = Front()
    asked(front, resumes=1, emitted=(7, 8))
    assert front.chunk(0, 7) == []
    assert front.chunk(1, 8) == []
    assert front.chunk(2, 9) == ["r1[2] = 9"]


def test_a_late_refusal_of_a_stream_that_goes_on_is_ignored() -> None:
    front = Front()
    asked(front, resumes=1, emitted=(7,))
    front.chunk(1, 8)
    assert refused(front, 1) == []
    assert refused(Front(), 1) == []


def test_a_new_gateway_leaves_alone_what_its_former_lifes_clients_may_resume() -> None:
    front = Front()
    front.tell(_nothing())
    assert front.chunk(5, 7) == []
    assert front.accepted() == []
    assert displaced(front) == []
    asked(front, resumes=1, emitted=(1, 2, 3, 4, 5))
    assert front.chunk(5, 7) == ["r1[5] = 7"]


def test_after_the_grace_a_gateway_stops_what_it_does_not_know() -> None:
    front = Front()
    front.tell(_nothing())
    front.wait(GRACE - 1 * MS)
    assert front.chunk(5, 7) == []
    front.wait(1 * MS)
    assert front.chunk(5, 7) == ["d0#1: ack r1", "d0#1: cancel r1@0.0"]
    assert front.accepted() == [DROP]
    assert displaced(front) == [DROP]


def test_a_stream_that_ended_here_is_stopped_at_once_however_young_the_gateway() -> None:
    front = opened()
    front.chunk(0, 7, finish=FinishReason.STOP)
    assert front.chunk(0, 7) == ["d0#1: ack r1", "d0#1: cancel r1@0.0"]


def _nothing() -> ResumeRefused:
    return ResumeRefused(request_id=R1, output_tokens=0)


def _unavailable() -> RequestRejected:
    return RequestRejected(
        request_id=R1, epoch=Epoch(0), code=RejectCode.UNAVAILABLE, message="elsewhere"
    )


def test_a_resumed_stream_waits_for_no_report_of_what_moved_before_it_came() -> None:
    """The former gateway had those: the account would wait for them in vain."""
    front = Front()
    asked(front, resumes=1, emitted=(7, 8))
    front.accepted("d0", epoch=Epoch(0, 2))
    said = front.chunk(2, 9, epoch=Epoch(0, 2), finish=FinishReason.STOP)
    assert "r1 ends, stop, 3 tokens" in said


def test_a_resumed_stream_waits_for_the_report_of_a_move_that_it_saw() -> None:
    front = Front()
    asked(front, resumes=1, emitted=(7, 8))
    front.chunk(2, 9, epoch=Epoch(0, 1))
    said = front.chunk(3, 4, epoch=Epoch(0, 2), finish=FinishReason.STOP)
    assert "r1 ends, stop, 4 tokens" not in said
    assert "r1 ends, stop, 4 tokens" in front.wait(1 * S)


def test_a_client_that_comes_back_while_its_account_is_awaited_is_told_no_old_end() -> None:
    front = opened()
    front.chunk(0, 7, epoch=Epoch(0, 1), finish=FinishReason.STOP)
    assert front.core.resume_digest(R1) == 0
    assert asked(front, resumes=1, emitted=()) == ["controller: submit r1@0.0 +0"]
    assert "ends" not in " ".join(front.wait(900 * MS))
