"""The controller: a Ray actor that owns the ClusterCore.

It is never on the token path. What it knows is soft: Ray restarts it, workers
register again with all they hold, and gateways repeat what it forgot.
"""

import asyncio
import logging
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import ray
from ray.exceptions import RayActorError, RayError

from ...proto.cluster_events import ClusterStarted, GatewayDied, MoveEnded
from ...proto.effects import (
    AnswerAsk,
    ClusterEffect,
    RestartStarting,
    RestartWorker,
    RetireWorker,
    ToGateway,
    ToWorker,
)
from ...proto.ids import GatewayId, RequestId, WorkerId, WorkerKey
from ...proto.timers import ClearTimer, SetTimer
from ...proto.worker_events import ViewAsked
from ...workers.live.core_shell import CoreShell
from ...workers.live.loop_thread import LoopThread
from ...workers.live.post import Post, gateway_name, worker_name
from ...workers.live.recording import open_recorder
from ..core.core import ClusterCore
from ..core.limits import ClusterLimits
from ..core.status import ClusterStatus, GatewayStatus, RequestTrace
from ..policy.placement import PlacementPolicy
from .move_metrics import MoveMetrics

log = logging.getLogger(__name__)
GATEWAY_WATCH_S = 1.0
GATEWAY_ANSWER_S = 2.0
DEAD = "dead"
LIFE_S = 20.0  # a worker that is being constructed answers when that is done


@dataclass(frozen=True, kw_only=True)
class ControllerSetup:
    """All a controller needs to start, and to start again."""

    namespace: str
    limits: ClusterLimits
    policy: PlacementPolicy
    block_tokens: int
    worker_ids: tuple[WorkerId, ...]
    gateway_ids: tuple[GatewayId, ...]
    record: str


