"""One stream at a gateway: each failure, what repairs it, and the account at its end."""

from typing import Any

import pytest
from control_plane import MS, S, key, order_of, report_of, request_of
from gateway_table import DROP, R1, Front, account, asked, displaced, moved, opened
from splitweave.proto.gateway_events import ClientGone, GenerateAsked, MoveReported, StopFound
from splitweave.proto.ids import Epoch, RequestId
from splitweave.proto.move import MoveKind, Stage
from splitweave.proto.requests import FinishReason
from splitweave.proto.views import Phase

# ---- displacement


def test_a_displaced_request_starts_again_with_what_was_delivered() -> None:
    front = opened()
    front.chunk(0, 10, 11)
    assert displaced(front) == ["controller: submit r1@1.0 +2"]
    assert front.effects[0].event.request.emitted == (10, 11)
    assert front.chunk(2, 99) == []  # the old attempt
    assert front.chunk(2, 12, epoch=Epoch(1), worker="d1") == ["r1[2] = 12"]


def test_a_displacement_is_taken_once() -> None:
    front = opened()
    displaced(front)
    assert displaced(front) == []


def test_a_displacement_older_than_what_was_heard_since_is_ignored() -> None:
    front = opened()
    front.chunk(0, 10, worker="p0")
    front.chunk(1, 11, worker="d0", epoch=Epoch(0, 1))
    assert displaced(front, Epoch(0, 0)) == []
    assert displaced(front, Epoch(0, 1)) == ["controller: submit r1@1.0 +2"]


@pytest.mark.parametrize(
    ("request_changes", "tokens", "finish"),
    [({"max_tokens": 2}, (10, 11), "length"), ({"stop_token_ids": {11}}, (10, 11), "stop")],
)
def test_a_displaced_request_whose_tokens_are_all_here_has_ended(
    request_changes: dict[str, Any], tokens: tuple[int, ...], finish: str
) -> None:
    front = opened(request=request_changes)
    front.chunk(0, *tokens)  # the message with the end was lost
    assert displaced(front)[-1] == f"r1 ends, {finish}, 2 tokens"


def test_a_displacement_of_a_stream_that_ended_is_answered_with_a_drop() -> None:
    front = opened()
    front.chunk(0, 10, finish=FinishReason.STOP)
    assert displaced(front) == [DROP]
    assert front.accepted() == [DROP]


def test_attempts_are_bounded() -> None:
    front = opened(attempts_max=2)
    displaced(front)
    assert displaced(front, Epoch(1)) == [
        DROP,
        "r1 fails, UNAVAILABLE: started 2 times (attempts_max 2); last: it died",
    ]


# ---- stalls


def test_a_stall_asks_controller_and_worker_and_at_last_starts_again() -> None:
    front = opened(stalls_max=2)
    front.chunk(0, 10, worker="d0")
    question = ["controller: submit r1@0.0 +1", "d0#1: resend r1 from 1"]
    assert front.wait(10 * S) == question
    assert front.wait(10 * S) == question
    assert front.wait(10 * S) == ["d0#1: cancel r1@0.*", "controller: submit r1@1.0 +1"]


def test_progress_puts_the_stall_off_without_a_timer_per_chunk() -> None:
    front = opened()
    front.wait(6 * S)
    front.chunk(0, 10)
    assert [type(effect).__name__ for effect in front.effects] == ["DeliverTokens"]
    assert front.wait(9 * S) == []
    assert front.wait(1 * S) != []


@pytest.mark.parametrize(
    ("answer", "patient"),
    [
        ({"worker": None}, True),
        ({"worker": "p0", "phase": Phase.WAITING}, True),
        ({"worker": "p0", "phase": Phase.PREFILL}, True),
        ({"worker": "p0", "phase": Phase.DECODE}, False),
        ({"worker": "p0", "phase": None}, False),
    ],
)
def test_waiting_and_prefilling_is_no_stall_but_a_silent_decode_is(
    answer: dict[str, Any], patient: bool
) -> None:
    front, attempts = opened(stalls_max=2), []
    for _ in range(8):
        for line in front.wait(10 * S):
            if line.startswith("controller: submit"):
                attempts.append(line.split("@")[1][0])
                front.accepted(**answer | {"epoch": Epoch(int(attempts[-1]))})
    assert (set(attempts) == {"0"}) == patient


def test_the_stall_timer_does_not_disturb_submission() -> None:
    front = Front(submit_ns=4 * S)
    asked(front)
    assert front.wait(11 * S) == ["controller: submit r1@0.0 +0"] * 2


# ---- ends from this side


def test_a_client_that_hangs_up_cancels_everywhere() -> None:
    front = opened()
    front.chunk(0, 10)
    said = front.tell(ClientGone(request_id=R1))
    assert said == ["d0#1: cancel r1@0.*", DROP, "r1 ends, cancelled, 1 tokens"]
    assert front.tell(ClientGone(request_id=R1)) == []
    assert front.timers == {}


def test_before_any_token_the_worker_that_the_controller_named_is_told() -> None:
    assert opened().tell(ClientGone(request_id=R1))[0] == "p0#1: cancel r1@0.*"


