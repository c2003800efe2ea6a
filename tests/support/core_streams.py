"""A real GatewayCore under the front, with a controller and a worker that misbehave.

Timers are not run: nothing here waits for one.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence

from scripted_front import DECODE, SERVED
from splitweave.cluster.core.gateway import GatewayCore
from splitweave.cluster.core.limits import GatewayLimits
from splitweave.cluster.live.front.seams import StreamItem
from splitweave.proto.cluster_events import RequestArrived, RequestDropped
from splitweave.proto.effects import DeliverTokens, EndStream, FailStream, ToController
from splitweave.proto.gateway_events import (
    ClientGone,
    GatewayEvent,
    GenerateAsked,
    RequestAccepted,
    StopFound,
    TokenChunk,
    TokensEmitted,
)
from splitweave.proto.ids import RequestId
from splitweave.proto.requests import FinishReason, Request, SampledToken


class CoreStreams:
    """`Streams` around a GatewayCore. Each chunk of tokens is sent twice, overlapping."""

    def __init__(self, tokens: Sequence[int]) -> None:
        self._tokens = tokens
        self._core = GatewayCore(SERVED.gateway_id, GatewayLimits())
        self._now_ns = 0
        self._queues: dict[RequestId, asyncio.Queue[StreamItem]] = {}
        self.dropped: list[RequestId] = []

    def knows(self, request_id: RequestId) -> bool:
        return self._core.knows(request_id)

    def resume_digest(self, request_id: RequestId) -> int | None:
        return self._core.resume_digest(request_id)

    def leave(self) -> None:
        """Nothing leaves here."""

    async def open(self, request: Request, deadline_ns: int | None) -> AsyncIterator[StreamItem]:
        queue = self._queues[request.request_id] = asyncio.Queue()
        ended = False
        try:
            self.post(GenerateAsked(request=request))
            while not ended:
                item = await queue.get()
                ended = not isinstance(item, DeliverTokens)
                yield item
        finally:
            del self._queues[request.request_id]
            if not ended:
                self.post(ClientGone(request_id=request.request_id))

    def stop_found(self, request_id: RequestId, output_tokens: int) -> None:
        self.post(StopFound(request_id=request_id, output_tokens=output_tokens))

    def post(self, event: GatewayEvent) -> None:
        self._now_ns += 1_000_000
        for effect in self._core.step(event, self._now_ns):
            self._core.check()
            match effect:
                case DeliverTokens() | EndStream() | FailStream():
                    if effect.request_id in self._queues:
                        self._queues[effect.request_id].put_nowait(effect)
                case ToController(event=RequestArrived(request=request)):
                    asyncio.get_running_loop().call_soon(self._run, request)
                case ToController(event=RequestDropped(request_id=request_id)):
                    self.dropped.append(request_id)

    def _run(self, request: Request) -> None:
        """The whole answer, three tokens at a time, each chunk with one old token."""
        self.post(
            RequestAccepted(request_id=request.request_id, epoch=request.epoch, worker=DECODE)
        )
        end = min(request.max_tokens, len(self._tokens))
        for start in range(len(request.emitted), end, 3):
            first = max(start - 1, 0)
            stop = min(start + 3, end)
            finish = FinishReason.LENGTH if stop == end else None
            chunk = TokenChunk(
                request_id=request.request_id,
                epoch=request.epoch,
                first_index=first,
                tokens=tuple(SampledToken(token_id=item) for item in self._tokens[first:stop]),
                finish=finish,
            )
            for _ in range(2):
                self.post(TokensEmitted(worker=DECODE, chunks=(chunk,)))
