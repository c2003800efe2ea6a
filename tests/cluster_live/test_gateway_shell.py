"""A whole gateway without Ray: its own loop, the real model's words, a real socket."""

import dataclasses
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from loop_threads import ending, on_loop, started
from scripted_front import DECODE
from splitweave.client import Client, NotFound, Refused, RetryPolicy, Unavailable
from splitweave.cluster.core.gateway import GatewayCore
from splitweave.cluster.core.limits import GatewayLimits, S
from splitweave.cluster.core.status import ClusterStatus
from splitweave.cluster.live import gateway as live
from splitweave.cluster.live.gateway import Gateway
from splitweave.cluster.live.gateway_actor import GatewayActor
from splitweave.cluster.live.gateway_setup import GatewaySetup
from splitweave.cluster.live.model_path import demo_model
from splitweave.proto.cluster_events import MigrateAsked, RequestArrived, RequestDropped
from splitweave.proto.effects import AnswerAsk
from splitweave.proto.gateway_events import RequestAccepted, TokenChunk, TokensEmitted
from splitweave.proto.ids import Epoch, GatewayId, RequestId
from splitweave.proto.record import replay
from splitweave.proto.requests import FinishReason, SampledToken
from splitweave.proto.worker_events import RequestCancelled, StreamAcked
from splitweave.workers.models.tokenizer import load_tokenizer
from stand_ins import Called, Mailbox

# Nothing is asked again of its own accord while a test is under way.
PATIENT = GatewayLimits(submit_ns=600 * S, stall_ns=600 * S, resend_ns=500 * S, account_ns=600 * S)
SETUP = GatewaySetup(
    namespace="n", gateway_id=GatewayId("gateway-0"), limits=PATIENT,
    model_path=str(demo_model()), model_name="smol", context_tokens_max=0, block_tokens=16,
    host="127.0.0.1", port=0, record="",
)  # fmt: skip
ANSWER = "Grüße aus 日本!"


@pytest.fixture
def post(monkeypatch: pytest.MonkeyPatch) -> Mailbox:
    mailbox = Mailbox()
    monkeypatch.setattr(live, "Post", lambda _namespace: mailbox)
    return mailbox


@pytest.fixture
def gateway(post: Mailbox) -> Iterator[Gateway]:
    del post
    with ending(Gateway(SETUP)) as shell:
        started(shell)
        yield shell
        shell.stop(0.0)


@pytest.fixture
def client(gateway: Gateway) -> Iterator[Client]:
    with Client(gateway.address()[0], retry=RetryPolicy(tries_max=1)) as connected:
        yield connected


def answer_with(gateway: Gateway, post: Mailbox, token_ids: list[int]) -> None:
    """A controller and a worker that answer each request at once."""

    def take(_to: str, event: Any) -> None:
        if isinstance(event, RequestArrived):
            request = event.request
            chunk = TokenChunk(
                request_id=request.request_id, epoch=request.epoch, first_index=0,
                tokens=tuple(SampledToken(token_id=token_id) for token_id in token_ids),
                finish=FinishReason.LENGTH,
            )  # fmt: skip
            accepted = RequestAccepted(
                request_id=request.request_id, epoch=request.epoch, worker=DECODE
            )
            gateway.deliver([accepted, TokensEmitted(worker=DECODE, chunks=(chunk,))])

    post.on_mail = take


def test_a_request_becomes_tokens_and_tokens_become_text(
    gateway: Gateway, post: Mailbox, client: Client
) -> None:
    tokenizer = load_tokenizer(demo_model())
    answer_with(gateway, post, tokenizer.encode(ANSWER))
    result = client.generate([{"role": "user", "content": "hi"}])
    assert result.text == ANSWER
    (arrived,) = [event for event in post.to("controller") if isinstance(event, RequestArrived)]
    assert arrived.request.gateway_id == "gateway-0"
    assert tokenizer.decode(arrived.request.token_ids).endswith("hi\nassistant\n")
    assert isinstance(post.to("decode-0")[-1], StreamAcked)
    assert isinstance(post.to("controller")[-1], RequestDropped)


