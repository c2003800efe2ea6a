"""The controller's picture of two workers, a request and a move."""

from scripted_front import DECODE, PREFILL, account
from splitweave.cluster.core.membership import WorkerState
from splitweave.cluster.core.moves import Why
from splitweave.cluster.core.status import (
    ClusterStatus,
    MoveStatus,
    RequestStatus,
    RequestTrace,
    WorkerStatus,
)
from splitweave.proto import views
from splitweave.proto.ids import Epoch, GatewayId, MoveId, RequestId, WorkerKey
from splitweave.proto.move import MoveKind as CoreMoveKind
from splitweave.proto.requests import Request

REQUEST = Request(
    request_id=RequestId("r1"), gateway_id=GatewayId("g"), token_ids=(1,), max_tokens=9
)


def worker(key: WorkerKey, role: views.Role, *held: str) -> WorkerStatus:
    speed = views.Speed(iteration_ns=1.0, token_ns=1.0)
    requests = tuple(
        views.HeldRequest(
            request_id=RequestId(name), gateway_id=GatewayId("g"), epoch=Epoch(0),
            phase=views.Phase.DECODE, known_tokens=9, output_tokens=4,
        )
        for name in held
    )  # fmt: skip
    view = views.WorkerView(
        key=key, role=role, observed_at_ns=0, draining=False, waiting=1, running=len(held),
        backlog_tokens=0, blocks_total=100, blocks_free=50, blocks_held=30, blocks_cached=10,
        blocks_leased=6, blocks_quarantined=4, speed=speed, requests=requests,
    )  # fmt: skip
    return WorkerStatus(
        worker_id=key.worker_id, incarnation=key.incarnation, role=role, state=WorkerState.ALIVE,
        pool="p", node="node-a", pid=77, block_tokens=16, view=view, age_ns=100_000_000,
    )  # fmt: skip


STATUS = ClusterStatus(
    workers=(
        worker(DECODE, views.Role.DECODE, "r1"),
        worker(PREFILL, views.Role.PREFILL),
    ),
    requests=(
        RequestStatus(
            request_id=RequestId("r1"), gateway_id=GatewayId("g"), epoch=Epoch(0), state="decode",
            worker=DECODE, prompt_tokens=5, output_tokens=4, age_ns=2_000_000_000,
        ),
    ),
    moves=(
        MoveStatus(
            move_id=MoveId("m1"), request_id=RequestId("r1"), kind=CoreMoveKind.MIGRATION,
            source=DECODE, target=PREFILL, why=Why.OPERATOR, age_ns=5_000_000,
        ),
    ),
    queue_len=0,
    uptime_ns=60_000_000_000,
)  # fmt: skip

TRACE = RequestTrace(
    request=STATUS.requests[0],
    ended=False,
    moves=account(REQUEST, 4).moves,
    running=STATUS.moves[0],
    moves_left_out=2,
)
