"""Drains several workers, tells how far they are, and restarts them one by one if asked.

Which worker may leave, and what becomes of its requests, the controller decides;
here are only the order and the report. An ask is idempotent, and repeated until
it is answered, so that a controller's restart does not lose it.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

import grpc

from ....proto import admin_pb2 as pb
from ....proto.cluster_events import AfterDrain, AtDeadline
from ....proto.effects import AnswerAsk, DrainReport
from ....proto.ids import WorkerId
from ...core.membership import WorkerState
from ...core.status import ClusterStatus, WorkerStatus
from .refusals import Refused
from .seams import DrainWish, Operator

POLL_S = 0.25
RESTART_S = 300.0  # a drained worker's next life must be alive by then
NOTHING = DrainReport(requests=0, left=0, moved=0, recomputed=0, transfer_bytes=0)
OVER = (WorkerState.DEAD, WorkerState.RETIRED)


@dataclass(kw_only=True)
class Leaving:
    """One worker on its way out. `state` is for people: waiting, draining, …"""

    worker: WorkerStatus
    state: str = "waiting"
    report: DrainReport = NOTHING
    error: str = ""

    def message(self) -> pb.WorkerDrain:
        report = self.report
        return pb.WorkerDrain(
            worker_id=self.worker.worker_id,
            state=self.state,
            requests=report.requests,
            left=report.left,
            moved=report.moved,
            recomputed=report.recomputed,
            transfer_bytes=report.transfer_bytes,
            error=self.error,
        )


@dataclass(kw_only=True)
class Evacuation:
    """A drain of some workers: all at once, or one after the other if each comes back."""

    operator: Operator
    leaving: Sequence[Leaving]
    deadline_s: float
    at_deadline: AtDeadline
    then: AfterDrain
    late: bool = field(default=False, init=False)

    async def run(self) -> AsyncIterator[pb.DrainProgress]:
        """Reports until the last worker is done. Raises Refused after the first that fails."""
        one_by_one = self.then is AfterDrain.RESTART
        groups = [[one] for one in self.leaving] if one_by_one else [list(self.leaving)]
        for group in groups:
            async for progress in self._drain(group):
                yield progress
            failed = [one for one in group if one.error]
            if failed:
                code = grpc.StatusCode.FAILED_PRECONDITION
                if self.late:
                    code = grpc.StatusCode.DEADLINE_EXCEEDED
                raise Refused(code, "; ".join(one.error for one in failed))

    async def _drain(self, group: list[Leaving]) -> AsyncIterator[pb.DrainProgress]:
        tasks = [asyncio.create_task(self._leave(one, group)) for one in group]
        try:
            while True:
                done = all(task.done() for task in tasks)
                await self._look(group)
                yield self._progress()
                if done:
                    break
                await asyncio.wait(tasks, timeout=POLL_S)
            for task in tasks:
                task.result()
        finally:
            for task in tasks:
                task.cancel()

    def _progress(self) -> pb.DrainProgress:
        return pb.DrainProgress(workers=[one.message() for one in self.leaving])

    async def _leave(self, one: Leaving, group: list[Leaving]) -> None:
        one.state = "draining"
        worker = one.worker
        wish = DrainWish(
            life=worker.incarnation,
            beside=tuple(other.worker.worker_id for other in group if other is not one),
            at_deadline=self.at_deadline,
            then=self.then,
        )
        answer = await self.operator.drain(worker.worker_id, self.deadline_s, wish)
        self._note(one, answer)
        if not one.error and self.then is AfterDrain.RESTART:
            one.state = "restarting"
            await self._await_next_life(one)

    def _note(self, one: Leaving, answer: AnswerAsk) -> None:
        one.report = answer.drained or one.report
        one.error = answer.error
        one.state = "failed" if answer.error else "empty"
        self.late = self.late or (answer.drained is not None and bool(answer.error))

    async def _await_next_life(self, one: Leaving) -> None:
        deadline_s = time.monotonic() + RESTART_S
        while time.monotonic() < deadline_s:
            status = await _status(self.operator)
            for worker in status.workers if status is not None else ():
                newer = worker.incarnation > one.worker.incarnation
                same = worker.worker_id == one.worker.worker_id
                if same and newer and worker.state is WorkerState.ALIVE:
                    one.state = "restarted"
                    return
            await asyncio.sleep(POLL_S)
        one.state = "failed"
        one.error = f"worker {one.worker.worker_id} did not come back within {RESTART_S:g} s"

    async def _look(self, group: list[Leaving]) -> None:
        """The newest counts of those that still drain."""
        status = await _status(self.operator)
        for drain in status.drains if status is not None else ():
            for one in group:
                key = (one.worker.worker_id, one.worker.incarnation)
                if key == (drain.worker.worker_id, drain.worker.incarnation):
                    one.report = drain.report


async def _status(operator: Operator) -> ClusterStatus | None:
    """None while the controller is away: the drain goes on, and so does its report."""
    try:
        return await operator.status()
    except ConnectionError:
        return None


def chosen(status: ClusterStatus, request: pb.DrainWorkersRequest) -> list[Leaving]:
    """The workers that the request means; raises Refused if there are none."""
    living = [worker for worker in status.workers if worker.state not in OVER]
    match request.WhichOneof("which"):
        case "worker_id":
            name = WorkerId(request.worker_id)
            found, what = [w for w in living if w.worker_id == name], f"worker {name!r}"
        case "node":
            found, what = [w for w in living if w.node == request.node], f"node {request.node!r}"
        case "pool":
            found, what = [w for w in living if w.pool == request.pool], f"pool {request.pool!r}"
        case _:
            found, what = living, "any worker"
    if found:
        return [Leaving(worker=worker) for worker in found]
    there = ", ".join(f"{w.worker_id} (pool {w.pool}, node {w.node})" for w in living[:32])
    raise Refused(
        grpc.StatusCode.NOT_FOUND, f"unknown {what}: no living worker; there is {there or 'none'}"
    )
