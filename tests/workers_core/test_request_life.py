"""Assigned, run, finished, acknowledged, or dropped: one claim each."""

from dataclasses import replace
from typing import Any

import pytest
from parts import GATEWAY, LIMITS, MS
from solo import TOKEN, Solo, handoff_of, request_of
from splitweave.proto.cluster_events import MoveEnded, RequestEnded
from splitweave.proto.effects import ClearTimer, ToGateway
from splitweave.proto.gateway_events import TokensEmitted
from splitweave.proto.ids import Epoch, GatewayId
from splitweave.proto.requests import FinishReason, Request
from splitweave.proto.timers import TimerKey
from splitweave.proto.worker_events import (
    GatewayLost,
    RequestAssigned,
    RequestCancelled,
    ResendAsked,
    StreamAcked,
)
from splitweave.workers.core import WorkerLimits


def finished(max_tokens: int = 2, limits: WorkerLimits = LIMITS) -> Solo:
    solo = Solo(limits)
    solo.assign("r", 5, max_tokens)
    solo.iterate(max_tokens)
    return solo


def again(request: Request, attempt: int, hop: int = 0, **more: Any) -> RequestAssigned:
    return RequestAssigned(request=replace(request, epoch=Epoch(attempt, hop), **more))


# ---- output


def test_every_token_is_numbered_and_sent_as_it_is_drawn() -> None:
    solo = Solo()
    solo.assign("r", 5, 4)
    numbers = []
    for _ in range(4):
        solo.iterate()
        numbers += [(chunk.first_index, len(chunk.tokens)) for chunk in solo.chunks]
    assert numbers == [(0, 1), (1, 1), (2, 1), (3, 1)]


def test_numbers_go_on_after_what_was_emitted_elsewhere() -> None:
    solo = Solo()
    solo.assign("r", 5, 4, emitted=(1, 2))
    assert solo.batch == {"r": 7}
    solo.iterate()
    assert solo.chunks[0].first_index == 2
    solo.iterate()
    assert solo.chunks[0].finish is FinishReason.LENGTH


def test_there_is_one_message_for_each_gateway_and_iteration() -> None:
    solo = Solo()
    solo.assign("r", 5)
    solo.assign("s", 5)
    solo.assign("t", 5, gateway_id=GatewayId("h"))
    solo.iterate()
    solo.iterate()
    emitted = [e for e in solo.effects if isinstance(e, ToGateway)]
    assert [(e.gateway_id, len(e.event.chunks)) for e in emitted] == [(GATEWAY, 2), ("h", 1)]


def test_chunks_carry_worker_and_epoch() -> None:
    solo = Solo()
    solo.assign("r", 5, epoch=Epoch(3))
    solo.iterate()
    assert solo.sent(TokensEmitted)[0].worker == solo.core.info.key
    assert solo.chunks[0].epoch == Epoch(3)


# ---- the end


def test_the_last_token_carries_the_reason() -> None:
    assert [chunk.finish for chunk in finished().chunks] == [FinishReason.LENGTH]


def test_a_stop_token_is_emitted_and_ends_the_stream() -> None:
    solo = Solo()
    solo.assign("r", 5, 9, stop_token_ids=frozenset({TOKEN}))
    solo.iterate()
    assert [(c.tokens[0].token_id, c.finish) for c in solo.chunks] == [(TOKEN, FinishReason.STOP)]


def test_the_context_ends_a_request() -> None:
    solo = Solo(blocks=300)
    solo.assign("r", 998, 9)
    while solo.batch:
        solo.iterate()
    assert solo.chunks[0].first_index == 1
    assert solo.chunks[0].finish is FinishReason.LENGTH


@pytest.mark.parametrize(
    ("request_", "finish"),
    [
        (request_of("r", 5, 2, emitted=(1, 2)), FinishReason.LENGTH),
        (request_of("r", 5, 9, emitted=(1,), stop_token_ids=frozenset({1})), FinishReason.STOP),
        (request_of("r", 1000, 9), FinishReason.LENGTH),
        (request_of("r", [], 9), FinishReason.ERROR),
    ],
)
def test_a_request_with_nothing_left_to_draw_ends_at_once(
    request_: Request, finish: FinishReason
) -> None:
    solo = Solo()
    solo.step(RequestAssigned(request=request_))
    assert [(c.first_index, c.tokens, c.finish) for c in solo.chunks] == [
        (len(request_.emitted), (), finish)
    ]
    assert solo.batch == {}


