"""The controller's picture of everything, as plain values for operators."""

from collections.abc import Iterator
from dataclasses import dataclass

from ...proto.effects import DrainReport
from ...proto.ids import Epoch, GatewayId, Incarnation, MoveId, RequestId, WorkerId, WorkerKey
from ...proto.move import MoveKind, MoveReport
from ...proto.views import Role, WorkerView
from .drain import report_of
from .membership import WorkerRecord, WorkerState
from .moves import OpenMove, Why
from .requests import RequestState, TrackedRequest
from .state import Cluster
from .traces import LastSeen


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerStatus:
    """One worker. `age_ns`: since the controller last heard of it."""

    worker_id: WorkerId
    incarnation: Incarnation
    role: Role
    state: WorkerState
    pool: str
    node: str
    pid: int
    block_tokens: int
    view: WorkerView
    age_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestStatus:
    """One request. `state`: queued, displaced, assigned, or what its worker says of it."""

    request_id: RequestId
    gateway_id: GatewayId
    epoch: Epoch
    state: str
    worker: WorkerKey | None
    prompt_tokens: int
    output_tokens: int
    age_ns: int  # since it came to this controller


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveStatus:
    """One move whose end is not known yet."""

    move_id: MoveId
    request_id: RequestId
    kind: MoveKind
    source: WorkerKey
    target: WorkerKey
    why: Why
    age_ns: int  # since it was ordered


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayStatus:
    """One gateway, as the shell saw it last. `state`: serving, starting, silent, dead."""

    gateway_id: GatewayId
    state: str
    address: str = ""
    streams: int = 0
    pid: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainStatus:
    """One drain that has not ended."""

    worker: WorkerKey
    report: DrainReport
    age_ns: int  # since it began


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterStatus:
    """Workers by id, the dead included; requests and moves oldest first.

    `gateways` is the shell's to fill in: the core knows nothing of processes.
    `starting` are expected and have not registered with this controller yet.
    """

    workers: tuple[WorkerStatus, ...]
    requests: tuple[RequestStatus, ...]
    moves: tuple[MoveStatus, ...]
    queue_len: int
    uptime_ns: int
    gateways: tuple[GatewayStatus, ...] = ()
    drains: tuple[DrainStatus, ...] = ()
    starting: tuple[WorkerId, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestTrace:
    """One request, running or lately ended, with the moves that ended, oldest first."""

    request: RequestStatus
    ended: bool
    moves: tuple[MoveReport, ...]
    running: MoveStatus | None
    moves_left_out: int


def trace_of(cluster: Cluster, request_id: RequestId, now_ns: int) -> RequestTrace | None:
    """What is known of one request; None if it is not, or not any more."""
    tracked, trace = cluster.requests.get(request_id), cluster.traces.get(request_id)
    if tracked is not None:
        request = _request(tracked, now_ns)
    elif trace is not None and trace.last is not None:
        request = _ended(request_id, trace.last, now_ns)
    else:
        return None
    move = cluster.moves.of_request(request_id)
    return RequestTrace(
        request=request,
        ended=tracked is None,
        moves=() if trace is None else tuple(trace.moves),
        running=None if move is None else _move(move, now_ns),
        moves_left_out=0 if trace is None else trace.left_out,
    )


def status_of(cluster: Cluster, now_ns: int) -> ClusterStatus:
    """A copy of the picture, dated now."""
    started_ns = now_ns if cluster.started_ns is None else cluster.started_ns
    return ClusterStatus(
        workers=tuple(_worker(record, now_ns) for record in cluster.members.all()),
        requests=tuple(_request(tracked, now_ns) for tracked in cluster.requests.all()),
        moves=tuple(_move(move, now_ns) for move in cluster.moves.all()),
        queue_len=len(cluster.queue),
        uptime_ns=now_ns - started_ns,
        drains=tuple(_drains(cluster, now_ns)),
        starting=tuple(w for w in cluster.expected if cluster.members.get(w) is None),
    )


def _worker(record: WorkerRecord, now_ns: int) -> WorkerStatus:
    info = record.info
    return WorkerStatus(
        worker_id=info.key.worker_id,
        incarnation=info.key.incarnation,
        role=record.role,
        state=record.state,
        pool=info.pool,
        node=info.node,
        pid=info.pid,
        block_tokens=info.block_tokens,
        view=record.view,
        age_ns=now_ns - record.heard_ns,
    )


def _drains(cluster: Cluster, now_ns: int) -> Iterator[DrainStatus]:
    for key, drain in cluster.drains.items():
        record = cluster.members.current(key)
        assert record is not None, key
        report = report_of(cluster, record, drain)
        yield DrainStatus(worker=key, report=report, age_ns=now_ns - drain.began_ns)


def _request(tracked: TrackedRequest, now_ns: int) -> RequestStatus:
    assigned = tracked.state is RequestState.ASSIGNED and tracked.phase is not None
    return RequestStatus(
        request_id=tracked.request_id,
        gateway_id=tracked.gateway_id,
        epoch=tracked.epoch,
        state=str(tracked.phase if assigned else tracked.state),
        worker=tracked.owner,
        prompt_tokens=tracked.prompt_tokens,
        output_tokens=tracked.output_tokens,
        age_ns=now_ns - tracked.arrived_ns,
    )


def _ended(request_id: RequestId, last: LastSeen, now_ns: int) -> RequestStatus:
    return RequestStatus(
        request_id=request_id,
        gateway_id=last.gateway_id,
        epoch=last.epoch,
        state="ended",
        worker=last.worker,
        prompt_tokens=last.prompt_tokens,
        output_tokens=last.output_tokens,
        age_ns=now_ns - last.arrived_ns,
    )


def _move(move: OpenMove, now_ns: int) -> MoveStatus:
    return MoveStatus(
        move_id=move.order.move_id,
        request_id=move.order.request_id,
        kind=move.order.kind,
        source=move.order.source,
        target=move.order.target,
        why=move.why,
        age_ns=now_ns - move.started_ns,
    )
