"""The cluster as an operator sees it. Frozen values; times in seconds."""

from dataclasses import dataclass
from enum import StrEnum

from ..proto import admin_pb2 as pb
from .results import KINDS, Move, MoveKind, move


class Role(StrEnum):
    """What a worker is asked to do."""

    PREFILL = "prefill"
    DECODE = "decode"
    MIXED = "mixed"


ROLES = {
    Role.PREFILL: pb.ROLE_PREFILL,
    Role.DECODE: pb.ROLE_DECODE,
    Role.MIXED: pb.ROLE_MIXED,
}
ROLE_OF = {number: role for role, number in ROLES.items()}
STATES = {
    pb.WORKER_STATE_ALIVE: "alive",
    pb.WORKER_STATE_DRAINING: "draining",
    pb.WORKER_STATE_SUSPECT: "suspect",
    pb.WORKER_STATE_DEAD: "dead",
    pb.WORKER_STATE_STARTING: "starting",
    pb.WORKER_STATE_RETIRED: "retired",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocks:
    """KV blocks of one worker: total = free + cached + held + leased + quarantined."""

    block_tokens: int
    total: int
    free: int
    cached: int
    held: int
    leased: int
    quarantined: int  # of aborted moves whose writer has not let go


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """One worker. `state`: starting, alive, draining, suspect, dead, retired or unknown."""

    worker_id: str
    incarnation: int
    role: Role
    state: str
    node: str
    pid: int
    waiting: int
    running: int
    blocks: Blocks
    heartbeat_age_s: float
    request_ids: tuple[str, ...]
    pool: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningRequest:
    """One request that was admitted and has not ended."""

    request_id: str
    state: str
    worker_id: str  # empty while it is queued
    prompt_tokens: int
    output_tokens: int
    age_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningMove:
    """One move of KV in progress."""

    move_id: str
    request_id: str
    kind: MoveKind
    source: str
    target: str
    why: str  # handoff, operator, drain, misplaced
    age_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateway:
    """One place where clients find the cluster. `state`: serving, starting, silent, dead."""

    gateway_id: str
    address: str
    state: str
    streams: int
    pid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterStatus:
    """Workers and gateways by id; requests and moves oldest first."""

    model: str
    uptime_s: float
    workers: tuple[Worker, ...]
    requests: tuple[RunningRequest, ...]
    moves: tuple[RunningMove, ...]
    gateways: tuple[Gateway, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestTrace:
    """One request, running or lately ended, and every move of its KV."""

    request: RunningRequest
    ended: bool
    moves: tuple[Move, ...]  # ended ones, oldest first; downtime counts to the commit
    running: RunningMove | None
    moves_left_out: int


def request_trace(message: pb.RequestTrace) -> RequestTrace:
    """The trace from the wire."""
    return RequestTrace(
        request=_request(message.request),
        ended=message.ended,
        moves=tuple(move(item) for item in message.moves),
        running=_move(message.running) if message.HasField("running") else None,
        moves_left_out=message.moves_left_out,
    )


def cluster_status(message: pb.ClusterStatus) -> ClusterStatus:
    """The status from the wire."""
    return ClusterStatus(
        model=message.model,
        uptime_s=message.uptime_s,
        workers=tuple(_worker(item) for item in message.workers),
        requests=tuple(_request(item) for item in message.requests),
        moves=tuple(_move(item) for item in message.moves),
        gateways=tuple(_gateway(item) for item in message.gateways),
    )


def _gateway(message: pb.Gateway) -> Gateway:
    return Gateway(
        gateway_id=message.gateway_id,
        address=message.address,
        state=message.state,
        streams=message.streams,
        pid=message.pid,
    )


def _worker(message: pb.Worker) -> Worker:
    blocks = message.blocks
    return Worker(
        worker_id=message.worker_id,
        incarnation=message.incarnation,
        role=ROLE_OF.get(message.role, Role.MIXED),
        state=STATES.get(message.state, "unknown"),
        node=message.node,
        pid=message.pid,
        waiting=message.waiting,
        running=message.running,
        blocks=Blocks(
            block_tokens=blocks.block_tokens,
            total=blocks.total,
            free=blocks.free,
            cached=blocks.cached,
            held=blocks.held,
            leased=blocks.leased,
            quarantined=blocks.quarantined,
        ),
        heartbeat_age_s=message.heartbeat_age_s,
        request_ids=tuple(message.request_ids),
        pool=message.pool,
    )


def _request(message: pb.RunningRequest) -> RunningRequest:
    return RunningRequest(
        request_id=message.request_id,
        state=message.state,
        worker_id=message.worker_id,
        prompt_tokens=message.prompt_tokens,
        output_tokens=message.output_tokens,
        age_s=message.age_s,
    )


def _move(message: pb.RunningMove) -> RunningMove:
    return RunningMove(
        move_id=message.move_id,
        request_id=message.request_id,
        kind=KINDS.get(message.kind, MoveKind.MIGRATION),
        source=message.source,
        target=message.target,
        why=message.why,
        age_s=message.age_s,
    )
