"""A stream's end waits, for a moment, for the report of a move that has committed."""

from control_plane import MS, order_of, report_of
from gateway_table import R1, Front, asked, opened
from splitweave.proto.effects import EndStream
from splitweave.proto.gateway_events import ClientGone, MoveReported, StopFound
from splitweave.proto.ids import Epoch, MoveId
from splitweave.proto.move import MoveKind, Stage
from splitweave.proto.requests import FinishReason

HANDOFF = order_of("r1", "p0", "d0", MoveKind.HANDOFF)
REPORTED = MoveReported(report=report_of(HANDOFF))


def moved() -> Front:
    """The first token came from p0, all others from d0, which has taken the request over."""
    front = opened(request={"max_tokens": 3})
    front.chunk(0, 100, worker="p0")
    return front


def finish(front: Front) -> None:
    front.chunk(1, 101, 102, worker="d0", epoch=Epoch(0, 1), finish=FinishReason.LENGTH)


def ends(front: Front) -> list[EndStream]:
    return [effect for effect in front.history if isinstance(effect, EndStream)]


def test_a_report_that_comes_before_the_end_holds_nothing_up() -> None:
    front = moved()
    front.tell(REPORTED)
    finish(front)
    (end,) = ends(front)
    assert [move.move_id for move in end.account.moves] == [HANDOFF.move_id]


def test_a_report_that_comes_after_the_last_token_is_in_the_account() -> None:
    front = moved()
    finish(front)
    assert ends(front) == []
    assert front.core.knows(R1)
    front.tell(REPORTED)
    (end,) = ends(front)
    assert [move.move_id for move in end.account.moves] == [HANDOFF.move_id]
    assert (end.finish, end.account.output_tokens) == (FinishReason.LENGTH, 3)
    assert front.timers == {}
    assert len(front.core) == 0


def test_a_report_that_never_comes_delays_the_end_by_a_bound() -> None:
    front = moved()
    finish(front)
    front.wait(299 * MS)
    assert ends(front) == []
    front.wait(1 * MS)
    (end,) = ends(front)
    assert end.account.moves == ()
    assert front.timers == {}


def test_the_worker_is_acknowledged_before_the_wait() -> None:
    front = moved()
    front.chunk(1, 101, worker="d0", epoch=Epoch(0, 1))
    said = front.chunk(2, 102, worker="d0", epoch=Epoch(0, 1), finish=FinishReason.LENGTH)
    assert "d0#1: ack r1" in said


def test_only_commits_of_the_newest_attempt_count() -> None:
    """An aborted move raises no hop; a report of an older attempt is not the one."""
    front = moved()
    other = order_of("r1", "d0", "d1", MoveKind.MIGRATION, "n")
    finish(front)
    front.tell(MoveReported(report=report_of(other, Stage.ABORTED)))
    assert ends(front) == []
    front.tell(REPORTED)
    (end,) = ends(front)
    assert [move.move_id for move in end.account.moves] == [MoveId("n"), HANDOFF.move_id]


def test_a_stream_that_never_moved_ends_at_once() -> None:
    front = opened(request={"max_tokens": 1})
    front.chunk(0, 100, worker="p0", finish=FinishReason.LENGTH)
    assert len(ends(front)) == 1


def test_a_stop_string_waits_as_well_and_a_client_that_leaves_does_not() -> None:
    front = moved()
    front.chunk(1, 101, worker="d0", epoch=Epoch(0, 1))
    front.tell(StopFound(request_id=R1, output_tokens=2))
    assert ends(front) == []
    front.tell(ClientGone(request_id=R1))
    (end,) = ends(front)
    assert (end.finish, end.account.output_tokens) == (FinishReason.STOP, 2)
    gone = moved()
    gone.chunk(1, 101, worker="d0", epoch=Epoch(0, 1))
    gone.tell(ClientGone(request_id=R1))
    assert len(ends(gone)) == 1


def test_an_id_used_again_ends_the_stream_that_waits() -> None:
    front = moved()
    finish(front)
    asked(front)
    assert len(ends(front)) == 1
    assert len(front.core) == 1


def test_the_same_report_twice_counts_once() -> None:
    front = opened(request={"max_tokens": 3})
    front.chunk(0, 100, worker="p0")
    front.tell(REPORTED)
    front.tell(REPORTED)
    front.chunk(1, 101, 102, worker="d1", epoch=Epoch(0, 2), finish=FinishReason.LENGTH)
    assert ends(front) == []
