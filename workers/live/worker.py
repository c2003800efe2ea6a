"""The worker: a Ray actor with a WorkerCore, an engine and a KV transport."""

import asyncio
import logging
import os
import socket
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NoReturn

import ray
from ray.exceptions import RayError

from ...proto.cluster_events import MoveEnded
from ...proto.effects import (
    CloseLease,
    CopyBlocks,
    EndProcess,
    OpenLease,
    RestoreBlocks,
    RunIteration,
    SpillBlocks,
    ToController,
    ToGateway,
    ToWorker,
    WorkerEffect,
)
from ...proto.ids import Incarnation, WorkerId, WorkerKey
from ...proto.move import Copy
from ...proto.timers import ClearTimer, SetTimer
from ...proto.views import WorkerInfo
from ...proto.worker_events import PeerLost, TransportStuck, WorkerStarted
from ..core.core import WorkerCore
from .copier import Copier
from .core_shell import CoreShell
from .engine import Engine, load_engine
from .engine_loop import EngineLoop
from .host_memory import HostMemory
from .iteration_log import TimedIteration
from .loop_thread import LoopThread
from .move_log import log_line
from .peers import Peers
from .post import Post, worker_name
from .recording import open_recorder
from .setup import WorkerSetup
from .transport import Endpoint, ParcelHeader, Transport
from .transport_parts import transport_parts
from .warm_up import warm_up

log = logging.getLogger(__name__)


