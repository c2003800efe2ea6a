"""A gateway without a cluster: a byte tokenizer, a scripted model, a real server.

Tokens 0 to 255 are bytes, 256 is the end of sequence, 257 and up are the words
of `WORDS`: tokens that hold several characters, or parts of them.
"""

import asyncio
import codecs
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from splitweave.cluster.live.front.seams import Served, StreamItem
from splitweave.cluster.live.front.server import Endpoint, Front
from splitweave.proto.effects import DeliverTokens, EndStream, FailStream, StreamAccount
from splitweave.proto.gateway_events import RejectCode
from splitweave.proto.ids import (
    Epoch,
    GatewayId,
    Incarnation,
    MoveId,
    RequestId,
    WorkerId,
    WorkerKey,
)
from splitweave.proto.move import MoveKind, MoveReport, Stage
from splitweave.proto.requests import FinishReason, Request, SampledToken, TokenLogprobs

EOS = 256
WORDS = (b"ST", b"OP", b"STOP", b" the", "ü".encode()[:1], "ü".encode()[1:], "日本".encode()[:4])
VOCABULARY = [bytes([byte]) for byte in range(256)] + [b"</s>", *WORDS]
CONTEXT = 4096
PREFILL = WorkerKey(WorkerId("prefill-0"), Incarnation(1))
DECODE = WorkerKey(WorkerId("decode-0"), Incarnation(1))


