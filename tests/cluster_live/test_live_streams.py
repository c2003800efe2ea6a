"""The gateway's seams to the front, driven with a real GatewayCore on an event loop."""

import asyncio
import time
from typing import Any

import pytest
import ray
from scripted_front import DECODE
from splitweave.cluster.core.gateway import GatewayCore
from splitweave.cluster.core.limits import GatewayLimits, S
from splitweave.cluster.live import gateway as live
from splitweave.cluster.live.front.session import Session
from splitweave.cluster.live.gateway import LiveOperator, LiveStreams
from splitweave.proto.cluster_events import (
    DrainAsked,
    MigrateAsked,
    RequestArrived,
    RequestDropped,
    RoleAsked,
)
from splitweave.proto.effects import (
    AnswerAsk,
    DeliverTokens,
    EndStream,
    FailStream,
    ToController,
    ToWorker,
)
from splitweave.proto.gateway_events import (
    RejectCode,
    RequestAccepted,
    RequestRejected,
    TokenChunk,
    TokensEmitted,
)
from splitweave.proto.ids import Epoch, GatewayId, RequestId, WorkerId
from splitweave.proto.requests import FinishReason, Request, SampledToken
from splitweave.proto.views import Role
from splitweave.proto.worker_events import RequestCancelled
from splitweave.workers.live.core_shell import CoreShell
from stand_ins import Called, Mailbox

R1 = RequestId("r1")
GATEWAY = GatewayId("g")
# Nothing is asked again of its own accord while a test is under way.
PATIENT = {"submit_ns": 600 * S, "stall_ns": 600 * S, "resend_ns": 500 * S}


def request(name: str = "r1") -> Request:
    return Request(request_id=RequestId(name), gateway_id=GATEWAY, token_ids=(5, 6), max_tokens=4)


class Table:
    """LiveStreams over a real core and its shell; what leaves is kept in a mailbox."""

    def __init__(self, **limits: Any) -> None:
        self.core = GatewayCore(GATEWAY, GatewayLimits(**PATIENT | limits))
        self.post = Mailbox()
        self.shell = CoreShell(self.core.step, self._perform)
        self.streams = LiveStreams(self.shell, self.core)

    def _perform(self, effect: Any) -> None:
        self.core.check()
        match effect:
            case DeliverTokens() | EndStream() | FailStream():
                self.streams.push(effect)
            case ToController(event=event):
                self.post.controller(event)
            case ToWorker(key=key, event=event):
                self.post.worker(key, event)

    def accept(self) -> None:
        self.shell.post(RequestAccepted(request_id=R1, epoch=Epoch(0), worker=DECODE))

    def tokens(self, first: int, *ids: int, finish: FinishReason | None = None) -> None:
        sampled = tuple(SampledToken(token_id=token_id) for token_id in ids)
        chunk = TokenChunk(
            request_id=R1, epoch=Epoch(0), first_index=first, tokens=sampled, finish=finish
        )
        self.shell.post(TokensEmitted(worker=DECODE, chunks=(chunk,)))

    def kinds(self, party: str) -> list[type[Any]]:
        return [type(event) for event in self.post.to(party)]


async def begun(items: Any) -> Any:
    """The next item as it is waited for."""
    first = asyncio.ensure_future(anext(items))
    await asyncio.sleep(0)
    return first


async def soon(items: Any) -> Any:
    """The next item, which is there already or comes within this turn."""
    return await asyncio.wait_for(anext(items), 60.0)


async def test_items_come_in_order_and_the_iterator_ends_after_the_end() -> None:
    table = Table()
    items = table.streams.open(request(), None)
    first = await begun(items)
    table.accept()
    table.tokens(0, 7, 8)
    table.tokens(2, 9, 10, finish=FinishReason.LENGTH)
    got = [await first, *[item async for item in items]]
    assert [type(item) for item in got] == [DeliverTokens, DeliverTokens, EndStream]
    assert [token.token_id for item in got[:2] for token in item.tokens] == [7, 8, 9, 10]
    assert not table.streams.knows(R1)


async def test_a_stream_is_known_from_its_first_step_to_its_end() -> None:
    table = Table()
    items = table.streams.open(request(), None)
    assert not table.streams.knows(R1)
    first = await begun(items)
    assert table.streams.knows(R1)
    assert table.kinds("controller") == [RequestArrived]
    table.tokens(0, 7, finish=FinishReason.STOP)
    await first
    assert not table.streams.knows(R1)


async def test_an_iterator_that_is_closed_cancels_the_request_everywhere() -> None:
    table = Table()
    items = table.streams.open(request(), None)
    first = await begun(items)
    table.accept()
    table.tokens(0, 7)
    await first
    await items.aclose()  # type: ignore[attr-defined]
    assert not table.streams.knows(R1)
    assert table.kinds("controller")[-1] is RequestDropped
    assert RequestCancelled in table.kinds("decode-0")