def test_the_controller_is_told_once() -> None:
    solo = finished()
    ended = solo.sent(RequestEnded)
    assert [(e.request_id, e.epoch, e.refused) for e in ended] == [("r", Epoch(0), "")]
    solo.step(StreamAcked(request_id="r"))
    assert solo.sent(RequestEnded) == []


def test_a_finished_request_owns_no_block_and_is_listed() -> None:
    solo = finished()
    solo.assert_no_block_used()
    assert solo.phase("r") == "finished"


def test_the_last_chunk_is_repeated_until_it_is_acknowledged() -> None:
    solo = finished()
    last = solo.chunks
    assert solo.timer("resend") == solo.now_ns + LIMITS.resend_ns
    for _ in range(3):
        solo.fire("resend", "r", LIMITS.resend_ns)
        assert solo.chunks == last
        assert solo.timer("resend") == solo.now_ns + LIMITS.resend_ns
    solo.step(StreamAcked(request_id="r"))
    assert solo.ordered(ClearTimer) == [ClearTimer(TimerKey("resend", "r"))]
    assert solo.phase("r") is None
    assert solo.fire("resend", "r") == []


def test_it_is_forgotten_after_so_many_repeats() -> None:
    solo = finished(limits=replace(LIMITS, resends_max=2))
    for expected in (1, 1, 0):
        solo.fire("resend", "r")
        assert len(solo.chunks) == expected
    assert solo.phase("r") is None


def test_no_more_finished_requests_are_kept_than_allowed() -> None:
    solo = Solo(replace(LIMITS, finished_max=2))
    for name in "rst":
        solo.assign(name, 2, 1)
        solo.iterate()
    assert [solo.phase(name) for name in "rst"] == [None, "finished", "finished"]


# ---- resends


def test_missing_tokens_are_sent_again_from_where_they_miss() -> None:
    solo = Solo()
    solo.assign("r", 5, 9)
    solo.iterate(4)
    solo.step(ResendAsked(request_id="r", from_index=1))
    assert [(c.first_index, len(c.tokens), c.finish) for c in solo.chunks] == [(1, 3, None)]


def test_a_resend_of_a_finished_request_has_its_end() -> None:
    solo = finished(4)
    solo.step(ResendAsked(request_id="r", from_index=2))
    assert [(c.first_index, len(c.tokens)) for c in solo.chunks] == [(2, 2)]
    assert solo.chunks[0].finish is FinishReason.LENGTH
    solo.step(ResendAsked(request_id="r", from_index=4))
    assert [(c.first_index, c.tokens) for c in solo.chunks] == [(4, ())]


@pytest.mark.parametrize("from_index", [-1, 1, 5])
def test_a_resend_of_what_does_not_exist_yet_is_silent(from_index: int) -> None:
    solo = Solo()
    solo.assign("r", 5, 9)
    solo.iterate()
    assert solo.step(ResendAsked(request_id="r", from_index=from_index)) == []
    assert solo.step(ResendAsked(request_id="nobody", from_index=0)) == []


# ---- assignment


def test_the_same_assignment_again_changes_nothing() -> None:
    solo = Solo()
    request = solo.assign("r", 5, 9)
    solo.iterate(2)
    assert solo.step(RequestAssigned(request=request)) == []
    assert solo.held("r").output_tokens == 2


def test_an_older_attempt_is_ignored() -> None:
    solo = Solo()
    request = solo.assign("r", 5, 9, epoch=Epoch(2))
    assert solo.step(again(request, 1)) == []
    assert solo.held("r").epoch == Epoch(2)


