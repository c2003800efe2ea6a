"""The gateway that listens to a request changes while the request runs."""

from typing import Any

from parts import GATEWAY, LIMITS, MS
from solo import Solo
from splitweave.proto.effects import ToGateway
from splitweave.proto.gateway_events import ResumeRefused, TokensEmitted
from splitweave.proto.ids import GatewayId, RequestId
from splitweave.proto.requests import FinishReason
from splitweave.proto.worker_events import (
    GatewayLost,
    ListenerChanged,
    RequestCancelled,
    StreamAcked,
)

OTHER = GatewayId("other")
R = RequestId("r")


def running(tokens: int = 3, max_tokens: int = 8) -> Solo:
    solo = Solo(LIMITS)
    solo.assign("r", 5, max_tokens)
    solo.iterate(tokens)
    return solo


def changed(solo: Solo, from_index: int, gateway: GatewayId = OTHER) -> list[Any]:
    """What the worker says to the gateways when the listener changes."""
    event = ListenerChanged(request_id=R, gateway_id=gateway, from_index=from_index)
    effects = solo.step(event) or solo.effects
    return [effect for effect in effects if isinstance(effect, ToGateway)]


def chunks(said: list[Any]) -> list[tuple[str, int, int]]:
    return [
        (effect.gateway_id, chunk.first_index, len(chunk.tokens))
        for effect in said
        if isinstance(effect.event, TokensEmitted)
        for chunk in effect.event.chunks
    ]


def test_the_new_listener_gets_what_its_client_has_not_and_all_that_follows() -> None:
    solo = running()
    assert chunks(changed(solo, 1)) == [(OTHER, 1, 2)]
    solo.iterate()
    assert [chunk.first_index for chunk in solo.chunks] == [3]
    assert solo.view.requests[0].gateway_id == OTHER
    assert solo.view.requests[0].output_tokens == 4


def test_a_client_that_has_all_gets_nothing_again() -> None:
    assert chunks(changed(running(), 3)) == []


def test_a_finished_request_tells_its_end_to_the_new_listener() -> None:
    solo = running(tokens=2, max_tokens=2)
    said = changed(solo, 1)
    assert chunks(said) == [(OTHER, 1, 1)]
    assert said[0].event.chunks[0].finish is FinishReason.LENGTH


def test_the_end_alone_is_told_to_a_client_that_has_every_token() -> None:
    said = changed(running(tokens=2, max_tokens=2), 2)
    assert chunks(said) == [(OTHER, 2, 0)]
    assert said[0].event.chunks[0].finish is FinishReason.LENGTH


def test_a_client_that_has_more_than_the_whole_output_is_told_how_many_there_are() -> None:
    solo = running(tokens=3, max_tokens=3)
    said = changed(solo, 4)
    assert [(effect.gateway_id, effect.event) for effect in said] == [
        (OTHER, ResumeRefused(request_id=R, output_tokens=3))
    ]
    assert solo.view.requests == () or solo.view.requests[0].gateway_id == GATEWAY


def test_a_client_that_is_ahead_of_a_request_that_runs_again_hears_what_is_drawn() -> None:
    """Fuzz seed 2400: a late double of the assignment ran once more what had been sent."""
    solo = running()
    assert chunks(changed(solo, 5)) == []
    solo.iterate()
    assert [chunk.first_index for chunk in solo.chunks] == [3]
    assert solo.view.requests[0].gateway_id == OTHER


def test_a_listener_for_a_request_that_is_not_here_is_ignored() -> None:
    assert changed(Solo(LIMITS), 0) == []


def test_the_former_listener_can_neither_cancel_nor_acknowledge() -> None:
    solo = running()
    changed(solo, 3)
    solo.step(RequestCancelled(request_id=R, gateway_id=GATEWAY), MS)
    solo.step(StreamAcked(request_id=R, gateway_id=GATEWAY), MS)
    solo.step(GatewayLost(gateway_id=GATEWAY), MS)
    assert solo.phase("r") == "decode"


def test_the_new_listener_can_cancel_and_so_can_the_controller() -> None:
    for canceller in (OTHER, None):
        solo = running()
        changed(solo, 3)
        solo.step(RequestCancelled(request_id=R, gateway_id=canceller), MS)
        assert solo.phase("r") is None


def test_the_listener_acknowledges() -> None:
    solo = running(tokens=2, max_tokens=2)
    solo.step(StreamAcked(request_id=R, gateway_id=GATEWAY), MS)
    assert solo.phase("r") is None


def test_a_view_shows_the_digest_of_the_clients_key() -> None:
    solo = Solo(LIMITS)
    solo.assign("r", 5, 2, resume_digest=99)
    assert solo.view.requests[0].resume_digest == 99
