"""Does what a plan says to one running cluster, and watches how it gets over it."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ray.exceptions import RayError
from splitweave.benchmarks.survival.faults import FREEZE_S, Fault, Kind, Recovery
from splitweave.benchmarks.survival.journal import Journal
from splitweave.benchmarks.survival.processes import Family
from splitweave.cluster.live.cluster import LiveCluster

POLL_S = 0.1
BACK_S_MAX = 120.0
ANSWER_S = 3.0


@dataclass(frozen=True, kw_only=True)
class Aim:
    """Whom a fault hits: a worker's life, a gateway, or the controller."""

    target: str
    pid: int
    incarnation: int = 0
    peer: str = ""  # the other worker of a pair
    workers: int = 0  # that there were


class Injector:
    """Does what a plan says to one cluster. Those in `spared` are never hit."""

    def __init__(
        self, cluster: LiveCluster, family: Family, journal: Journal, spared: Iterable[str] = ()
    ) -> None:
        self._actors = cluster.actors
        self._gateways = cluster.actors.gateways
        self._family = family
        self._journal = journal
        self._spared = frozenset(spared)
        self._tasks: set[asyncio.Task[Any]] = set()
        self.recoveries: list[Recovery] = []

    async def follow(self, plan: Iterable[Fault], until_s: float) -> None:
        """The plan, each fault at its time, whether those before are over or not."""
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        for fault in plan:
            if fault.at_s > until_s:
                return
            await asyncio.sleep(max(0.0, began_s + fault.at_s - loop.time()))
            self._spawn(self.hurt(fault))

    async def finish(self) -> None:
        """Waits until every fault so far is over, or counts as never."""
        while self._tasks:
            await asyncio.gather(*self._tasks)

    async def hurt(self, fault: Fault) -> None:
        """Do it, and watch until the cluster is whole again."""
        status = await self.status()
        aim = None if status is None else await self._aim(fault, status)
        if aim is None:
            self._journal.write("no victim", fault=fault.kind)
            return
        loop = asyncio.get_running_loop()
        touched = _touched(fault, aim, status)
        recovery = Recovery(fault=fault, target=aim.target, at_s=loop.time(), touched=touched)
        if not await self._strike(fault, aim):
            self._journal.write("no victim", fault=fault.kind, target=aim.target)
            return
        self.recoveries.append(recovery)
        self._note("fault", recovery, requests=len(touched))
        deadline_s = loop.time() + BACK_S_MAX
        while recovery.back_s is None and loop.time() < deadline_s:
            await self._look(recovery, aim)
            await asyncio.sleep(POLL_S)
        self._note("recovery", recovery, noticed_s=recovery.noticed_s, back_s=recovery.back_s)

    async def status(self) -> Any:
        """The controller's picture; None while it has none."""
        status = await _answer(self._actors.controller.status.remote())
        if status is not None:
            self._family.learn(status)
        return status

    # ---- whom, and how

    async def _aim(self, fault: Fault, status: Any) -> Aim | None:
        if fault.kind is Kind.KILL_CONTROLLER:
            pid = await _answer(self._actors.controller.pid.remote())
            count = len(status.workers)
            aims = [] if pid is None else [Aim(target="controller", pid=pid, workers=count)]
        elif fault.kind is Kind.KILL_GATEWAY:
            # A lone gateway would only show how long one takes to come back.
            several = len(self._gateways) > 1
            aims = [
                Aim(target=str(name), pid=pid)
                for name, handle in self._gateways.items()
                if several and (pid := await _answer(handle.pid.remote())) is not None
            ]
        else:
            alive = [worker for worker in status.workers if worker.state == "alive"]
            aims = [
                Aim(
                    target=str(worker.worker_id),
                    pid=worker.pid,
                    incarnation=worker.incarnation,
                    peer=_peer(worker, alive),
                )
                for worker in alive
                if worker.worker_id not in self._spared and _spare(worker, alive)
            ]
        return aims[fault.pick % len(aims)] if aims else None

    async def _strike(self, fault: Fault, aim: Aim) -> bool:
        """False if it hit nothing: those two workers had no pair."""
        if fault.kind is Kind.CUT_PAIR:
            return bool(await _answer(self._actors.workers[aim.target].cut.remote(aim.peer)))
        frozen = fault.kind is Kind.FREEZE_WORKER
        with contextlib.suppress(ProcessLookupError):
            os.kill(aim.pid, signal.SIGSTOP if frozen else signal.SIGKILL)
        if frozen:
            self._spawn(_thaw(aim.pid))
        return True

    # ---- what follows

    async def _look(self, recovery: Recovery, aim: Aim) -> None:
        loop = asyncio.get_running_loop()
        match recovery.fault.kind:
            case Kind.KILL_CONTROLLER:
                noticed, back = await self._controller(aim)
            case Kind.KILL_GATEWAY:
                noticed, back = await self._gateway(aim)
            case Kind.CUT_PAIR:
                noticed, back = True, True  # the next copy opens the pair again
            case _:
                noticed, back = await self._worker(aim)
        since_s = round(loop.time() - recovery.at_s, 2)
        if noticed and recovery.noticed_s is None:
            recovery.noticed_s = since_s
        if back:
            recovery.back_s = since_s

    async def _worker(self, aim: Aim) -> tuple[bool, bool]:
        status = await self.status()
        if status is None:
            return False, False
        found = next((w for w in status.workers if w.worker_id == aim.target), None)
        newer = found is not None and found.incarnation > aim.incarnation
        gone = found is not None and (newer or found.state in ("dead", "retired"))
        return gone, newer and found is not None and found.state == "alive"

    async def _controller(self, aim: Aim) -> tuple[bool, bool]:
        pid = await _answer(self._actors.controller.pid.remote())
        if pid is None or pid == aim.pid:
            return pid is None, False
        status = await self.status()
        living = [w for w in status.workers if w.state != "dead"] if status is not None else []
        return True, len(living) >= aim.workers

    async def _gateway(self, aim: Aim) -> tuple[bool, bool]:
        handle = next(h for name, h in self._gateways.items() if str(name) == aim.target)
        pid = await _answer(handle.pid.remote())
        if pid is None or pid == aim.pid:
            return pid is None, False
        address = await _answer(handle.address.remote())
        return True, bool(address and address[0])

    # ---- bookkeeping

    def _spawn(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _note(self, kind: str, recovery: Recovery, **fields: Any) -> None:
        self._journal.write(kind, fault=recovery.fault.kind, target=recovery.target, **fields)


def _spare(worker: Any, alive: list[Any]) -> bool:
    """Whether its pool has another one: else what follows would only be a wait."""
    return any(other is not worker and other.pool == worker.pool for other in alive)


async def _answer(reference: Any) -> Any:
    """What an actor answers; None if it is away or slow."""
    try:
        return await asyncio.wait_for(asyncio.wrap_future(reference.future()), ANSWER_S)
    except (RayError, TimeoutError):
        return None


async def _thaw(pid: int) -> None:
    await asyncio.sleep(FREEZE_S)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)


def _peer(worker: Any, alive: list[Any]) -> str:
    """Another worker that decodes, the first one after this."""
    others = [str(w.worker_id) for w in alive if w is not worker and str(w.role) != "prefill"]
    return next((name for name in others if name > str(worker.worker_id)), [*others, ""][0])


def _touched(fault: Fault, aim: Aim, status: Any) -> list[str]:
    """Requests on those workers, at that gateway; all that run if it is the controller."""
    found = []
    for request in status.requests:
        worker = "" if request.worker is None else str(request.worker.worker_id)
        match fault.kind:
            case Kind.KILL_CONTROLLER:
                there = True
            case Kind.KILL_GATEWAY:
                there = str(request.gateway_id) == aim.target
            case Kind.CUT_PAIR:
                there = worker in (aim.target, aim.peer)
            case _:
                there = worker == aim.target
        if there:
            found.append(str(request.request_id))
    return found
