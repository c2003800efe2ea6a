"""The controller's status, as the Admin service tells it."""

from ....proto import admin_pb2 as pb
from ....proto.ids import WorkerId
from ....proto.move import Stage
from ....proto.views import Role
from ...core.membership import WorkerState
from ...core.status import (
    ClusterStatus,
    GatewayStatus,
    MoveStatus,
    RequestStatus,
    RequestTrace,
    WorkerStatus,
)
from .accounting import KINDS, NS_PER_S, move_message

ROLES = {
    Role.PREFILL: pb.ROLE_PREFILL,
    Role.DECODE: pb.ROLE_DECODE,
    Role.MIXED: pb.ROLE_MIXED,
}
ROLE_OF = {number: role for role, number in ROLES.items()}
STATES = {
    WorkerState.STARTING: pb.WORKER_STATE_STARTING,
    WorkerState.ALIVE: pb.WORKER_STATE_ALIVE,
    WorkerState.DRAINING: pb.WORKER_STATE_DRAINING,
    WorkerState.SUSPECT: pb.WORKER_STATE_SUSPECT,
    WorkerState.DEAD: pb.WORKER_STATE_DEAD,
    WorkerState.RETIRED: pb.WORKER_STATE_RETIRED,
}


def cluster_status(status: ClusterStatus, model: str) -> pb.ClusterStatus:
    """The whole picture."""
    return pb.ClusterStatus(
        model=model,
        workers=[_worker(worker) for worker in status.workers]
        + [_starting(worker_id) for worker_id in status.starting],
        requests=[_request(request) for request in status.requests],
        moves=[_move(move) for move in status.moves],
        uptime_s=status.uptime_ns / NS_PER_S,
        gateways=[_gateway(gateway) for gateway in status.gateways],
    )


def _gateway(gateway: GatewayStatus) -> pb.Gateway:
    return pb.Gateway(
        gateway_id=gateway.gateway_id,
        state=gateway.state,
        address=gateway.address,
        streams=gateway.streams,
        pid=gateway.pid,
    )


def request_trace(trace: RequestTrace) -> pb.RequestTrace:
    """One request and its moves. The controller sees no tokens: downtime is to the commit."""
    return pb.RequestTrace(
        request=_request(trace.request),
        ended=trace.ended,
        moves=[
            move_message(move, move.handover_ns if move.outcome is Stage.COMMITTED else 0)
            for move in trace.moves
        ],
        running=None if trace.running is None else _move(trace.running),
        moves_left_out=trace.moves_left_out,
    )


def _worker(worker: WorkerStatus) -> pb.Worker:
    view = worker.view
    return pb.Worker(
        worker_id=worker.worker_id,
        incarnation=worker.incarnation,
        pool=worker.pool,
        role=ROLES[worker.role],
        state=STATES[worker.state],
        node=worker.node,
        pid=worker.pid,
        waiting=view.waiting,
        running=view.running,
        blocks=pb.Blocks(
            block_tokens=worker.block_tokens,
            total=view.blocks_total,
            free=view.blocks_free,
            cached=view.blocks_cached,
            held=view.blocks_held,
            leased=view.blocks_leased,
            quarantined=view.blocks_quarantined,
        ),
        heartbeat_age_s=worker.age_ns / NS_PER_S,
        request_ids=[held.request_id for held in view.requests],
    )


def _starting(worker_id: WorkerId) -> pb.Worker:
    """Nothing is known of it but its name."""
    return pb.Worker(worker_id=worker_id, state=STATES[WorkerState.STARTING])


def _request(request: RequestStatus) -> pb.RunningRequest:
    return pb.RunningRequest(
        request_id=request.request_id,
        state=request.state,
        worker_id="" if request.worker is None else request.worker.worker_id,
        prompt_tokens=request.prompt_tokens,
        output_tokens=request.output_tokens,
        age_s=request.age_ns / NS_PER_S,
    )


def _move(move: MoveStatus) -> pb.RunningMove:
    return pb.RunningMove(
        move_id=move.move_id,
        request_id=move.request_id,
        kind=KINDS[move.kind],
        source=move.source.worker_id,
        target=move.target.worker_id,
        why=move.why,
        age_s=move.age_ns / NS_PER_S,
    )