def test_status_goes_through_to_the_controller(
    post: Mailbox, client: Client, cluster_picture: ClusterStatus
) -> None:
    with pytest.raises(Unavailable, match="the controller is not there"):
        client.status()
    post.handles["controller"] = type("Handle", (), {"status": Called(lambda: cluster_picture)})
    assert [worker.worker_id for worker in client.status().workers] == ["decode-0", "prefill-0"]


def test_an_operators_answer_comes_through_the_mail(
    gateway: Gateway, post: Mailbox, client: Client
) -> None:
    errors = ["unknown request r9", "it does not decode now"]

    def answer(_to: str, event: Any) -> None:
        assert isinstance(event, MigrateAsked)
        gateway.deliver([AnswerAsk(ask_id=event.ask_id, error=errors.pop(0))])

    post.on_mail = answer
    with pytest.raises(NotFound, match="unknown request r9"):
        client.migrate("r9")
    with pytest.raises(Refused, match="it does not decode now"):
        client.migrate("r9")


def test_mail_that_comes_before_the_gateway_is_ready_is_kept(post: Mailbox) -> None:
    """Ray delivers from the moment the actor exists; the model is still being read."""
    chunk = TokenChunk(request_id=RequestId("lost"), epoch=Epoch(0), first_index=0, tokens=())
    setup = dataclasses.replace(SETUP, limits=GatewayLimits(resume_grace_ns=1))
    with ending(Gateway(setup)) as shell:
        # The first is the gateway's first step; by the second its youth is over.
        shell.deliver([TokensEmitted(worker=DECODE, chunks=(chunk,))] * 2)
        started(shell)
        told = on_loop(shell, lambda: [type(event) for event in post.to("decode-0")])
        shell.stop(0.0)
    assert told == [StreamAcked, RequestCancelled]  # what no gateway knows is to stop


def test_a_port_in_use_is_said_and_the_actor_stays_to_say_it(post: Mailbox) -> None:
    del post
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with ending(Gateway(dataclasses.replace(SETUP, port=port))) as shell:
            started(shell)
            address, error = shell.address()
    assert address == ""
    assert f"cannot listen on 127.0.0.1:{port}" in error
    assert "gateway.port in the config" in error


def test_a_model_that_cannot_be_read_is_said(post: Mailbox, tmp_path: Path) -> None:
    del post
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"no model")
    with ending(Gateway(dataclasses.replace(SETUP, model_path=str(broken)))) as shell:
        started(shell)
        address, error = shell.address()
    assert address == ""
    assert str(broken) in error


def test_a_stopped_gateway_does_not_listen(post: Mailbox) -> None:
    del post
    with ending(Gateway(SETUP)) as shell:
        started(shell)
        host, _, port = shell.address()[0].rpartition(":")
        shell.stop(0.0)
        with pytest.raises(ConnectionRefusedError), socket.create_connection((host, int(port))):
            pass


def test_a_recording_of_the_gateway_replays_to_the_same_orders(
    post: Mailbox, tmp_path: Path
) -> None:
    setup = dataclasses.replace(SETUP, record=str(tmp_path))
    with ending(Gateway(setup)) as shell:
        started(shell)
        answer_with(shell, post, [7, 8])
        with Client(shell.address()[0]) as client:
            client.generate("hello")
        shell.stop(0.0)
        on_loop(shell, lambda: None)
    (path,) = tmp_path.iterdir()
    assert path.name == "gateway-0.jsonl"
    replay(path, GatewayCore(setup.gateway_id, setup.limits))  # raises if an order differs
    assert len(path.read_text().splitlines()) == 3  # asked, accepted, tokens


def test_the_actor_hands_everything_to_its_gateway(post: Mailbox) -> None:
    del post
    actor = GatewayActor(SETUP)
    with ending(actor._gateway) as shell:
        started(shell)
        assert actor.address() == shell.address()
        assert actor.pid() > 0
        actor.deliver([])
        actor.stop(0.0)
