"""The gateway: a Ray actor with the gRPC front and the GatewayCore.

It holds each request's prompt, parameters and emitted tokens, so a request
outlives any worker and the controller.
"""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from typing import Any

import ray

from ...proto.cluster_events import DrainAsked, MigrateAsked, RoleAsked
from ...proto.effects import (
    AnswerAsk,
    DeliverTokens,
    EndStream,
    FailStream,
    GatewayEffect,
    ToController,
    ToWorker,
)
from ...proto.gateway_events import ClientGone, GenerateAsked, StopFound
from ...proto.ids import GatewayId, RequestId, WorkerId
from ...proto.requests import Request
from ...proto.timers import ClearTimer, SetTimer
from ...proto.views import Role
from ...workers.live.core_shell import CoreShell
from ...workers.live.loop_thread import LoopThread
from ...workers.live.post import CONTROLLER, Post
from ...workers.live.recording import open_recorder
from ..core.gateway import GatewayCore
from .front.seams import PLAIN_DRAIN, DrainWish
from .front.server import Endpoint, Front, PortInUse
from .gateway_setup import GatewaySetup
from .language import served_model

ASK_TIMEOUT_S = 60.0
DRAIN_AGAIN_S = 5.0
DRAIN_LATE_S = 30.0
StreamItem = DeliverTokens | EndStream | FailStream


class LiveStreams:
    """The core's streams as async iterators: what the gRPC front talks to."""

    def __init__(self, shell: CoreShell, core: GatewayCore) -> None:
        self._shell = shell
        self._core = core
        self._queues: dict[RequestId, asyncio.Queue[StreamItem]] = {}
        self._leaving = False

    def knows(self, request_id: RequestId) -> bool:
        return self._core.knows(request_id)

    def resume_digest(self, request_id: RequestId) -> int | None:
        return self._core.resume_digest(request_id)

    async def open(self, request: Request, deadline_ns: int | None) -> AsyncIterator[StreamItem]:
        """The stream's items in order; its last is EndStream or FailStream.

        An iterator closed before that cancels the request everywhere, unless a later
        call has the stream, or the gateway leaves.
        """
        # Bounded by max_tokens: at most one item per token.
        queue: asyncio.Queue[StreamItem] = asyncio.Queue()
        self._queues[request.request_id] = queue
        ended = False
        try:
            self._shell.post(GenerateAsked(request=request, deadline_ns=deadline_ns))
            while not ended:
                item = await queue.get()
                ended = isinstance(item, EndStream | FailStream)
                yield item
        finally:
            if self._queues.get(request.request_id) is queue:
                del self._queues[request.request_id]
                if not ended and not self._leaving:
                    self.client_gone(request.request_id)

    def leave(self) -> None:
        self._leaving = True

    def stop_found(self, request_id: RequestId, output_tokens: int) -> None:
        self._shell.post(StopFound(request_id=request_id, output_tokens=output_tokens))

    def client_gone(self, request_id: RequestId) -> None:
        self._shell.post(ClientGone(request_id=request_id))

    def push(self, item: StreamItem) -> None:
        """An item from the core; nobody may be listening any more."""
        queue = self._queues.get(item.request_id)
        if queue is not None:
            queue.put_nowait(item)