class Controller:
    """Shell of the ClusterCore. Its public methods may be called from any thread."""

    def __init__(self, setup: ControllerSetup) -> None:
        self._setup = setup
        self._core = ClusterCore(setup.limits, setup.policy, setup.block_tokens)
        self._metrics = MoveMetrics()
        self._gateways = {
            gateway_id: GatewayStatus(gateway_id=gateway_id, state="starting")
            for gateway_id in setup.gateway_ids
        }
        self._early: list[Any] = []
        self._restarts: set[asyncio.Task[None]] = set()
        self._shell: CoreShell | None = None
        self._thread = LoopThread("controller", self._main)

    def deliver(self, events: Sequence[Any]) -> None:
        """Mail: facts for the core."""
        self._thread.call_soon(self._take, events)

    def status(self) -> ClusterStatus:
        """The core's picture of everything, dated now."""
        return self._thread.result(self._status(), timeout_s=5.0)

    def trace(self, request_id: RequestId) -> RequestTrace | None:
        """One request and its moves, dated now."""
        return self._thread.result(self._trace(request_id), timeout_s=5.0)

    def metrics(self) -> str:
        """The counters, in Prometheus' text format."""
        return self._metrics.text()

    async def _main(self) -> None:
        self._post = Post(self._setup.namespace)
        recorder = open_recorder(self._setup.record, "controller")
        self._shell = CoreShell(self._core.step, self._perform, recorder)
        self._shell.post(ClusterStarted(worker_ids=self._setup.worker_ids))
        self._take(self._early)
        for worker_id in self._setup.worker_ids:
            handle = self._post.handle(worker_name(worker_id))
            if handle is not None:  # we are a restart: let them register at once
                handle.deliver.remote(None, [ViewAsked()])
        for gateway_id in self._setup.gateway_ids:
            asyncio.get_running_loop().create_task(self._watch(gateway_id))

    def _take(self, events: Sequence[Any]) -> None:
        if self._shell is None:
            self._early.extend(events)
            return
        for event in events:
            if isinstance(event, MoveEnded):
                self._metrics.observe(event.report)
            self._shell.post(event)

    async def _trace(self, request_id: RequestId) -> RequestTrace | None:
        return self._core.trace(request_id, time.monotonic_ns())

    async def _status(self) -> ClusterStatus:
        status = self._core.status(time.monotonic_ns())
        return replace(status, gateways=tuple(self._gateways.values()))

    def _perform(self, effect: ClusterEffect) -> None:
        match effect:
            case ToWorker(key=key, event=event):
                self._post.worker(key, event)
            case ToGateway(gateway_id=gateway_id, event=event):
                self._post.gateway(gateway_id, event)
            case AnswerAsk(ask_id=ask_id):
                asker = GatewayId(ask_id.split("/")[0])
                self._post.gateway(asker, effect)
            case RetireWorker(key=key):
                self._retire(key)
            case RestartWorker(key=key):
                self._restarts.add(task := asyncio.create_task(self._restart(key)))
                task.add_done_callback(self._restarts.discard)
            case RestartStarting(worker_id=worker_id):
                self._restart_starting(worker_id)
            case SetTimer() | ClearTimer():
                raise AssertionError("timers are the CoreShell's")

    def _retire(self, key: WorkerKey) -> None:
        """A drained worker leaves for good: Ray does not bring it back."""
        log.info("retired worker=%s", key)
        handle = self._post.handle(worker_name(key.worker_id))
        if handle is not None:
            ray.kill(handle, no_restart=True)

    def _restart_starting(self, worker_id: WorkerId) -> None:
        """Ends whatever life there is, unasked: one that loads answers. Ray begins the next."""
        handle = self._post.handle(worker_name(worker_id))
        if handle is not None:
            log.warning("restarting worker=%s reason=not-loaded-in-time", worker_id)
            ray.kill(handle, no_restart=False)

    async def _restart(self, key: WorkerKey) -> None:
        """Ends that life if it still runs, or hangs; Ray begins the next."""
        handle: Any = self._post.handle(worker_name(key.worker_id))
        if handle is None:
            return
        try:
            answer: asyncio.Future[int] = asyncio.wrap_future(handle.life.remote().future())
            life = await asyncio.wait_for(answer, LIFE_S)
        except TimeoutError:
            life = key.incarnation  # it hangs
        except RayError:
            return  # no process: Ray is at it
        if life <= key.incarnation:
            log.info("restarting worker=%s", key)
            ray.kill(handle, no_restart=False)

    async def _watch(self, gateway_id: GatewayId) -> None:
        """Looks at a gateway's process for ever; tells the core when it is gone."""
        while True:
            await asyncio.sleep(GATEWAY_WATCH_S)
            before = self._gateways[gateway_id]
            seen = await self._look(gateway_id)
            self._gateways[gateway_id] = seen
            replaced = before.pid and seen.pid and before.pid != seen.pid
            if seen.state == DEAD or replaced:
                assert self._shell is not None
                self._shell.post(GatewayDied(gateway_id=gateway_id))

    async def _look(self, gateway_id: GatewayId) -> GatewayStatus:
        handle: Any = self._post.handle(gateway_name(gateway_id))
        if handle is None:
            return GatewayStatus(gateway_id=gateway_id, state="starting")
        asked = asyncio.wrap_future(handle.look.remote().future())
        try:
            pid, address, streams = await asyncio.wait_for(asked, GATEWAY_ANSWER_S)
        except RayActorError:
            return GatewayStatus(gateway_id=gateway_id, state=DEAD)
        except TimeoutError:
            return replace(self._gateways[gateway_id], state="silent")
        state = "serving" if address else "starting"
        return GatewayStatus(
            gateway_id=gateway_id, state=state, address=address, streams=streams, pid=pid
        )


class ControllerActor:
    """What Ray sees. No coroutine here: Ray would run all of it on a loop of its own."""

    def __init__(self, setup: ControllerSetup) -> None:
        self._controller = Controller(setup)

    def deliver(self, events: Sequence[Any]) -> None:
        """Mail: facts for the core."""
        self._controller.deliver(events)

    def status(self) -> ClusterStatus:
        """The core's picture of everything, dated now."""
        return self._controller.status()

    def pid(self) -> int:
        """Answers while the process lives."""
        return os.getpid()

    def trace(self, request_id: RequestId) -> RequestTrace | None:
        """One request and its moves; None if it is not known."""
        return self._controller.trace(request_id)

    def metrics(self) -> str:
        """The counters, in Prometheus' text format."""
        return self._controller.metrics()


def controller_class() -> Any:
    """The Ray actor class; needs no CPU of its own and is restarted for ever."""
    return ray.remote(num_cpus=0, max_restarts=-1)(ControllerActor)
