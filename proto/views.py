"""Dated snapshots of workers: the only way a policy sees one."""

from dataclasses import dataclass
from enum import StrEnum

from .ids import Epoch, GatewayId, MoveId, RequestId, WorkerKey


class Role(StrEnum):
    """What a worker is asked to do. Any role can do all of it when it must."""

    PREFILL = "prefill"
    DECODE = "decode"
    MIXED = "mixed"


class Phase(StrEnum):
    """Where a request stands on the worker that holds it."""

    WAITING = "waiting"
    PREFILL = "prefill"
    DECODE = "decode"
    HANDOVER = "handover"  # stopped at the source, not yet committed
    FINISHED = "finished"  # all tokens sent, not yet acknowledged by the gateway


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldRequest:
    """One request on one worker, as of a view; `move_id` is that of its open move from there."""

    request_id: RequestId
    gateway_id: GatewayId
    epoch: Epoch
    phase: Phase
    known_tokens: int
    output_tokens: int
    resume_digest: int = 0
    move_id: MoveId | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """What a worker has measured of itself; the router's cost model.

    An iteration is predicted as iteration_ns + tokens x token_ns, bringing blocks
    back from host memory as blocks x restore_block_ns.
    """

    iteration_ns: float
    token_ns: float
    restore_block_ns: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerInfo:
    """What a worker says of itself once, when it registers.

    `host`/`port` is where its KV receiver listens; both are opaque to the cores.
    """

    key: WorkerKey
    role: Role
    pool: str
    node: str
    pid: int
    host: str
    port: int
    blocks_total: int
    block_tokens: int
    block_bytes: int
    context_tokens_max: int
    speed: Speed
    host_blocks: int = 0  # room in host memory, in blocks; 0: there is no host tier


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerView:
    """What a worker looked like at `observed_at_ns` (its own clock).

    blocks_free + blocks_held + blocks_cached + blocks_leased
    + blocks_quarantined = blocks_total. Cached blocks are unheld and may be
    evicted. `backlog_tokens` are prompt tokens admitted and not yet computed.
    `awaited` are the writers of the quarantined blocks, who have not let go.
    `host_blocks_cached` are findable in host memory, of `host_blocks_total`.
    """

    key: WorkerKey
    role: Role
    observed_at_ns: int
    draining: bool
    waiting: int
    running: int
    backlog_tokens: int
    blocks_total: int
    blocks_free: int
    blocks_held: int
    blocks_cached: int
    blocks_leased: int
    blocks_quarantined: int
    speed: Speed
    requests: tuple[HeldRequest, ...]
    awaited: tuple[WorkerKey, ...] = ()
    host_blocks_total: int = 0
    host_blocks_cached: int = 0
