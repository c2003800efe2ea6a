"""Everything the SDK raises.

SplitweaveError
├── InvalidRequest      a field is wrong; `violations` names each and its limit
├── NotFound            no such request or worker
├── Denied              the request belongs to another client
├── Refused             not possible now (the last decode worker cannot be drained, …)
├── Overloaded          no room; `retry_after_s` says when to come back
├── Unavailable         no gateway answers, or no worker is left
├── DeadlineExceeded    `timeout_s` is over
├── Cancelled           the call was cancelled
└── ServerError         anything else: a defect on the other side

Overloaded and Unavailable are raised only after the retries are used up.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import grpc
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]

DETAILS_KEY = "grpc-status-details-bin"


@dataclass(frozen=True, slots=True)
class Violation:
    """One field that is wrong, and the limit it breaks."""

    field: str
    description: str


class SplitweaveError(Exception):
    """Base of all. `message` is one sentence for a person."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class InvalidRequest(SplitweaveError):
    """The request can never succeed as it is."""

    def __init__(self, message: str, violations: tuple[Violation, ...] = ()) -> None:
        super().__init__(message)
        self.violations = violations

    @property
    def field(self) -> str:
        """The first field that is wrong; empty if the server named none."""
        return self.violations[0].field if self.violations else ""


class NotFound(SplitweaveError):
    """No such request or worker."""


class Denied(SplitweaveError):
    """The request belongs to another client: its resume key is another."""


class Refused(SplitweaveError):
    """The state of the cluster does not allow it."""


class Overloaded(SplitweaveError):
    """The cluster has no room. `retry_after_s` is None if it did not say when."""

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Unavailable(SplitweaveError):
    """Nobody answers, or nobody can serve. Sending again is safe."""

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class DeadlineExceeded(SplitweaveError):
    """`timeout_s` is over."""


class Cancelled(SplitweaveError):
    """The call was cancelled."""


class ServerError(SplitweaveError):
    """The server failed in a way it did not plan for."""


class RpcFailure(Protocol):
    """What grpc's blocking and asyncio errors have in common."""

    def code(self) -> grpc.StatusCode: ...

    def details(self) -> str | None: ...

    def trailing_metadata(self) -> object: ...


PLAIN: dict[grpc.StatusCode, type[SplitweaveError]] = {
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.PERMISSION_DENIED: Denied,
    grpc.StatusCode.FAILED_PRECONDITION: Refused,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
    grpc.StatusCode.CANCELLED: Cancelled,
}


def from_rpc(failure: RpcFailure) -> SplitweaveError:
    """The error of our tree for a failed call."""
    code, message = failure.code(), failure.details() or failure.code().name
    details = _details(failure)
    match code:
        case grpc.StatusCode.INVALID_ARGUMENT:
            return InvalidRequest(message, _violations(details))
        case grpc.StatusCode.RESOURCE_EXHAUSTED:
            return Overloaded(message, _retry_after_s(details))
        case grpc.StatusCode.UNAVAILABLE:
            return Unavailable(message, _retry_after_s(details))
        case _:
            kind = PLAIN.get(code)
            return kind(message) if kind else ServerError(f"{code.name}: {message}")


def _details(failure: RpcFailure) -> status_pb2.Status:
    """The rich status in the trailing metadata; empty if there is none that can be read."""
    metadata = failure.trailing_metadata()
    for key, value in metadata or ():  # type: ignore[attr-defined]
        if key == DETAILS_KEY:
            return _parsed(value)
    return status_pb2.Status()


def _parsed(data: bytes) -> status_pb2.Status:
    try:
        return status_pb2.Status.FromString(data)
    except DecodeError:
        return status_pb2.Status()


def _unpacked(detail: Any, message: Message) -> bool:
    """Whether `detail` is a `message`, and can be read as one."""
    try:
        return bool(detail.Unpack(message))
    except DecodeError:
        return False


def _violations(status: status_pb2.Status) -> tuple[Violation, ...]:
    bad_request = error_details_pb2.BadRequest()
    for detail in status.details:
        if _unpacked(detail, bad_request):
            return tuple(
                Violation(item.field, item.description) for item in bad_request.field_violations
            )
    return ()


def _retry_after_s(status: status_pb2.Status) -> float | None:
    retry = error_details_pb2.RetryInfo()
    for detail in status.details:
        if _unpacked(detail, retry):
            return float(retry.retry_delay.ToNanoseconds() / 1e9)
    return None
