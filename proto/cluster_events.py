"""What can happen to the cluster, as facts. `ClusterCore.step` takes these."""

from dataclasses import dataclass
from enum import StrEnum

from .ids import Epoch, GatewayId, Incarnation, PrefixHash, RequestId, WorkerId, WorkerKey
from .move import MoveReport
from .requests import Request
from .timers import TimerFired
from .views import Role, WorkerInfo, WorkerView


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterStarted:
    """First event of a core's life. `worker_ids`: who is expected to register."""

    worker_ids: tuple[WorkerId, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestArrived:
    """A gateway submits a request. The same (id, epoch) again is a question."""

    request: Request


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestDropped:
    """A gateway needs the request no longer (cancelled, or its stream is complete)."""

    request_id: RequestId
    gateway_id: GatewayId


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayDied:
    """The shell saw a gateway die."""

    gateway_id: GatewayId


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerRegistered:
    """A worker is there, or there again; `view` has all it holds.

    `cached` are the prefix hashes of its cached and held full blocks, `host_cached`
    those of the blocks in its host memory. `number` is that of its last heartbeat:
    the next one tells what has changed since this. `lost` are peers that it knows to
    be dead: a new controller learns of them so.
    """

    info: WorkerInfo
    view: WorkerView
    cached: tuple[PrefixHash, ...]
    number: int = 0
    lost: tuple[WorkerKey, ...] = ()
    host_cached: tuple[PrefixHash, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerViewed:
    """A heartbeat: a view, and what changed in the prefix cache since the last.

    `number` counts a worker's heartbeats; a gap means that changes were lost.
    """

    view: WorkerView
    number: int
    cached: tuple[PrefixHash, ...] = ()
    evicted: tuple[PrefixHash, ...] = ()
    host_cached: tuple[PrefixHash, ...] = ()
    host_evicted: tuple[PrefixHash, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerLost:
    """The shell saw that incarnation's process die."""

    key: WorkerKey
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestEnded:
    """A worker has finished or dropped a request.

    `refused` says why it would not run it at all (it is to be placed elsewhere);
    empty for one that has finished or was cancelled.
    """

    request_id: RequestId
    epoch: Epoch
    worker: WorkerKey
    refused: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveEnded:
    """A source reports the end of a move, committed or aborted."""

    report: MoveReport


class AtDeadline(StrEnum):
    """What becomes of requests that have not left a draining worker in time."""

    KEEP = "keep"  # whoever asked is told; the drain goes on
    RECOMPUTE = "recompute"  # each goes on elsewhere, its prompt and tokens computed again


class AfterDrain(StrEnum):
    """What becomes of a worker that is empty."""

    RETIRE = "retire"
    RESTART = "restart"


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainAsked:
    """An operator wants a worker empty. Answered when it is, or cannot be, or at the deadline.

    `life` is the incarnation meant; a later one is not drained. `beside` drain
    too, and count as gone. `within_ns` None: no deadline.
    """

    ask_id: str
    worker_id: WorkerId
    life: Incarnation | None = None
    beside: tuple[WorkerId, ...] = ()
    within_ns: int | None = None
    at_deadline: AtDeadline = AtDeadline.KEEP
    then: AfterDrain = AfterDrain.RETIRE


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrateAsked:
    """An operator wants a request elsewhere; the policy picks if `target` is None."""

    ask_id: str
    request_id: RequestId
    target: WorkerId | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleAsked:
    """An operator gives a worker another role (which also ends its drain)."""

    ask_id: str
    worker_id: WorkerId
    role: Role


ClusterEvent = (
    ClusterStarted
    | RequestArrived
    | RequestDropped
    | GatewayDied
    | WorkerRegistered
    | WorkerViewed
    | WorkerLost
    | RequestEnded
    | MoveEnded
    | DrainAsked
    | MigrateAsked
    | RoleAsked
    | TimerFired
)