def test_a_stop_string_ends_the_stream_at_its_token() -> None:
    front = opened()
    front.chunk(0, 10, 11, 12)
    said = front.tell(StopFound(request_id=R1, output_tokens=2))
    assert said == ["d0#1: cancel r1@0.*", DROP, "r1 ends, stop, 2 tokens"]


def test_a_deadline_fails_the_stream_and_cancels_everywhere() -> None:
    front = opened(deadline_ns=3 * S)
    front.chunk(0, 10)
    assert front.wait(3 * S) == [
        "d0#1: cancel r1@0.*",
        DROP,
        "r1 fails, DEADLINE_EXCEEDED: the deadline is over after 1 tokens",
    ]
    assert front.timers == {}


def test_a_deadline_that_is_over_already_starts_nothing() -> None:
    front = Front()
    front.wait(5 * S)
    said = asked(front, deadline_ns=5 * S)
    assert said == ["r1 fails, DEADLINE_EXCEEDED: the deadline is over"]
    assert not front.core.knows(R1)


def test_a_stream_that_ends_in_time_clears_its_deadline() -> None:
    front = opened(deadline_ns=3 * S)
    front.chunk(0, 10, finish=FinishReason.STOP)
    assert front.wait(10 * S) == []


# ---- ids used again


def test_an_id_used_again_starts_above_its_old_epochs() -> None:
    front = opened()
    displaced(front)
    front.tell(ClientGone(request_id=R1))
    assert asked(front) == ["controller: submit r1@2.0 +0"]
    assert front.chunk(0, 99, epoch=Epoch(1)) == []
    assert front.chunk(0, 10, epoch=Epoch(2)) == ["r1[0] = 10"]


def test_ended_ids_are_remembered_up_to_the_limit() -> None:
    front = opened(ended_max=1)
    front.tell(ClientGone(request_id=R1))
    front.tell(GenerateAsked(request=request_of("r2")))
    front.tell(ClientGone(request_id=RequestId("r2")))
    assert asked(front) == ["controller: submit r1@0.0 +0"]


def test_an_attempt_raised_by_the_controller_is_taken_over() -> None:
    front = Front(attempts_max=2)
    asked(front)
    front.accepted(epoch=Epoch(5))
    assert front.chunk(0, 99, epoch=Epoch(4)) == []
    front.chunk(0, 10, epoch=Epoch(5))
    assert displaced(front, Epoch(5)) == ["controller: submit r1@6.0 +1"]
    front.chunk(1, 11, epoch=Epoch(6), finish=FinishReason.STOP)
    assert account(front).attempts == 2


# ---- the account


def test_the_account_has_workers_times_and_downtimes() -> None:
    front = opened()
    front.wait(100 * MS)
    front.chunk(0, 10, worker="p0")
    moved(front, "p0", "d0")
    front.wait(30 * MS)
    front.chunk(1, 11, worker="d0", epoch=Epoch(0, 1))
    moved(front, "d0", "d1", outcome=Stage.ABORTED)
    front.wait(10 * MS)
    front.chunk(2, 12, worker="d0", epoch=Epoch(0, 1))
    front.wait(40 * MS)
    front.chunk(3, 13, worker="d2", epoch=Epoch(0, 2))
    moved(front, "d0", "d2")
    moved(front, "d0", "d2")  # doubled
    front.chunk(4, 14, worker="d2", epoch=Epoch(0, 2), finish=FinishReason.LENGTH)
    result = account(front)
    assert result.workers == (key("p0"), key("d0"), key("d2"))
    assert [move.move_id for move in result.moves] == ["p0>d0", "d0>d1", "d0>d2"]
    assert result.downtimes_ns == (30 * MS, 40 * MS)
    assert (result.first_token_ns, result.last_token_ns) == (100 * MS, 180 * MS)
    assert (result.prompt_tokens, result.cached_tokens, result.output_tokens) == (100, 32, 5)
    assert (result.arrived_ns, result.attempts) == (0, 1)


def test_a_committed_move_whose_target_sent_nothing_had_no_downtime() -> None:
    front = opened()
    front.chunk(0, 10, worker="p0")
    moved(front, "p0", "d0")
    front.tell(ClientGone(request_id=R1))
    assert account(front).downtimes_ns == (0,)


def test_listed_moves_are_bounded() -> None:
    front = opened(moves_max=1)
    moved(front, "p0", "d0")
    moved(front, "d0", "d1")
    front.tell(ClientGone(request_id=R1))
    assert len(account(front).moves) == 1


def test_attempts_are_counted() -> None:
    front = opened()
    displaced(front)
    front.chunk(0, 10, epoch=Epoch(1), finish=FinishReason.STOP)
    assert account(front).attempts == 2


@pytest.mark.parametrize(
    "event",
    [
        ClientGone(request_id=R1),
        StopFound(request_id=R1, output_tokens=3),
        MoveReported(report=report_of(order_of("r1", "p0", "d0", MoveKind.HANDOFF))),
    ],
)
def test_facts_about_streams_that_are_not_open_change_nothing(event: Any) -> None:
    assert Front().tell(event) == []