async def test_a_task_that_is_cancelled_while_it_waits_cancels_the_request() -> None:
    table = Table()

    async def read() -> None:
        async for _ in table.streams.open(request(), None):
            pass

    reader = asyncio.create_task(read())
    await asyncio.sleep(0)
    assert table.streams.knows(R1)
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    assert not table.streams.knows(R1)
    assert table.kinds("controller") == [RequestArrived, RequestDropped]


@pytest.mark.parametrize("finish", [None, FinishReason.STOP])
async def test_a_session_that_is_closed_cancels_what_has_not_ended(
    finish: FinishReason | None,
) -> None:
    table = Table()
    session = Session(table.streams.open(request(), None))
    await asyncio.sleep(0)
    table.accept()
    table.tokens(0, 7, finish=finish)
    await session.take()
    session.close()
    await asyncio.gather(session._pump, return_exceptions=True)
    assert not table.streams.knows(R1)
    # A worker that has sent its last token is told nothing but the ack.
    assert (RequestCancelled in table.kinds("decode-0")) == (finish is None)


async def test_what_arrives_after_the_client_left_goes_nowhere() -> None:
    table = Table()
    items = table.streams.open(request(), None)
    first = await begun(items)
    table.tokens(0, 7)
    await first
    await items.aclose()  # type: ignore[attr-defined]
    table.tokens(1, 8, finish=FinishReason.STOP)
    table.streams.push(FailStream(request_id=R1, code=RejectCode.UNAVAILABLE, message="late"))
    assert table.kinds("decode-0")[-1] is RequestCancelled  # the worker is told to stop
    assert table.streams._queues == {}  # nothing is kept for a client that is gone


async def test_an_id_that_was_used_opens_anew_without_the_old_items() -> None:
    table = Table()
    items = table.streams.open(request(), None)
    first = await begun(items)
    table.tokens(0, 7)
    await first
    await items.aclose()  # type: ignore[attr-defined]
    again = asyncio.ensure_future(anext(table.streams.open(request(), None)))
    await asyncio.sleep(0)
    table.tokens(0, 7, finish=FinishReason.STOP)  # of the first life: an older attempt
    assert not again.done()
    assert [event.request.epoch.attempt for event in table.post.to("controller")[::2]] == [0, 1]
    again.cancel()


async def test_a_stop_string_ends_the_stream_with_that_many_tokens() -> None:
    table = Table()
    items = table.streams.open(request(), None)
    first = await begun(items)
    table.accept()
    table.tokens(0, 7, 8)
    await first
    table.streams.stop_found(R1, 1)
    end = await soon(items)
    assert (end.finish, end.account.output_tokens) == (FinishReason.STOP, 1)
    assert RequestCancelled in table.kinds("decode-0")


async def test_a_rejection_is_the_streams_only_item() -> None:
    table = Table()
    items = table.streams.open(request(), None)
    first = await begun(items)
    full = RejectCode.RESOURCE_EXHAUSTED
    table.shell.post(
        RequestRejected(request_id=R1, epoch=Epoch(0), code=full, message="full", retry_after_ns=7)
    )
    item = await first
    assert isinstance(item, FailStream)
    assert (item.code, item.retry_after_ns) == (RejectCode.RESOURCE_EXHAUSTED, 7)
    with pytest.raises(StopAsyncIteration):
        await anext(items)


async def test_one_stream_too_many_fails_at_once_and_harms_no_other() -> None:
    table = Table(streams_max=1)
    first = asyncio.ensure_future(anext(table.streams.open(request(), None)))
    await asyncio.sleep(0)
    refused = await soon(table.streams.open(request("r2"), None))
    assert isinstance(refused, FailStream)
    assert refused.message == "1 streams are open (streams_max 1)"
    table.tokens(0, 7)
    assert isinstance(await first, DeliverTokens)


async def test_a_deadline_on_the_monotonic_clock_fails_the_stream_when_it_is_over() -> None:
    table = Table()
    deadline_ns = time.monotonic_ns() + 30_000_000
    item = await soon(table.streams.open(request(), deadline_ns))
    assert isinstance(item, FailStream)
    assert item.code is RejectCode.DEADLINE_EXCEEDED
    assert time.monotonic_ns() >= deadline_ns


# ---- the operator's asks


def operator() -> tuple[LiveOperator, Mailbox]:
    post = Mailbox()
    return LiveOperator(GATEWAY, post), post  # type: ignore[arg-type]


def answering(sut: LiveOperator, post: Mailbox, error: str = "") -> None:
    """A controller that answers at once."""
    post.on_mail = lambda _to, event: sut.answer(AnswerAsk(ask_id=event.ask_id, error=error))