def test_a_newer_attempt_replaces_an_older_one_even_in_flight() -> None:
    solo = Solo()
    request = solo.assign("r", 5, 9)
    solo.iterate(2)
    solo.step(again(request, 1, emitted=(TOKEN,)))
    assert solo.held("r").epoch == Epoch(1)
    assert solo.sent(RequestEnded) == []
    solo.iterate()
    assert solo.chunks == []
    solo.iterate()
    assert [(c.first_index, c.epoch) for c in solo.chunks] == [(1, Epoch(1))]


def test_a_newer_attempt_replaces_a_finished_one() -> None:
    solo = finished()
    solo.step(again(request_of("r", 5, 9), 1))
    assert solo.phase("r") == "prefill"
    assert solo.fire("resend", "r") == []


def test_a_full_queue_refuses_and_tells_the_controller_why() -> None:
    solo = Solo(replace(LIMITS, queue_len_max=2, sequences_max=1))
    for name in "rst":
        solo.assign(name, 5)
    solo.assign("u", 5, epoch=Epoch(4))
    ended = solo.sent(RequestEnded)
    assert [(e.request_id, e.epoch) for e in ended] == [("u", Epoch(4))]
    assert ended[0].refused == "2 requests wait already"
    assert solo.phase("u") is None
    assert solo.chunks == []


def test_a_double_of_an_assignment_whose_handoff_has_ended_is_ignored() -> None:
    solo = Solo()
    order = handoff_of("r")
    request = solo.assign("r", 5, handoff=order)
    solo.step(RequestCancelled(request_id="r"))
    assert [event.report.outcome for event in solo.sent(MoveEnded)] == ["aborted"]
    assert solo.step(RequestAssigned(request=request, handoff=order)) == []


def test_a_handoff_to_oneself_is_no_handoff() -> None:
    solo = Solo()
    order = replace(handoff_of("r"), target=solo.core.info.key)
    solo.assign("r", 5, handoff=order)
    solo.iterate(2)
    assert solo.phase("r") == "decode"


# ---- dropping


@pytest.mark.parametrize("epoch", [None, Epoch(1), Epoch(1, 5), Epoch(2)])
def test_a_cancellation_covers_older_epochs(epoch: Epoch | None) -> None:
    solo = Solo()
    solo.assign("r", 5, epoch=Epoch(1))
    solo.step(RequestCancelled(request_id="r", epoch=epoch))
    assert solo.phase("r") is None
    assert len(solo.sent(RequestEnded)) == 1


def test_a_cancellation_of_an_older_epoch_means_another_copy() -> None:
    solo = Solo()
    solo.assign("r", 5, epoch=Epoch(1))
    assert solo.step(RequestCancelled(request_id="r", epoch=Epoch(0, 9))) == []
    assert solo.phase("r") == "prefill"


def test_blocks_under_an_iteration_are_freed_when_it_ends() -> None:
    solo = Solo()
    solo.assign("r", 20)
    solo.step(RequestCancelled(request_id="r"))
    assert solo.view.blocks_held == 5
    assert solo.view.requests == ()
    solo.iterate()
    solo.assert_no_block_used()
    assert solo.chunks == []


def test_an_ack_for_a_running_request_ends_it() -> None:
    solo = Solo()
    solo.assign("r", 5)
    solo.step(StreamAcked(request_id="r"))
    assert solo.phase("r") is None
    assert len(solo.sent(RequestEnded)) == 1


def test_a_lost_gateway_takes_its_requests_along_and_no_others() -> None:
    solo = Solo()
    solo.assign("r", 5)
    solo.assign("s", 5, gateway_id=GatewayId("h"))
    solo.assign("t", 5)
    solo.step(GatewayLost(gateway_id=GATEWAY))
    assert [solo.phase(name) for name in "rst"] == [None, "waiting", None]
    assert [event.request_id for event in solo.sent(RequestEnded)] == ["r", "t"]


@pytest.mark.parametrize("steps", range(8))
def test_a_cancellation_at_any_iteration_frees_everything(steps: int) -> None:
    solo = Solo()
    solo.assign("r", 40, 4)
    solo.iterate(min(steps, 6))
    solo.step(RequestCancelled(request_id="r"), MS)
    if solo.batch:
        solo.iterate()
    solo.assert_no_block_used()
    assert solo.view.requests == ()
