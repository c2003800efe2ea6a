"""Errors on the wire: a gRPC status with google.rpc details.

INVALID_ARGUMENT carries BadRequest (the field and the limit), and
RESOURCE_EXHAUSTED and UNAVAILABLE carry RetryInfo (when to come back).
"""

from dataclasses import dataclass
from typing import NoReturn

import grpc
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2  # type: ignore[import-untyped]
from grpc import aio

from ....proto.effects import FailStream
from ....proto.gateway_events import RejectCode

DETAILS_KEY = "grpc-status-details-bin"  # where gRPC carries a google.rpc.Status
VIOLATIONS_MAX = 16  # trailing metadata is limited to 8 KiB
DESCRIPTION_MAX = 240

CODES: dict[RejectCode, grpc.StatusCode] = {
    RejectCode.RESOURCE_EXHAUSTED: grpc.StatusCode.RESOURCE_EXHAUSTED,
    RejectCode.INVALID_ARGUMENT: grpc.StatusCode.INVALID_ARGUMENT,
    RejectCode.UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
    RejectCode.DEADLINE_EXCEEDED: grpc.StatusCode.DEADLINE_EXCEEDED,
    RejectCode.PERMISSION_DENIED: grpc.StatusCode.PERMISSION_DENIED,
    RejectCode.FAILED_PRECONDITION: grpc.StatusCode.FAILED_PRECONDITION,
}


@dataclass(frozen=True, slots=True)
class Violation:
    """One field that is wrong, and the limit it breaks."""

    field: str
    description: str


class Refused(Exception):
    """A call that ends with an error status instead of an answer."""

    def __init__(self, code: grpc.StatusCode, message: str, *details: Message) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.details = details


def invalid(*violations: Violation) -> Refused:
    """INVALID_ARGUMENT, naming every field that is wrong."""
    shown = [
        error_details_pb2.BadRequest.FieldViolation(
            field=violation.field, description=violation.description[:DESCRIPTION_MAX]
        )
        for violation in violations[:VIOLATIONS_MAX]
    ]
    message = "; ".join(f"{violation.field}: {violation.description}" for violation in shown)
    bad_request = error_details_pb2.BadRequest(field_violations=shown)
    return Refused(grpc.StatusCode.INVALID_ARGUMENT, message, bad_request)


def unavailable(message: str, retry_after_ns: int = 0) -> Refused:
    """UNAVAILABLE: the same call may be made again, here or elsewhere."""
    return Refused(grpc.StatusCode.UNAVAILABLE, message, _retry_info(retry_after_ns))


def failed(item: FailStream) -> Refused:
    """What a client is told of a stream that failed."""
    details = () if item.retry_after_ns is None else (_retry_info(item.retry_after_ns),)
    return Refused(CODES[item.code], item.message, *details)


async def abort(context: "aio.ServicerContext[Message, Message]", refused: Refused) -> NoReturn:
    """Ends the call with that status."""
    status = status_pb2.Status(code=code_pb2.Code.Value(refused.code.name), message=refused.message)
    for detail in refused.details:
        status.details.add().Pack(detail)
    metadata = ((DETAILS_KEY, status.SerializeToString()),)
    await context.abort(refused.code, refused.message, metadata)
    raise AssertionError("abort returned")


def _retry_info(retry_after_ns: int) -> error_details_pb2.RetryInfo:
    info = error_details_pb2.RetryInfo()
    info.retry_delay.FromNanoseconds(retry_after_ns)
    return info
