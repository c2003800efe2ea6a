"""Orders of the cores to their shells.

`ToController`, `ToWorker` and `ToGateway` deliver a fact to another party, at
most once, in any order, perhaps never: the cores live with that.
"""

from dataclasses import dataclass
from enum import StrEnum

from .batch import Batch
from .cluster_events import ClusterEvent
from .gateway_events import GatewayEvent, RejectCode
from .ids import (
    BlockId,
    GatewayId,
    HostBlockId,
    HostCopyId,
    MoveId,
    RequestId,
    WorkerId,
    WorkerKey,
)
from .move import Copy, MoveReport
from .requests import FinishReason, SampledToken
from .timers import ClearTimer, SetTimer
from .worker_events import WorkerEvent


@dataclass(frozen=True, slots=True)
class ToController:
    """Deliver a fact to the controller."""

    event: ClusterEvent


@dataclass(frozen=True, slots=True)
class ToWorker:
    """Deliver a fact to one incarnation of a worker; drop it if that one is gone."""

    key: WorkerKey
    event: WorkerEvent


@dataclass(frozen=True, slots=True)
class ToGateway:
    """Deliver a fact to a gateway."""

    gateway_id: GatewayId
    event: GatewayEvent


# ---- a worker's own


class EndReason(StrEnum):
    """Why a life of a worker ends itself."""

    FENCED = "fenced"  # the others took it for dead
    STUCK = "stuck"  # its transport has a call that nothing ends
    HUNG = "hung"  # its engine does not end an iteration
    INTEGRITY = "integrity"  # its own tables contradict each other


@dataclass(frozen=True, slots=True, kw_only=True)
class RunIteration:
    """Run one batch; ends in `IterationDone`.

    Each of `copies` starts as soon as its layers of this batch are stored, and
    ends in `CopySent` or `CopyFailed`. At most one iteration is in flight.
    """

    batch: Batch
    copies: tuple[Copy, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyBlocks:
    """Copy blocks that are complete already; ends like a copy of an iteration."""

    copy: Copy


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenLease:
    """Landings of copies for this lease may be written from now on."""

    move_id: MoveId
    lease: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseLease:
    """No landing of a copy for this lease may touch a block from now on."""

    move_id: MoveId
    lease: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EndProcess:
    """End the process at once, without a word: whoever started it starts the next life.

    `detail` is for the log.
    """

    why: EndReason
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpillBlocks:
    """Copy whole blocks to host memory, `blocks[i]` to `host_blocks[i]`.

    Ends in one `BlocksSpilled` or `HostCopyFailed`. Host copies run in the order
    in which they were ordered.
    """

    host_copy_id: HostCopyId
    blocks: tuple[BlockId, ...]
    host_blocks: tuple[HostBlockId, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreBlocks:
    """Copy whole blocks back, `host_blocks[i]` to `blocks[i]`.

    Ends in one `BlocksRestored` or `HostCopyFailed`.
    """

    host_copy_id: HostCopyId
    blocks: tuple[BlockId, ...]
    host_blocks: tuple[HostBlockId, ...]


WorkerEffect = (
    ToController
    | ToWorker
    | ToGateway
    | RunIteration
    | CopyBlocks
    | OpenLease
    | CloseLease
    | EndProcess
    | SpillBlocks
    | RestoreBlocks
    | SetTimer
    | ClearTimer
)


# ---- a gateway's own


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliverTokens:
    """Give the client these tokens; each index is delivered exactly once, in order."""

    request_id: RequestId
    first_index: int
    tokens: tuple[SampledToken, ...]
    worker: WorkerKey


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamAccount:
    """What became of one stream, on the gateway's clock. `workers` in order of visit.

    `downtimes_ns` has, per committed move in `moves`, the gap between the last
    token of its source and the first of its target; 0 for a fetch. Of `cached_tokens`
    some came from host memory, some from a peer; the rest was on the device.
    """

    workers: tuple[WorkerKey, ...]
    moves: tuple[MoveReport, ...]
    downtimes_ns: tuple[int, ...]
    prompt_tokens: int
    cached_tokens: int
    output_tokens: int
    attempts: int
    arrived_ns: int
    first_token_ns: int | None
    last_token_ns: int | None
    cached_host_tokens: int = 0
    cached_peer_tokens: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class EndStream:
    """The stream is complete."""

    request_id: RequestId
    finish: FinishReason
    account: StreamAccount


@dataclass(frozen=True, slots=True, kw_only=True)
class FailStream:
    """The stream ends with an error."""

    request_id: RequestId
    code: RejectCode
    message: str
    retry_after_ns: int | None = None


GatewayEffect = (
    ToController | ToWorker | DeliverTokens | EndStream | FailStream | SetTimer | ClearTimer
)


# ---- the cluster's own


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainReport:
    """How far a drain is. `requests` were there when it began, `left` are there now."""

    requests: int
    left: int
    moved: int
    recomputed: int
    transfer_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerAsk:
    """The end of an operator's ask. `error` is empty if it was done."""

    ask_id: str
    error: str = ""
    report: MoveReport | None = None
    drained: DrainReport | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RetireWorker:
    """That worker is done with: its process ends, and no other is started for it."""

    key: WorkerKey


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartWorker:
    """That life's process shall end if it still runs; the next life begins."""

    key: WorkerKey


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartStarting:
    """That worker's next life has not registered in time: its process, which may be stuck while
    it loads the model, shall end; a further life begins.
    """

    worker_id: WorkerId


ClusterEffect = (
    ToWorker
    | ToGateway
    | AnswerAsk
    | RetireWorker
    | RestartWorker
    | RestartStarting
    | SetTimer
    | ClearTimer
)
