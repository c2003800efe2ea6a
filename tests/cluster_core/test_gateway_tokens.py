"""A stream's beginning and its tokens: once, in order, from the newest epoch."""

from control_plane import MS, S, request_of
from gateway_table import DROP, R1, Front, asked, displaced, opened, rejected
from splitweave.proto.gateway_events import GenerateAsked
from splitweave.proto.ids import Epoch, RequestId
from splitweave.proto.requests import FinishReason

# ---- submission


def test_a_request_is_submitted_until_the_controller_answers() -> None:
    front = Front()
    assert asked(front) == ["controller: submit r1@0.0 +0"]
    assert front.wait(2500 * MS) == ["controller: submit r1@0.0 +0"] * 2
    front.accepted(None)
    assert front.wait(5 * S) == []


def test_tokens_are_an_answer_too() -> None:
    front = Front()
    asked(front)
    front.chunk(0, 7)
    assert front.wait(5 * S) == []


def test_without_an_answer_the_stream_fails_at_last() -> None:
    front = Front(submits_max=3)
    asked(front)
    said = front.wait(10 * S)
    assert said[2:] == [
        DROP,
        "r1 fails, UNAVAILABLE: submitted 3 times without being placed (submits_max 3)",
    ]
    assert front.timers == {}


def test_a_rejection_ends_the_stream_with_its_words() -> None:
    front = Front()
    asked(front)
    assert rejected(front, 7) == [DROP, "r1 fails, RESOURCE_EXHAUSTED: full"]
    assert front.effects[-1].retry_after_ns == 7
    assert front.timers == {}


def test_a_rejection_of_an_older_attempt_is_ignored() -> None:
    front = opened()
    displaced(front)
    assert rejected(front) == []


def test_a_full_queue_is_waited_out_by_a_request_that_ran_before() -> None:
    front = opened()
    front.chunk(0, 7)
    displaced(front)
    assert rejected(front, 3 * S, epoch=Epoch(1)) == []
    assert front.wait(2900 * MS) == []
    assert front.wait(100 * MS) == ["controller: submit r1@1.0 +1"]


def test_a_full_queue_is_not_waited_out_for_ever() -> None:
    front = opened(submits_max=2)
    displaced(front)
    rejected(front, 1 * S, epoch=Epoch(1))
    front.wait(1 * S)
    assert rejected(front, 1 * S, epoch=Epoch(1))[-1] == "r1 fails, RESOURCE_EXHAUSTED: full"


def test_streams_are_bounded() -> None:
    front = Front(streams_max=1, retry_after_ns=5)
    asked(front)
    said = front.tell(GenerateAsked(request=request_of("r2")))
    assert said == ["r2 fails, RESOURCE_EXHAUSTED: 1 streams are open (streams_max 1)"]
    assert front.effects[0].retry_after_ns == 5


def test_an_id_that_runs_is_known_and_asking_again_does_not_touch_it() -> None:
    front = opened()
    front.chunk(0, 7)
    assert front.core.knows(R1)
    assert asked(front, max_tokens=1) == []
    assert front.chunk(1, 8) == ["r1[1] = 8"]
    assert not front.core.knows(RequestId("r2"))


# ---- tokens


def test_tokens_are_delivered_once_and_in_order() -> None:
    front = opened()
    assert front.chunk(0, 10, 11) == ["r1[0] = 10 11"]
    assert front.chunk(0, 10, 11) == []
    assert front.chunk(1, 11, 12) == ["r1[2] = 12"]


def test_a_gap_is_asked_for_and_nothing_is_held_back() -> None:
    front = opened()
    front.chunk(0, 10)
    assert front.chunk(2, 12) == ["d0#1: resend r1 from 1"]
    assert front.chunk(1, 11) == ["r1[1] = 11"]
    assert front.chunk(3, 13) == ["d0#1: resend r1 from 2"]
    assert front.chunk(2, 12, 13, 14) == ["r1[2] = 12 13 14"]


def test_a_gap_is_asked_for_again_after_a_while_not_with_every_chunk() -> None:
    front = opened()
    assert front.chunk(1, 11) == ["d0#1: resend r1 from 0"]
    front.wait(199 * MS)
    assert front.chunk(2, 12) == []
    front.wait(1 * MS)
    assert front.chunk(3, 13) == ["d0#1: resend r1 from 0"]


def test_the_last_token_ends_the_stream_everywhere() -> None:
    front = opened()
    front.chunk(0, 10)
    assert front.chunk(1, 11, finish=FinishReason.STOP) == [
        "r1[1] = 11",
        "d0#1: ack r1",
        DROP,
        "r1 ends, stop, 2 tokens",
    ]
    assert front.timers == {}
    assert len(front.core) == 0


def test_the_end_waits_for_missing_tokens() -> None:
    front = opened()
    assert front.chunk(1, 11, finish=FinishReason.STOP) == ["d0#1: resend r1 from 0"]
    assert front.chunk(0, 10, 11, finish=FinishReason.STOP)[-1] == "r1 ends, stop, 2 tokens"


def test_an_end_without_tokens_ends_the_stream() -> None:
    front = opened()
    front.chunk(0, 10)
    assert front.chunk(1, finish=FinishReason.LENGTH)[-1] == "r1 ends, length, 1 tokens"


def test_tokens_of_a_stream_that_has_ended_stop_their_worker() -> None:
    front = opened()
    front.chunk(0, 10, finish=FinishReason.STOP)
    assert front.chunk(0, 10, finish=FinishReason.STOP) == ["d0#1: ack r1", "d0#1: cancel r1@0.0"]


def test_tokens_of_an_older_epoch_are_dropped() -> None:
    front = opened()
    front.chunk(0, 10, worker="p0")
    front.chunk(1, 11, worker="d0", epoch=Epoch(0, 1))
    assert front.chunk(2, 99, worker="p0") == []
    assert front.chunk(2, 12, worker="d0", epoch=Epoch(0, 1)) == ["r1[2] = 12"]


def test_a_gap_after_a_move_is_asked_of_the_target() -> None:
    front = opened()
    front.chunk(0, 10, worker="p0")
    front.chunk(5, 99, worker="p0")  # asked of the source
    assert front.chunk(3, 13, worker="d0", epoch=Epoch(0, 1)) == ["d0#1: resend r1 from 1"]


def test_a_client_that_has_tokens_already_gets_the_next() -> None:
    front = Front()
    assert asked(front, emitted=(10, 11)) == ["controller: submit r1@0.0 +2"]
    assert front.chunk(0, 10, 11, 12) == ["r1[2] = 12"]


def test_a_client_that_has_all_tokens_gets_the_end_without_any_work() -> None:
    front = Front()
    assert asked(front, emitted=(10, 11), max_tokens=2) == [DROP, "r1 ends, length, 2 tokens"]
    assert front.timers == {}