class Worker:
    """Shell of one life of a worker. Its public methods may be called from any thread."""

    def __init__(self, setup: WorkerSetup) -> None:
        self._setup = setup
        # Milliseconds: later lives of a worker id are always higher.
        self._key = WorkerKey(setup.worker_id, Incarnation(time.time_ns() // 1_000_000))
        self._early: list[Any] = []
        self._shell: CoreShell | None = None
        self._host: HostMemory | None = None
        self._endpoint: Endpoint | None = None
        self._error = ""
        self._thread = LoopThread("worker", self._main)

    def deliver(self, key: WorkerKey | None, events: Sequence[Any]) -> None:
        """Mail for incarnation `key` (None: whichever lives)."""
        if key is None or key == self._key:
            self._thread.call_soon(self._take, events)

    def endpoint(self, key: WorkerKey | None) -> Endpoint | None:
        """Where `key` (None: whichever lives) receives KV; None if it is not this one."""
        return self._endpoint if key is None or key == self._key else None

    def land(self, key: WorkerKey, header: ParcelHeader, copies: Sequence[Copy]) -> None:
        """A peer announces copies."""
        if key == self._key and self._shell is not None:
            self._copier.land(header, copies)

    def cut(self, peer: WorkerId) -> int:
        """Close every KV pair with that worker; how many. Their copies fail, the next pair anew."""
        return 0 if self._shell is None else self._transport.cut(peer)

    def iterations(self) -> list[TimedIteration]:
        """What iterations took since the last call; the first call begins to keep them."""
        return [] if self._shell is None else self._engine_loop.log.take()

    def life(self) -> int:
        """The incarnation of this life."""
        return self._key.incarnation

    def error(self) -> str:
        """Why the worker could not start; empty if it did or still tries."""
        return self._error

    async def _main(self) -> None:
        setup = self._setup
        loop = asyncio.get_running_loop()
        try:
            engine = await loop.run_in_executor(None, self._load)
        except (OSError, ValueError, MemoryError) as error:
            # Restarting would not help: say why, and stay for whoever asks.
            self._error = f"worker {setup.worker_id}: {error}"
            return
        self._post = Post(setup.namespace)
        self._peers = Peers(self._post)
        info = self._info(engine)
        core = WorkerCore(info, setup.limits, engine.spec.layers)
        recorder = open_recorder(setup.record, f"{self._key.worker_id}-{self._key.incarnation}")
        shell = CoreShell(core.step, self._perform, recorder)
        self._copier = Copier(engine, self._transport, shell.post_threadsafe)
        self._engine_loop = EngineLoop(engine, shell.post_threadsafe, self._start_copy)
        if self._host is not None:
            self._host.start(shell.post_threadsafe)
        self._shell = shell
        shell.post(WorkerStarted())
        self._take(self._early)
        await self._peers.greet(setup.peers)

    def _load(self) -> Engine:
        setup = self._setup
        engine = load_engine(
            setup.model_path,
            blocks=setup.blocks,
            block_tokens=setup.block_tokens,
            device=setup.device,
            threads=setup.threads,
        )
        self._speed = warm_up(engine, setup.block_tokens)
        if setup.host_blocks:
            self._host = HostMemory(engine, setup.host_blocks, setup.device)
            block_ns = self._host.measure_block_ns()
            self._speed = replace(self._speed, restore_block_ns=block_ns)
        ways, limits = transport_parts(setup, _address(), self._stuck)
        self._transport = Transport(self._key, _address(), self._announce, ways, limits)
        self._endpoint = self._transport.endpoint
        return engine

    def _info(self, engine: Engine) -> WorkerInfo:
        setup = self._setup
        assert self._endpoint is not None
        limit = setup.context_tokens_max or engine.spec.context_tokens
        return WorkerInfo(
            key=self._key,
            role=setup.role,
            pool=setup.pool,
            node=socket.gethostname(),
            pid=os.getpid(),
            host=self._endpoint.host,
            port=self._endpoint.port,
            blocks_total=setup.blocks,
            block_tokens=setup.block_tokens,
            block_bytes=engine.block_bytes,
            context_tokens_max=min(limit, engine.spec.context_tokens),
            speed=self._speed,
            host_blocks=setup.host_blocks,
        )

    def _take(self, events: Sequence[Any]) -> None:
        if self._shell is None:
            self._early.extend(events)
            return
        for event in events:
            if isinstance(event, PeerLost) and not event.key.covers(self._key):
                # A pair that sat idle would else cost its next life's first copy.
                self._transport.close_pair(event.key)
                self._peers.forget(event.key)
            self._shell.post(event)

    def _perform(self, effect: WorkerEffect) -> None:
        match effect:
            case RunIteration():
                self._engine_loop.run(effect)
            case CopyBlocks(copy=copy):
                self._start_copy(copy)
            case OpenLease():
                self._copier.open_lease(effect)
            case CloseLease():
                self._copier.close_lease(effect)
            case SpillBlocks() | RestoreBlocks():
                assert self._host is not None, "a host copy without host memory"
                self._host.order(effect)
            case ToController(event=event):
                if isinstance(event, MoveEnded):
                    log.info("%s", log_line(event.report))
                self._post.controller(event)
            case ToWorker(key=key, event=event):
                self._post.worker(key, event)
            case ToGateway(gateway_id=gateway_id, event=event):
                self._post.gateway(gateway_id, event)
            case EndProcess():
                _end_process(self._key, effect)
            case SetTimer() | ClearTimer():
                raise AssertionError("timers are the CoreShell's")

    def _start_copy(self, copy: Copy) -> None:
        """From any thread: send now if the peer's endpoint is known, else find it."""
        endpoint = self._peers.known(copy.target)
        if endpoint is not None:
            self._copier.start(copy, endpoint)
        else:
            asyncio.run_coroutine_threadsafe(self._find_and_start(copy), self._thread.loop)

    async def _find_and_start(self, copy: Copy) -> None:
        endpoint = await self._peers.find(copy.target)
        if endpoint is None:
            self._copier.fail(copy, f"worker {copy.target} is gone")
        else:
            self._copier.start(copy, endpoint)

    def _stuck(self, reason: str) -> None:
        """From a transport thread."""
        self._thread.call_soon(self._take, [TransportStuck(reason=reason)])

    def _announce(self, target: Endpoint, header: ParcelHeader, copies: Sequence[Copy]) -> None:
        """From a transport thread: tell the target what is coming. Raises ConnectionError."""
        handle = self._post.handle(worker_name(target.worker.worker_id))
        if handle is None:
            raise ConnectionError(f"worker {target.worker} is gone")
        try:
            handle.land.remote(target.worker, header, copies)
        except RayError as error:
            raise ConnectionError(f"worker {target.worker}: {error}") from error


def _end_process(key: WorkerKey, end: EndProcess) -> NoReturn:
    """Nobody listens to this life, or it cannot be trusted: Ray starts the next one."""
    log.critical('ending worker=%s why=%s detail="%s"', key, end.why, end.detail)
    os._exit(1)


def _address() -> str:
    return str(ray.util.get_node_ip_address())
