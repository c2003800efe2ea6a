"""The Admin service: an operator's asks, checked against the cluster's status first."""

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc

from ....proto import admin_pb2 as pb
from ....proto.admin_pb2_grpc import AdminServicer
from ....proto.cluster_events import AfterDrain, AtDeadline
from ....proto.effects import AnswerAsk
from ....proto.ids import RequestId, WorkerId
from ...core.status import ClusterStatus, WorkerStatus
from .accounting import move_message
from .context import Context
from .draining import Evacuation, chosen
from .picture import ROLE_OF, ROLES, cluster_status, request_trace
from .refusals import Refused, Violation, abort, invalid, unavailable
from .seams import Operator

DRAIN_S = 60.0
DRAIN_S_MAX = 86_400.0
ANSWER_S = 2.0  # the controller notices a deadline, and its answer travels
NAMES_MAX = 32
UNKNOWN = "unknown"  # how the controller begins an error about an id it does not know


class AdminService(AdminServicer):
    """Status, Trace, Metrics, Drain, DrainWorkers, Migrate and SetRole."""

    def __init__(self, model: str, operator: Operator) -> None:
        self._model = model
        self._operator = operator

    async def Status(  # noqa: N802  (the stub's names)
        self,
        request: pb.StatusRequest,  # noqa: ARG002
        context: Context,
    ) -> pb.ClusterStatus:
        async with refusing(context):
            return cluster_status(await self._operator.status(), self._model)

    async def Trace(  # noqa: N802
        self, request: pb.TraceRequest, context: Context
    ) -> pb.RequestTrace:
        async with refusing(context):
            trace = await self._operator.trace(RequestId(request.request_id))
            if trace is None:
                raise not_found(f"unknown request {request.request_id!r}, or it ended long ago")
            return request_trace(trace)

    async def Metrics(  # noqa: N802
        self,
        request: pb.MetricsRequest,  # noqa: ARG002
        context: Context,
    ) -> pb.MetricsReply:
        async with refusing(context):
            return pb.MetricsReply(text=await self._operator.metrics())

    async def Drain(  # noqa: N802
        self, request: pb.DrainRequest, context: Context
    ) -> pb.DrainReply:
        async with refusing(context):
            deadline_s = deadline_of(request)
            worker = worker_of(await self._operator.status(), request.worker_id)
            ask = self._operator.drain(WorkerId(request.worker_id), deadline_s)
            try:
                answer = await asyncio.wait_for(ask, deadline_s + ANSWER_S)
            except TimeoutError:
                message = f"{request.worker_id} is not empty after {deadline_s:g} s"
                raise Refused(grpc.StatusCode.DEADLINE_EXCEEDED, message) from None
            if answer.error and answer.drained is not None:
                raise Refused(grpc.StatusCode.DEADLINE_EXCEEDED, answer.error)
            drained = done(answer).drained
            return pb.DrainReply(
                requests=len(worker.view.requests) if drained is None else drained.requests
            )

    async def DrainWorkers(  # noqa: N802
        self, request: pb.DrainWorkersRequest, context: Context
    ) -> AsyncIterator[pb.DrainProgress]:
        async with refusing(context):
            evacuation = Evacuation(
                operator=self._operator,
                leaving=chosen(await self._operator.status(), request),
                deadline_s=deadline_of(request),
                at_deadline=AtDeadline.RECOMPUTE if request.recompute else AtDeadline.KEEP,
                then=AfterDrain.RESTART if request.restart else AfterDrain.RETIRE,
            )
            async for progress in evacuation.run():
                yield progress

    async def Migrate(  # noqa: N802
        self, request: pb.MigrateRequest, context: Context
    ) -> pb.MigrateReply:
        async with refusing(context):
            target = None
            if request.HasField("target_worker_id"):
                target = WorkerId(request.target_worker_id)
            answer = done(await self._operator.migrate(RequestId(request.request_id), target))
            reply = pb.MigrateReply()
            if answer.report is not None:
                report = answer.report
                reply.move.CopyFrom(move_message(report, report.handover_ns))
            return reply

    async def SetRole(  # noqa: N802
        self, request: pb.SetRoleRequest, context: Context
    ) -> pb.SetRoleReply:
        async with refusing(context):
            role = ROLE_OF.get(request.role)
            if role is None:
                raise invalid(Violation("role", "is missing; prefill, decode or mixed"))
            worker = worker_of(await self._operator.status(), request.worker_id)
            done(await self._operator.set_role(worker.worker_id, role))
            return pb.SetRoleReply(previous=ROLES[worker.role])


def deadline_of(request: pb.DrainRequest | pb.DrainWorkersRequest) -> float:
    """Seconds; raises Refused if they are none."""
    deadline_s = request.deadline_s if request.HasField("deadline_s") else DRAIN_S
    if not (0.0 < deadline_s <= DRAIN_S_MAX and math.isfinite(deadline_s)):
        limit = f"is {deadline_s:g}; above 0, at most {DRAIN_S_MAX:g}"
        raise invalid(Violation("deadline_s", limit))
    return deadline_s


def worker_of(status: ClusterStatus, worker_id: str) -> WorkerStatus:
    """The worker of that name; raises Refused, with the names there are."""
    for worker in status.workers:
        if worker.worker_id == worker_id:
            return worker
    names = ", ".join(worker.worker_id for worker in status.workers[:NAMES_MAX])
    raise not_found(f"unknown worker {worker_id!r}; there is {names or 'none'}")


def not_found(message: str) -> Refused:
    """NOT_FOUND, naming what was asked for."""
    return Refused(grpc.StatusCode.NOT_FOUND, message)


def done(answer: AnswerAsk) -> AnswerAsk:
    """The answer to an ask that was done; raises Refused if it was not."""
    if answer.error.startswith(UNKNOWN):
        raise not_found(answer.error)
    if answer.error:
        raise Refused(grpc.StatusCode.FAILED_PRECONDITION, answer.error)
    return answer


@asynccontextmanager
async def refusing(context: Context) -> AsyncIterator[None]:
    """Ends the call with the status of what is raised inside."""
    try:
        yield
    except Refused as refused:
        await abort(context, refused)
    except ConnectionError as error:
        await abort(context, unavailable(str(error), retry_after_ns=500_000_000))
