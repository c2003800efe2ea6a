"""What can happen to a gateway, as facts. `GatewayCore.step` takes these."""

from dataclasses import dataclass
from enum import StrEnum

from .ids import Epoch, RequestId, WorkerKey
from .move import MoveReport
from .requests import FinishReason, Request, SampledToken
from .timers import TimerFired
from .views import Phase


class RejectCode(StrEnum):
    """gRPC status names; the front maps them one to one."""

    RESOURCE_EXHAUSTED = "RESOURCE_EXHAUSTED"
    INVALID_ARGUMENT = "INVALID_ARGUMENT"
    UNAVAILABLE = "UNAVAILABLE"
    DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"
    PERMISSION_DENIED = "PERMISSION_DENIED"
    FAILED_PRECONDITION = "FAILED_PRECONDITION"


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerateAsked:
    """A client wants this; validated and tokenized, with a seed.

    `request.emitted` holds what a retrying client already has: empty at first. With
    more `resumes` than the stream of that id it takes it over, else it is ignored.
    """

    request: Request
    deadline_ns: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientGone:
    """The client hung up or cancelled: stop the request everywhere."""

    request_id: RequestId


@dataclass(frozen=True, slots=True, kw_only=True)
class StopFound:
    """The detokenizer met a stop string after `output_tokens` tokens."""

    request_id: RequestId
    output_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestAccepted:
    """The controller knows the request; it waits or runs at `worker`.

    `phase` is what the worker's last view said of it; None if none did yet.
    """

    request_id: RequestId
    epoch: Epoch
    worker: WorkerKey | None
    phase: Phase | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRejected:
    """The controller will not run it. `retry_after_ns` None: do not retry."""

    request_id: RequestId
    epoch: Epoch
    code: RejectCode
    message: str
    retry_after_ns: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestDisplaced:
    """No worker holds the request any more: submit it again, attempt + 1."""

    request_id: RequestId
    epoch: Epoch
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenChunk:
    """Consecutive tokens of one request, the first being number `first_index`."""

    request_id: RequestId
    epoch: Epoch
    first_index: int
    tokens: tuple[SampledToken, ...]
    finish: FinishReason | None = None
    cached_tokens: int = 0
    cached_host_tokens: int = 0
    cached_peer_tokens: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TokensEmitted:
    """One worker's tokens of one iteration for one gateway."""

    worker: WorkerKey
    chunks: tuple[TokenChunk, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ResumeRefused:
    """A client says that it has more tokens than the worker has drawn: `output_tokens`."""

    request_id: RequestId
    output_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveReported:
    """A move of one of this gateway's requests has ended, either way."""

    report: MoveReport


GatewayEvent = (
    GenerateAsked
    | ClientGone
    | StopFound
    | RequestAccepted
    | RequestRejected
    | RequestDisplaced
    | TokensEmitted
    | ResumeRefused
    | MoveReported
    | TimerFired
)