class Utf8Decoder:
    """Bytes to text, whole characters only."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token_id: int) -> str:
        return self._decoder.decode(VOCABULARY[token_id])

    def flush(self) -> str:
        return self._decoder.decode(b"", final=True)


class Bytes:
    """A language of bytes."""

    def encode(self, text: str) -> Sequence[int]:
        return list(text.encode())

    def encode_chat(self, messages: Sequence[tuple[str, str]], rendered_at_s: int) -> Sequence[int]:
        if any(role == "clock" for role, _ in messages):
            return self.encode(f"<day {rendered_at_s // 86_400}>")
        if any(role == "wizard" for role, _ in messages):
            raise ValueError("the template does not know the role 'wizard'")
        return self.encode("".join(f"<{role}>{content}" for role, content in messages))

    def decoder(self) -> Utf8Decoder:
        return Utf8Decoder()


SERVED = Served(
    gateway_id=GatewayId("gateway-0"),
    name="scripted",
    context_tokens_max=CONTEXT,
    vocab_size=len(VOCABULARY),
    block_tokens=16,
    eos_token_ids=frozenset({EOS}),
    language=Bytes(),
)


def text_tokens(text: str) -> list[int]:
    """The text in tokens of one byte."""
    return list(text.encode())


def account(request: Request, output_tokens: int) -> StreamAccount:
    """One handoff, half of it hidden, 20 ms to the first token, 10 ms for each further."""
    move = MoveReport(
        move_id=MoveId("move-1"), kind=MoveKind.HANDOFF, request_id=request.request_id,
        epoch=Epoch(0), source=PREFILL, target=DECODE, outcome=Stage.COMMITTED, reason="",
        blocks=2, transfer_bytes=1000, hidden_bytes=500,
        reserve_ns=1_000_000, copy_ns=2_000_000, handover_ns=3_000_000,
        asked_ns=5_000_000, ended_ns=11_000_000, flight_ns=500_000, copies=4, repeats=1,
        pulled=True,
    )  # fmt: skip
    return StreamAccount(
        workers=(PREFILL, DECODE), moves=(move,), downtimes_ns=(4_000_000,),
        prompt_tokens=request.prompt_tokens, cached_tokens=0, output_tokens=output_tokens,
        attempts=1, arrived_ns=0, first_token_ns=20_000_000,
        last_token_ns=20_000_000 + 10_000_000 * (output_tokens - 1),
    )  # fmt: skip


@dataclass
class Script:
    """What the model says, and what goes wrong. Also what became of it.

    The answer continues at len(request.emitted), as a real cluster's would.
    """

    tokens: Sequence[int]
    batch: int = 1
    pause_at: int | None = None  # hangs before this token
    failures: list[FailStream | int] = field(default_factory=list)  # one per open; int: at token
    opened: list[Request] = field(default_factory=list)
    deadlines: list[int | None] = field(default_factory=list)
    gone: list[RequestId] = field(default_factory=list)  # closed before their end
    stops: list[tuple[RequestId, int]] = field(default_factory=list)
    paused: asyncio.Event = field(default_factory=asyncio.Event)
    left: asyncio.Event = field(default_factory=asyncio.Event)
    running: set[RequestId] = field(default_factory=set)
    leaving: bool = False

    def knows(self, request_id: RequestId) -> bool:
        return request_id in self.running

    def resume_digest(self, request_id: RequestId) -> int | None:
        return self.opened[-1].resume_digest if request_id in self.running else None

    def leave(self) -> None:
        self.leaving = True

    def stop_found(self, request_id: RequestId, output_tokens: int) -> None:
        self.stops.append((request_id, output_tokens))

    async def open(self, request: Request, deadline_ns: int | None) -> AsyncIterator[StreamItem]:
        self.opened.append(request)
        self.deadlines.append(deadline_ns)
        self.running.add(request.request_id)
        fail = self.failures.pop(0) if self.failures else None
        ended = False
        try:
            if isinstance(fail, FailStream):
                ended = True
                yield fail
                return
            async for item in self._say(request, fail):
                ended = not isinstance(item, DeliverTokens)
                yield item
        finally:
            self.running.discard(request.request_id)
            if not ended:
                self.gone.append(request.request_id)
                self.left.set()

    async def _say(self, request: Request, fail_at: int | None) -> AsyncIterator[StreamItem]:
        end = min(request.max_tokens, len(self.tokens))
        start = len(request.emitted)
        while start < end:
            stop = min(start + self.batch, end)
            if fail_at is not None and fail_at < stop:
                yield unavailable(request)
                return
            if self.pause_at is not None and self.pause_at < stop:
                self.paused.set()
                await asyncio.Event().wait()
            yield deliver(request, start, self.tokens[start:stop])
            await asyncio.sleep(0)
            if self.stops and self.stops[-1][0] == request.request_id:
                yield self._end(request, FinishReason.STOP, self.stops[-1][1])
                return
            start = stop
        last = self.tokens[end - 1] if end else None
        reason = FinishReason.STOP if last in request.stop_token_ids else FinishReason.LENGTH
        yield self._end(request, reason, end)

    def _end(self, request: Request, reason: FinishReason, output_tokens: int) -> EndStream:
        told = account(request, output_tokens)
        return EndStream(request_id=request.request_id, finish=reason, account=told)


def deliver(request: Request, first_index: int, token_ids: Sequence[int]) -> DeliverTokens:
    logprobs = None
    if request.sampling.logprobs is not None:
        logprobs = TokenLogprobs(token=-0.5, top=((1, -0.25),) * request.sampling.logprobs)
    return DeliverTokens(
        request_id=request.request_id,
        first_index=first_index,
        tokens=tuple(SampledToken(token_id=item, logprobs=logprobs) for item in token_ids),
        worker=DECODE,
    )


def unavailable(request: Request) -> FailStream:
    return FailStream(
        request_id=request.request_id, code=RejectCode.UNAVAILABLE, message="no worker is left"
    )


def overloaded(retry_after_ns: int | None) -> FailStream:
    return FailStream(
        request_id=RequestId("any"),
        code=RejectCode.RESOURCE_EXHAUSTED,
        message="the queue is full: 512 requests",
        retry_after_ns=retry_after_ns,
    )


@asynccontextmanager
async def serving(script: Script, operator: object = None, port: int = 0) -> AsyncIterator[Front]:
    """A real server on a real socket of this machine."""
    endpoint = Endpoint("127.0.0.1", port)
    front = await Front.listen(endpoint, SERVED, script, operator)  # type: ignore[arg-type]
    try:
        yield front
    finally:
        await front.stop(0.0)
