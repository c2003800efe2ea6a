"""What can happen to a worker, as facts. `WorkerCore.step` takes these."""

from dataclasses import dataclass

from .ids import BlockId, Epoch, GatewayId, HostCopyId, MoveId, PrefixHash, RequestId, WorkerKey
from .move import FetchPlan, MoveKind, MoveOrder
from .requests import Request, SampledToken
from .timers import TimerFired
from .views import Role

# ---- from the controller


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestAssigned:
    """Run this request; if `handoff` is given, move it there while it prefills.

    If `fetch` is given, get its cached prefix from there first.
    """

    request: Request
    handoff: MoveOrder | None = None
    fetch: FetchPlan | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveOrdered:
    """Move a request that is here. Unknown ones are answered by `MoveEnded`."""

    order: MoveOrder


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestCancelled:
    """Forget the request, also where it is a move's target.

    Only copies of it with an epoch <= `epoch` are meant; None means any. From a
    gateway: only if that is the one that listens; None: from the controller.
    """

    request_id: RequestId
    epoch: Epoch | None = None
    gateway_id: GatewayId | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerChanged:
    """The tokens go to another gateway from now on; its client has the first `from_index`."""

    request_id: RequestId
    gateway_id: GatewayId
    from_index: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleAssigned:
    """The worker's role from now on, and whether it is draining."""

    role: Role
    draining: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewAsked:
    """The controller is new or has lost track: register again with all you hold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerLost:
    """That incarnation is dead: nothing of it can arrive any more."""

    key: WorkerKey


# ---- from a gateway


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamAcked:
    """The gateway has the whole stream; the worker may forget it.

    From a gateway that does not listen (any more) it means nothing; None: from anyone.
    """

    request_id: RequestId
    gateway_id: GatewayId | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ResendAsked:
    """The gateway misses tokens from `from_index` on."""

    request_id: RequestId
    from_index: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayLost:
    """A gateway is gone for good: its requests have no listener."""

    gateway_id: GatewayId


# ---- from a peer, about one move


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseAsked:
    """The source asks the target to hold `blocks` blocks for a move.

    Asked again with a larger number it raises the same lease. `hashes` are the
    prefix hashes of the request's full blocks so far: what the target has
    cached of them need not be copied. `lease` counts the leases that the source
    has asked for in its life, repeats not: every later word of the move bears it,
    and a word that bears another is of a life of the move that is over.
    """

    move_id: MoveId
    lease: int
    kind: MoveKind
    source: WorkerKey
    request: Request
    hashes: tuple[PrefixHash, ...]
    blocks: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseOpened:
    """The target's block table for the move; the first `present` are filled already."""

    move_id: MoveId
    lease: int
    target: WorkerKey
    blocks: tuple[BlockId, ...]
    present: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseRefused:
    """The target cannot take the move; `delayed`: not now, but it opens the lease, unasked, as
    soon as it has room.
    """

    move_id: MoveId
    lease: int
    target: WorkerKey
    reason: str
    delayed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class HandoverOffered:
    """The source has stopped. The target may commit once all copies landed.

    `emitted` are all output tokens so far; KV exists for `computed` positions;
    `copies` names every copy of the move. Of the prompt, `cached_tokens` were not
    computed by whoever prefilled it.
    """

    move_id: MoveId
    lease: int
    source: WorkerKey
    emitted: tuple[SampledToken, ...]
    computed: int
    copies: tuple[str, ...]
    cached_tokens: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveCommitted:
    """The target runs the request now; the source may free its blocks."""

    move_id: MoveId
    lease: int
    target: WorkerKey
    epoch: Epoch


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveAborted:
    """Either side gives up. The receiver answers with `AbortAcked`.

    Of a fetch, `lease` is the number of the source's offer, in all words.
    """

    move_id: MoveId
    lease: int
    peer: WorkerKey
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AbortAcked:
    """The sender of this has no copy for that lease in flight, nor for an older one of the
    move, and starts none.
    """

    move_id: MoveId
    lease: int
    peer: WorkerKey


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchAsked:
    """A target asks for the cached blocks of `hashes`, for a request that waits there."""

    move_id: MoveId
    target: WorkerKey
    request_id: RequestId
    gateway_id: GatewayId
    epoch: Epoch
    hashes: tuple[PrefixHash, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchOffered:
    """The source holds the first `blocks` of what was asked; `copies` will name its copies.

    `offer` numbers the source's offers: a grant is for one of them.
    """

    move_id: MoveId
    source: WorkerKey
    offer: int
    blocks: int
    copies: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchGranted:
    """The target has leased `blocks` for what that offer holds: copy it there."""

    move_id: MoveId
    target: WorkerKey
    offer: int
    blocks: tuple[BlockId, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchRefused:
    """The source holds nothing of what was asked."""

    move_id: MoveId
    source: WorkerKey
    reason: str


# ---- from the worker's own shell: ends of its effects


@dataclass(frozen=True, slots=True, kw_only=True)
class IterationDone:
    """One token per chunk of the batch, None where the chunk drew none."""

    iteration: int
    sampled: tuple[SampledToken | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CopySent:
    """All of a copy has left this worker."""

    copy_id: str
    move_id: MoveId
    transfer_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyFailed:
    """A copy could not be sent, or did not arrive whole."""

    copy_id: str
    move_id: MoveId
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BlocksLanded:
    """A copy has arrived here, checksum verified, and is in its blocks."""

    copy_id: str
    move_id: MoveId
    transfer_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BlocksSpilled:
    """All blocks of a spill are in host memory."""

    host_copy_id: HostCopyId


@dataclass(frozen=True, slots=True, kw_only=True)
class BlocksRestored:
    """All blocks of a restore are on the device."""

    host_copy_id: HostCopyId


@dataclass(frozen=True, slots=True, kw_only=True)
class HostCopyFailed:
    """A spill or a restore came to nothing; what it wrote is worthless."""

    host_copy_id: HostCopyId
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TransportStuck:
    """A call that moves KV never returns: only a new process gets rid of it."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerStarted:
    """First event of a core's life; it registers and starts its heartbeat."""


PeerEvent = (
    LeaseAsked
    | LeaseOpened
    | LeaseRefused
    | HandoverOffered
    | MoveCommitted
    | MoveAborted
    | AbortAcked
    | FetchAsked
    | FetchOffered
    | FetchGranted
    | FetchRefused
)

WorkerEvent = (
    WorkerStarted
    | RequestAssigned
    | MoveOrdered
    | RequestCancelled
    | ListenerChanged
    | RoleAssigned
    | ViewAsked
    | PeerLost
    | StreamAcked
    | ResendAsked
    | GatewayLost
    | PeerEvent
    | IterationDone
    | CopySent
    | CopyFailed
    | BlocksLanded
    | BlocksSpilled
    | BlocksRestored
    | HostCopyFailed
    | TransportStuck
    | TimerFired
)