async def test_asks_reach_the_controller_and_its_answer_comes_back() -> None:
    sut, post = operator()
    answering(sut, post, "no")
    answers = [
        await sut.drain(WorkerId("w"), 5.0),
        await sut.migrate(R1, WorkerId("t")),
        await sut.migrate(R1, None),
        await sut.set_role(WorkerId("w"), Role.MIXED),
    ]
    drain, chosen, free, role = post.to("controller")
    assert isinstance(drain, DrainAsked)
    assert drain.worker_id == "w"
    assert isinstance(chosen, MigrateAsked)
    assert (chosen.request_id, chosen.target, free.target) == ("r1", "t", None)
    assert isinstance(role, RoleAsked)
    assert (role.worker_id, role.role) == ("w", Role.MIXED)
    assert [answer.error for answer in answers] == ["no"] * 4


async def test_an_asks_id_is_new_and_names_the_gateway_to_answer() -> None:
    sut, post = operator()
    answering(sut, post)
    await asyncio.gather(*(sut.migrate(R1, None) for _ in range(20)))
    ids = [event.ask_id for event in post.to("controller")]
    assert len(set(ids)) == 20
    assert {ask_id.split("/")[0] for ask_id in ids} == {"g"}


async def test_answers_in_any_order_find_their_asks() -> None:
    sut, post = operator()
    asks = [asyncio.create_task(sut.migrate(RequestId(name), None)) for name in "abc"]
    await asyncio.sleep(0)
    for event in reversed(post.to("controller")):
        sut.answer(AnswerAsk(ask_id=event.ask_id, error=f"about {event.request_id}"))
    assert [(await ask).error for ask in asks] == ["about a", "about b", "about c"]


async def test_an_ask_without_an_answer_ends_with_its_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(live, "ASK_TIMEOUT_S", 0.02)
    sut, post = operator()
    for ask in (sut.migrate(R1, None), sut.set_role(WorkerId("w"), Role.MIXED)):
        assert (await ask).error == "no answer within 0.02 s"
    monkeypatch.setattr(live, "DRAIN_LATE_S", 0.02)
    assert (await sut.drain(WorkerId("w"), 0.03)).error == "no answer within 0.05 s"
    assert len(post.to("controller")) == 3


async def test_a_late_or_doubled_or_foreign_answer_is_dropped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(live, "ASK_TIMEOUT_S", 0.02)
    sut, post = operator()
    await sut.migrate(R1, None)
    monkeypatch.setattr(live, "ASK_TIMEOUT_S", 60.0)
    late = post.to("controller")[0].ask_id
    sut.answer(AnswerAsk(ask_id=late))
    sut.answer(AnswerAsk(ask_id="never/asked"))
    ask = asyncio.create_task(sut.migrate(R1, None))
    await asyncio.sleep(0)
    now = post.to("controller")[1].ask_id
    for error in ("first", "second"):
        sut.answer(AnswerAsk(ask_id=now, error=error))
    assert (await ask).error == "first"


async def test_an_ask_that_is_given_up_is_forgotten() -> None:
    sut, _ = operator()
    ask = asyncio.create_task(sut.migrate(R1, None))
    await asyncio.sleep(0)
    ask.cancel()
    with pytest.raises(asyncio.CancelledError):
        await ask
    assert sut._asks == {}


async def test_status_is_the_controllers_own(cluster_picture: Any) -> None:
    sut, post = operator()
    post.handles["controller"] = type("Handle", (), {"status": Called(lambda: cluster_picture)})
    assert await sut.status() is cluster_picture


def raises(error: Exception) -> Any:
    def answer() -> None:
        raise error

    return answer


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (None, "the controller is not there"),
        (ray.exceptions.RayActorError(), "the controller does not answer"),
        (TimeoutError(), "the controller does not answer"),
    ],
)
async def test_status_without_a_controller_is_a_connection_error(
    error: Exception | None, says: str
) -> None:
    sut, post = operator()
    if error is not None:
        post.handles["controller"] = type("Handle", (), {"status": Called(raises(error))})
    with pytest.raises(ConnectionError, match=says):
        await sut.status()


async def test_a_drain_is_asked_again_until_it_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "DRAIN_AGAIN_S", 0.02)
    sut, post = operator()
    thrice = asyncio.Event()
    post.on_mail = lambda _to, _event: thrice.set() if len(post.mail) >= 3 else None
    drain = asyncio.create_task(sut.drain(WorkerId("w"), 600.0))
    await asyncio.wait_for(thrice.wait(), 60.0)
    first, *others = post.to("controller")
    assert all(again.ask_id == first.ask_id for again in others)
    sut.answer(AnswerAsk(ask_id=first.ask_id))
    assert (await drain).error == ""