class LiveOperator:
    """Asks to the controller, answered through the gateway's mail."""

    def __init__(self, gateway_id: GatewayId, post: Post) -> None:
        self._gateway_id = gateway_id
        self._post = post
        self._asks: dict[str, asyncio.Future[AnswerAsk]] = {}

    async def status(self) -> Any:
        """The controller's `ClusterStatus`; raises ConnectionError if it is away."""
        return await self._controller("status")

    async def trace(self, request_id: RequestId) -> Any:
        """The controller's `RequestTrace`, or None; raises ConnectionError if it is away."""
        return await self._controller("trace", request_id)

    async def metrics(self) -> Any:
        """The controller's counters as text; raises ConnectionError if it is away."""
        return await self._controller("metrics")

    async def _controller(self, method: str, *arguments: Any) -> Any:
        handle = self._post.handle(CONTROLLER)
        if handle is None:
            raise ConnectionError("the controller is not there; try again in a second")
        future = getattr(handle, method).remote(*arguments).future()
        try:
            return await asyncio.wait_for(asyncio.wrap_future(future), 5.0)
        except (ray.exceptions.RayError, TimeoutError) as error:
            raise ConnectionError("the controller does not answer; try again") from error

    async def drain(
        self, worker_id: WorkerId, deadline_s: float, wish: DrainWish = PLAIN_DRAIN
    ) -> AnswerAsk:
        """Asked again until it is answered: a restarted controller knows of no ask."""
        ask_id, ends_s = self._new_id(), time.monotonic() + deadline_s
        while True:
            left_s = ends_s - time.monotonic()
            event = DrainAsked(
                ask_id=ask_id,
                worker_id=worker_id,
                life=wish.life,
                beside=wish.beside,
                within_ns=max(1, round(left_s * 1e9)),
                at_deadline=wish.at_deadline,
                then=wish.then,
            )
            # At the deadline the controller answers; computing again elsewhere takes longer.
            answer = await self._try_ask(event, min(DRAIN_AGAIN_S, left_s + DRAIN_LATE_S))
            if answer is not None:
                return answer
            if time.monotonic() >= ends_s + DRAIN_LATE_S:
                return _unanswered(ask_id, deadline_s + DRAIN_LATE_S)

    async def migrate(self, request_id: RequestId, target: WorkerId | None) -> AnswerAsk:
        event = MigrateAsked(ask_id=self._new_id(), request_id=request_id, target=target)
        return await self._ask(event, ASK_TIMEOUT_S)

    async def set_role(self, worker_id: WorkerId, role: Role) -> AnswerAsk:
        event = RoleAsked(ask_id=self._new_id(), worker_id=worker_id, role=role)
        return await self._ask(event, ASK_TIMEOUT_S)

    def answer(self, effect: AnswerAsk) -> None:
        """The controller's answer; a late one is dropped."""
        future = self._asks.pop(effect.ask_id, None)
        if future is not None and not future.done():
            future.set_result(effect)

    def _new_id(self) -> str:
        return f"{self._gateway_id}/{uuid.uuid4().hex}"

    async def _ask(self, event: Any, timeout_s: float) -> AnswerAsk:
        answer = await self._try_ask(event, timeout_s)
        return _unanswered(event.ask_id, timeout_s) if answer is None else answer

    async def _try_ask(self, event: Any, timeout_s: float) -> AnswerAsk | None:
        """None if no answer came in time."""
        future: asyncio.Future[AnswerAsk] = asyncio.get_running_loop().create_future()
        self._asks[event.ask_id] = future
        self._post.controller(event)
        try:
            return await asyncio.wait_for(future, timeout_s)
        except TimeoutError:
            return None
        finally:
            self._asks.pop(event.ask_id, None)


def _unanswered(ask_id: str, timeout_s: float) -> AnswerAsk:
    return AnswerAsk(ask_id=ask_id, error=f"no answer within {timeout_s:g} s")


class Gateway:
    """Shell of the GatewayCore. Its public methods may be called from any thread."""

    def __init__(self, setup: GatewaySetup) -> None:
        self._setup = setup
        self._core = GatewayCore(setup.gateway_id, setup.limits)
        self._early: list[Any] = []
        self._shell: CoreShell | None = None
        self._bound = ""
        self._error = ""
        self._thread = LoopThread("gateway", self._main)

    def deliver(self, events: Sequence[Any]) -> None:
        """Mail: facts for the core, answers for the operator."""
        self._thread.call_soon(self._take, events)

    def address(self) -> tuple[str, str]:
        """(host:port once it listens, why it does not)."""
        return self._bound, self._error

    @property
    def streams_open(self) -> int:
        """Streams of clients that have not ended."""
        return len(self._core)

    def stop(self, grace_s: float) -> None:
        """Stop listening; streams in flight get `grace_s` seconds."""
        self._thread.result(self._front.stop(grace_s), grace_s + 5.0)

    async def _main(self) -> None:
        setup = self._setup
        try:
            served = await asyncio.get_running_loop().run_in_executor(None, served_model, setup)
        except (OSError, ValueError) as error:
            # Restarting would not help: say why, and stay for whoever asks.
            self._error = str(error)
            return
        self._post = Post(self._setup.namespace)
        recorder = open_recorder(self._setup.record, str(self._setup.gateway_id))
        self._shell = CoreShell(self._core.step, self._perform, recorder)
        self._streams = LiveStreams(self._shell, self._core)
        self._operator = LiveOperator(self._setup.gateway_id, self._post)
        self._take(self._early)
        try:
            endpoint = Endpoint(setup.host, setup.port)
            self._front = await Front.listen(endpoint, served, self._streams, self._operator)
            self._bound = self._front.address
        except PortInUse as error:
            self._error = str(error)

    def _take(self, events: Sequence[Any]) -> None:
        if self._shell is None:
            self._early.extend(events)
            return
        for event in events:
            if isinstance(event, AnswerAsk):
                self._operator.answer(event)
            else:
                self._shell.post(event)

    def _perform(self, effect: GatewayEffect) -> None:
        match effect:
            case DeliverTokens() | EndStream() | FailStream():
                self._streams.push(effect)
            case ToController(event=event):
                self._post.controller(event)
            case ToWorker(key=key, event=event):
                self._post.worker(key, event)
            case SetTimer() | ClearTimer():
                raise AssertionError("timers are the CoreShell's")
