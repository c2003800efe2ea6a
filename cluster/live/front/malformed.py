"""Bytes that are no message (text that is not UTF-8, most often) are bad input.

grpc would answer UNKNOWN and log a traceback for what any client can send.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import grpc
from google.protobuf.message import DecodeError
from grpc import aio

from .context import Context
from .refusals import Violation, abort, invalid

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Continuation: TypeAlias = "Callable[[grpc.HandlerCallDetails], Awaitable[Handler]]"


@dataclass(frozen=True, slots=True)
class Malformed:
    """Stands for a request that could not be read."""

    reason: str


class RefuseMalformed(aio.ServerInterceptor):  # type: ignore[type-arg]  # plain at run time
    """Answers INVALID_ARGUMENT to what is no message of the method's type."""

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> Any:
        """The method's own handler (None if unknown), with a reader that does not raise."""
        handler = await continuation(handler_call_details)
        if handler is None or handler.request_streaming or handler.request_deserializer is None:
            return handler
        read = _reader(handler.request_deserializer)
        if handler.response_streaming:
            return grpc.unary_stream_rpc_method_handler(
                _stream(handler.unary_stream), read, handler.response_serializer
            )
        return grpc.unary_unary_rpc_method_handler(
            _unary(handler.unary_unary), read, handler.response_serializer
        )


def _reader(deserializer: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    def read(raw: bytes) -> Any:
        try:
            return deserializer(raw)
        except DecodeError as error:
            return Malformed(str(error))

    return read


def _stream(method: Any) -> Any:
    async def answer(request: Any, context: Context) -> AsyncIterator[Any]:
        if isinstance(request, Malformed):
            await _refuse(request, context)
        async for reply in method(request, context):
            yield reply

    return answer


def _unary(method: Any) -> Any:
    async def answer(request: Any, context: Context) -> Any:
        if isinstance(request, Malformed):
            await _refuse(request, context)
        return await method(request, context)

    return answer


async def _refuse(request: Malformed, context: Context) -> None:
    problem = f"cannot be read, all text must be UTF-8: {request.reason}"
    await abort(context, invalid(Violation("message", problem)))
