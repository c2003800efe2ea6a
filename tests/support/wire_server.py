"""A gRPC server that says exactly what a test wrote down, call by call, on a real socket."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc import aio
from splitweave.proto import inference_pb2 as pb
from splitweave.proto.admin_pb2_grpc import AdminServicer, add_AdminServicer_to_server
from splitweave.proto.inference_pb2_grpc import (
    InferenceServicer,
    add_InferenceServicer_to_server,
)

DETAILS_KEY = "grpc-status-details-bin"
HANG = object()  # says nothing more until the client leaves


@dataclass(frozen=True)
class Fail:
    """A call that ends with this status; `raw` is sent as its details as it is."""

    code: grpc.StatusCode
    message: str = "so it is"
    details: tuple[Message, ...] = ()
    raw: bytes | None = None

    def metadata(self) -> tuple[tuple[str, bytes], ...]:
        if self.raw is not None:
            return ((DETAILS_KEY, self.raw),)
        status = status_pb2.Status(code=self.code.value[0], message=self.message)
        for detail in self.details:
            status.details.add().Pack(detail)
        return ((DETAILS_KEY, status.SerializeToString()),) if self.details else ()


def retry_info(delay_s: float) -> error_details_pb2.RetryInfo:
    info = error_details_pb2.RetryInfo()
    info.retry_delay.FromNanoseconds(int(delay_s * 1e9))
    return info


UNAVAILABLE = Fail(grpc.StatusCode.UNAVAILABLE)


def accepted(seed: int = 7) -> pb.GenerateReply:
    return pb.GenerateReply(accepted=pb.Accepted(seed=seed, prompt_tokens=1))


def tokens(*indexes: int) -> pb.GenerateReply:
    """Tokens of the one answer there is: number i has id 100 + i and the text "i,"."""
    new = [pb.Token(index=index, token_id=100 + index, text=f"{index},") for index in indexes]
    return pb.GenerateReply(tokens=pb.Tokens(tokens=new))


def finished(tail: str = "") -> pb.GenerateReply:
    reason = pb.FINISH_REASON_LENGTH
    return pb.GenerateReply(finished=pb.Finished(finish_reason=reason, text_tail=tail))


@dataclass
class Wire:
    """`answers`: what each call says, in order; the last one is said again and again."""

    answers: list[Sequence[Any]]
    requests: list[Any] = field(default_factory=list)
    methods: list[str] = field(default_factory=list)
    left: asyncio.Event = field(default_factory=asyncio.Event)
    called: asyncio.Event = field(default_factory=asyncio.Event)
    hanging: asyncio.Event = field(default_factory=asyncio.Event)
    remaining_s: list[float | None] = field(default_factory=list)
    address: str = ""

    async def say(self, method: str, request: Any, context: Any) -> AsyncIterator[Any]:
        self.requests.append(request)
        self.methods.append(method)
        self.called.set()
        self.remaining_s.append(context.time_remaining())
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        for item in answer:
            if isinstance(item, Fail):
                await context.abort(item.code, item.message, item.metadata())
            elif item is HANG:
                self.hanging.set()
                try:
                    await asyncio.Event().wait()
                finally:
                    self.left.set()
            else:
                yield item

    async def reply(self, method: str, request: Any, context: Any) -> Any:
        return await anext(self.say(method, request, context))


class Speaker(InferenceServicer, AdminServicer):
    """Both services, out of one script."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    async def Generate(self, request: Any, context: Any) -> AsyncIterator[Any]:
        async for item in self._wire.say("Generate", request, context):
            yield item

    async def Resume(self, request: Any, context: Any) -> AsyncIterator[Any]:
        async for item in self._wire.say("Resume", request, context):
            yield item

    async def Cancel(self, request: Any, context: Any) -> Any:
        return await self._wire.reply("Cancel", request, context)

    async def Status(self, request: Any, context: Any) -> Any:
        return await self._wire.reply("Status", request, context)

    async def Trace(self, request: Any, context: Any) -> Any:
        return await self._wire.reply("Trace", request, context)

    async def Metrics(self, request: Any, context: Any) -> Any:
        return await self._wire.reply("Metrics", request, context)

    async def Drain(self, request: Any, context: Any) -> Any:
        return await self._wire.reply("Drain", request, context)

    async def Migrate(self, request: Any, context: Any) -> Any:
        return await self._wire.reply("Migrate", request, context)

    async def SetRole(self, request: Any, context: Any) -> Any:
        return await self._wire.reply("SetRole", request, context)


@asynccontextmanager
async def wired(*answers: Sequence[Any]) -> AsyncIterator[Wire]:
    """A server with those answers; its `address` is set."""
    wire = Wire(list(answers))
    server = aio.server()
    add_InferenceServicer_to_server(Speaker(wire), server)
    add_AdminServicer_to_server(Speaker(wire), server)
    wire.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    try:
        yield wire
    finally:
        await server.stop(0.0)
