"""What is done to a cluster, by a plan that its seed repeats, and how it got over it."""

import asyncio
import contextlib
import os
import random
import signal
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from ray.exceptions import RayError
from splitweave.benchmarks.survival.journal import Journal
from splitweave.benchmarks.survival.processes import Family
from splitweave.cluster.live.cluster import LiveCluster

FREEZE_S = 10.0
POLL_S = 0.05
BACK_S_MAX = 90.0
STATUS_S_MAX = 3.0


class Kind(StrEnum):
    """What can be done."""

    KILL_WORKER = "kill -9 worker"
    FREEZE_WORKER = f"SIGSTOP worker {FREEZE_S:g} s"
    KILL_CONTROLLER = "kill -9 controller"


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One thing to do, `at_s` after the load began. `target` is a worker's id, or empty."""

    at_s: float
    kind: Kind
    target: str = ""


@dataclass(kw_only=True)
class Recovery:
    """One fault and what followed, in seconds after it; None: it was not seen.

    `touched`: the requests that were there. `at_s` is on the monotonic clock.
    """

    fault: Fault
    at_s: float
    touched: list[str] = field(default_factory=list)
    noticed_s: float | None = None
    back_s: float | None = None


def draw_plan(
    workers: Sequence[str], kinds: Sequence[Kind], every_s: float, until_s: float, seed: int
) -> list[Fault]:
    """One fault every `every_s`; each kind once before any comes again.

    A fault on a worker names one; if that one is not alive then, the next one is hit.
    """
    generator = random.Random(seed)
    plan: list[Fault] = []
    bag: list[Kind] = []
    while (at_s := (len(plan) + 1) * every_s) < until_s:
        if not bag:
            bag = generator.sample(kinds, len(kinds))
        kind = bag.pop()
        on_worker = kind in (Kind.KILL_WORKER, Kind.FREEZE_WORKER)
        target = generator.choice(workers) if on_worker else ""
        plan.append(Fault(at_s=at_s, kind=kind, target=target))
    return plan


class Injector:
    """Does what a plan says to one cluster."""

    def __init__(self, cluster: LiveCluster, family: Family, journal: Journal) -> None:
        self._cluster = cluster
        self._family = family
        self._journal = journal
        self._thaws: set[asyncio.Task[None]] = set()
        self._under_way: set[asyncio.Task[Recovery | None]] = set()
        self.recoveries: list[Recovery] = []

    async def follow(self, plan: Sequence[Fault]) -> None:
        """The whole plan, each fault at its time, whether those before are over or not."""
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        for fault in plan:
            await asyncio.sleep(max(0.0, began_s + fault.at_s - loop.time()))
            task = asyncio.create_task(self.hurt(fault))
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)

    async def finish(self) -> None:
        """Waits until every fault so far is over, or counts as never."""
        await asyncio.gather(*self._under_way)
        await asyncio.gather(*self._thaws)

    async def hurt(self, fault: Fault) -> Recovery | None:
        """Do it, and watch until the cluster is whole again. None if there was no victim."""
        status = await self.status()
        pids = [] if status is None else _victims(fault, status, self._family)
        if not pids:
            self._journal.write("no victim", fault=fault.kind, target=fault.target)
            return None
        loop = asyncio.get_running_loop()
        recovery = Recovery(fault=fault, at_s=loop.time(), touched=_touched(fault, status))
        self._journal.write(
            "fault", fault=fault.kind, target=fault.target, pids=pids, touched=len(recovery.touched)
        )
        self.recoveries.append(recovery)
        self._strike(fault, pids[0])
        if fault.target:
            await self._watch_worker(recovery, _incarnation(status, fault.target))
        else:
            await self._watch_controller(recovery, pids[0], len(status.workers))
        self._journal.write(
            "recovery",
            fault=fault.kind,
            target=fault.target,
            noticed_s=recovery.noticed_s,
            back_s=recovery.back_s,
        )
        return recovery

    async def status(self) -> Any:
        """The controller's picture; None while it has none."""
        try:
            answer = self._cluster.actors.controller.status.remote()
            status = await asyncio.wait_for(asyncio.wrap_future(answer.future()), STATUS_S_MAX)
        except (RayError, TimeoutError):
            return None
        self._family.learn(status)
        return status

    def _strike(self, fault: Fault, pid: int) -> None:
        if fault.kind is not Kind.FREEZE_WORKER:
            os.kill(pid, signal.SIGKILL)
            return
        os.kill(pid, signal.SIGSTOP)
        task = asyncio.create_task(_thaw(pid))
        self._thaws.add(task)
        task.add_done_callback(self._thaws.discard)

    async def _watch_worker(self, recovery: Recovery, incarnation: int) -> None:
        loop = asyncio.get_running_loop()
        while (waited_s := loop.time() - recovery.at_s) < BACK_S_MAX:
            status = await self.status()
            found = (
                [w for w in status.workers if w.worker_id == recovery.fault.target]
                if status
                else []
            )
            newer = any(worker.incarnation > incarnation for worker in found)
            gone = status is not None and (not found or newer or found[0].state == "dead")
            if gone and recovery.noticed_s is None:
                recovery.noticed_s = round(waited_s, 2)
            if newer and found[0].state == "alive":
                recovery.back_s = round(waited_s, 2)
                return
            await asyncio.sleep(POLL_S)

    async def _watch_controller(self, recovery: Recovery, pid: int, workers: int) -> None:
        loop = asyncio.get_running_loop()
        while (waited_s := loop.time() - recovery.at_s) < BACK_S_MAX:
            lives = [member.pid for member in self._family.of_role("controller")]
            if recovery.noticed_s is None and lives and pid not in lives:
                recovery.noticed_s = round(waited_s, 2)
            status = await self.status() if lives and pid not in lives else None
            if status and sum(worker.state != "dead" for worker in status.workers) >= workers:
                recovery.back_s = round(waited_s, 2)
                return
            await asyncio.sleep(POLL_S)


async def _thaw(pid: int) -> None:
    await asyncio.sleep(FREEZE_S)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)


def _victims(fault: Fault, status: Any, family: Family) -> list[int]:
    if fault.kind is Kind.KILL_CONTROLLER:
        return [member.pid for member in family.of_role("controller")]
    return [
        worker.pid
        for worker in status.workers
        if worker.worker_id == fault.target and worker.state in ("alive", "draining")
    ]


def _incarnation(status: Any, worker_id: str) -> int:
    return next(w.incarnation for w in status.workers if w.worker_id == worker_id)


def _touched(fault: Fault, status: Any) -> list[str]:
    """Requests on that worker; all that run if it is not about a worker."""
    return [
        request.request_id
        for request in status.requests
        if not fault.target or (request.worker and request.worker.worker_id == fault.target)
    ]
