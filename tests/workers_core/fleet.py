"""A tiny world for worker cores: their messages, their engines, one gateway, no controller.

Whatever the network does to messages between workers is decided by `Network`.
Copies always end at their source; a landing writes memory even after its lease
was closed (as RDMA would) and is announced only if it was open. After each step
the core checks itself.
"""

import heapq
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from typing import Any

from host_memory import HostCopy, HostMemory
from machine import Machine, true_stream
from parts import GATEWAY, LIMITS, MS, Network, Stream, describe, info_of, key_of
from splitweave.proto.batch import Batch
from splitweave.proto.blocks import block_hashes
from splitweave.proto.cluster_events import MoveEnded, RequestEnded, WorkerRegistered
from splitweave.proto.effects import (
    CloseLease,
    CopyBlocks,
    OpenLease,
    RestoreBlocks,
    RunIteration,
    SpillBlocks,
    ToController,
    ToGateway,
    ToWorker,
)
from splitweave.proto.gateway_events import MoveReported, TokenChunk, TokensEmitted
from splitweave.proto.ids import (
    Epoch,
    MoveId,
    RequestId,
    WorkerKey,
)
from splitweave.proto.move import Copy, FetchPlan, MoveKind, MoveOrder, MoveReport, Stage
from splitweave.proto.requests import Request, SamplingParams
from splitweave.proto.timers import ClearTimer, SetTimer, TimerFired, TimerKey
from splitweave.proto.views import Role, WorkerInfo
from splitweave.proto.worker_events import (
    BlocksLanded,
    CopyFailed,
    CopySent,
    IterationDone,
    MoveOrdered,
    PeerLost,
    RequestAssigned,
    ResendAsked,
    RoleAssigned,
    StreamAcked,
    WorkerStarted,
)
from splitweave.workers.core import WorkerCore, WorkerLimits


class Worker:
    """One core with its engine, its timers and its open leases."""

    def __init__(self, info: WorkerInfo, limits: WorkerLimits, layers: int, seed: int) -> None:
        self.key = info.key
        self.core = WorkerCore(info, limits, layers, seed)
        self.machine = Machine(info.blocks_total, info.block_tokens, layers)
        self.host = HostMemory(info.host_blocks)
        self.timers: dict[TimerKey, int] = {}
        self.leases: set[tuple[MoveId, int]] = set()
        self.batch: Batch | None = None
        self.alive = True
        self.batches: list[Batch] = []


class Fleet:
    """Workers by name, one gateway, and a virtual clock."""

    def __init__(
        self,
        names: str = "ab",
        limits: WorkerLimits = LIMITS,
        network: Network | None = None,
        blocks: int = 64,
        layers: int = 4,
        seed: int = 0,
        host_blocks: int = 0,
    ) -> None:
        self.now_ns = 0
        self.layers = layers
        self.network = network or Network()
        self.workers: dict[WorkerKey, Worker] = {}
        self.streams: dict[RequestId, Stream] = {}
        self.reports: list[MoveReport] = []
        self.told: list[Any] = []  # events for the controller
        self.transcript: list[str] = []
        self.gateway_deaf = False
        self.iteration_ns = 1 * MS
        self.on_step: Callable[[Worker, Any, list[Any]], None] | None = None
        self._heap: list[tuple[int, int, Callable[[], None]]] = []
        self._count = count()
        self._moves = count(1)
        for name in names:
            info = info_of(key_of(name), blocks, host_blocks=host_blocks)
            info = replace(info, block_bytes=25 * layers)
            self.workers[info.key] = Worker(info, limits, layers, seed)
        for key in self.workers:
            self.post(key, WorkerStarted())

    # ---- driving

    def worker(self, name: str) -> Worker:
        return self.workers[key_of(name)]

    def core(self, name: str) -> WorkerCore:
        return self.worker(name).core

    def post(self, key: WorkerKey, event: Any) -> None:
        """One step of one core, checked; its effects are performed."""
        worker = self.workers.get(key)
        if worker is None or not worker.alive:
            return
        effects = worker.core.step(event, self.now_ns)
        worker.core.check()
        view = worker.core.view(self.now_ns)
        assert view.blocks_total == (
            view.blocks_free
            + view.blocks_held
            + view.blocks_cached
            + view.blocks_leased
            + view.blocks_quarantined
        )
        if self.on_step is not None:
            self.on_step(worker, event, effects)
        for effect in effects:
            self._perform(worker, effect)

    def at(self, at_ns: int, action: Callable[[], None]) -> None:
        heapq.heappush(self._heap, (at_ns, next(self._count), action))

    def run(self, for_ns: int = 0, until: Callable[[], bool] | None = None) -> None:
        """Lets time pass: for so long, or until something holds (at most a minute)."""
        end_ns = self.now_ns + (for_ns or 60_000 * MS)
        while self._heap and self._heap[0][0] <= end_ns:
            if until is not None and until():
                return
            at_ns, _, action = heapq.heappop(self._heap)
            self.now_ns = max(self.now_ns, at_ns)
            action()
        if until is not None:
            assert until(), "a minute has passed"
        self.now_ns = end_ns if until is None else self.now_ns

    def run_until_done(self) -> None:
        self.run(until=lambda: all(stream.done for stream in self.streams.values()))

    # ---- asking

    def request(self, name: str, prompt: list[int], max_tokens: int = 8, **changes: Any) -> Request:
        """Makes a request and its true stream."""
        seed = changes.pop("seed", 1)
        request = Request(
            request_id=RequestId(name),
            gateway_id=GATEWAY,
            token_ids=tuple(prompt),
            max_tokens=max_tokens,
            sampling=SamplingParams(seed=seed),
            block_hashes=block_hashes(prompt, 4),
            **changes,
        )
        expected = true_stream(prompt, seed, max_tokens, self.layers)
        self.streams.setdefault(request.request_id, Stream(request, expected))
        return request

    def assign(
        self,
        at: str,
        request: Request,
        handoff: str | None = None,
        fetch: FetchPlan | None = None,
    ) -> MoveOrder | None:
        order = None
        if handoff is not None:
            order = self.move_order(request.request_id, at, handoff, MoveKind.HANDOFF)
        self.post(key_of(at), RequestAssigned(request=request, handoff=order, fetch=fetch))
        return order

    def fetch_plan(self, source: str, blocks: int) -> FetchPlan:
        move_id = MoveId(f"m{next(self._moves)}")
        return FetchPlan(move_id=move_id, source=key_of(source), blocks=blocks)

    def ask(
        self,
        at: str,
        name: str,
        prompt: list[int],
        max_tokens: int = 8,
        handoff: str | None = None,
        fetch: FetchPlan | None = None,
        **changes: Any,
    ) -> Stream:
        request = self.request(name, prompt, max_tokens, **changes)
        self.assign(at, request, handoff, fetch)
        return self.streams[request.request_id]

    def move_order(self, name: str, source: str, target: str, kind: MoveKind) -> MoveOrder:
        return MoveOrder(
            move_id=MoveId(f"m{next(self._moves)}"),
            kind=kind,
            request_id=RequestId(name),
            source=key_of(source),
            target=key_of(target),
        )

    def migrate(self, name: str, source: str, target: str) -> MoveOrder:
        order = self.move_order(name, source, target, MoveKind.MIGRATION)
        self.post(order.source, MoveOrdered(order=order))
        return order

    def kill(self, name: str) -> None:
        """The process is gone, and all others are told."""
        self.worker(name).alive = False
        for key in self.workers:
            self.post(key, PeerLost(key=key_of(name)))

    def holder(self, name: str) -> list[str]:
        """Who holds a request, in any phase."""
        return [
            worker.key.worker_id
            for worker in self.workers.values()
            if worker.alive
            for held in worker.core.view(self.now_ns).requests
            if held.request_id == name
        ]

    def assert_empty(self) -> None:
        """Nothing is held, lent or quarantined anywhere, and nothing runs."""
        for worker in self.workers.values():
            if worker.alive:
                view = worker.core.view(self.now_ns)
                assert view.requests == (), f"{worker.key} holds {view.requests}"
                used = (view.blocks_held, view.blocks_leased, view.blocks_quarantined)
                assert used == (0, 0, 0), f"{worker.key} uses {used}"
                assert worker.leases == set(), f"{worker.key} has leases {worker.leases}"
                assert worker.batch is None

    def ended(self) -> list[RequestEnded]:
        return [event for event in self.told if isinstance(event, RequestEnded)]

    def recover(self) -> None:
        """What gateway and controller do together: streams that nobody runs start again."""
        for name, stream in self.streams.items():
            if not stream.done and not self.holder(name):
                emitted = tuple(stream.tokens[index] for index in range(stream.have))
                epoch = Epoch(stream.request.epoch.attempt + 1)
                stream.request = replace(stream.request, epoch=epoch, emitted=emitted)
                alive = [key for key in self.workers if self.workers[key].alive]
                self.post(alive[0], RequestAssigned(request=stream.request))

    # ---- performing

    def _perform(self, worker: Worker, effect: Any) -> None:
        match effect:
            case SetTimer(key=key, at_ns=at_ns):
                worker.timers[key] = at_ns
                self.at(at_ns, lambda: self._fire(worker, key, at_ns))
            case ClearTimer(key=key):
                worker.timers.pop(key, None)
            case ToController(event=event):
                self._tell_controller(worker, event)
            case ToGateway(event=event):
                self._tell_gateway(worker, event)
            case ToWorker(key=key, event=event):
                self._note(f"{worker.key.worker_id} -> {key.worker_id}", event)
                self._send(key, event)
            case RunIteration(batch=batch, copies=copies):
                self._iterate(worker, batch, copies)
            case CopyBlocks(copy=copy):
                self._note(f"{worker.key.worker_id}", copy)
                self._copy(worker, copy)
            case OpenLease(move_id=move_id, lease=lease):
                assert (move_id, lease) not in worker.leases, f"{move_id} opened twice"
                worker.leases.add((move_id, lease))
            case CloseLease(move_id=move_id, lease=lease):
                worker.leases.remove((move_id, lease))
            case SpillBlocks() | RestoreBlocks():
                self._copy_host(worker, effect)
            case _:
                raise AssertionError(f"a worker cannot order {effect!r}")

    def _fire(self, worker: Worker, key: TimerKey, at_ns: int) -> None:
        if worker.timers.get(key) == at_ns:
            del worker.timers[key]
            self.post(worker.key, TimerFired(key))

    def _tell_controller(self, worker: Worker, event: Any) -> None:
        self.told.append(event)
        if isinstance(event, MoveEnded):
            report = event.report
            assert report.stages_ns == report.wall_ns, f"{report} does not add up"
            assert report.outcome is Stage.ABORTED or (
                report.transfer_bytes == report.blocks * worker.core.info.block_bytes
            ), f"{report} does not add up"
            self.reports.append(report)
        if isinstance(event, WorkerRegistered):
            self._send(worker.key, RoleAssigned(role=Role.MIXED, draining=False))

    def _send(self, key: WorkerKey, event: Any) -> None:
        for _ in range(self.network.copies_of_message()):
            delay_ns = self.network.delay(self.network.delay_ns)
            self.at(self.now_ns + delay_ns, lambda: self.post(key, event))

    def _tell_gateway(self, worker: Worker, event: TokensEmitted | MoveReported) -> None:
        if isinstance(event, MoveReported) or self.gateway_deaf:
            return
        for chunk in event.chunks:
            for _ in range(self.network.copies_of_message()):
                self._take_chunk(worker.key, chunk)

    def _take_chunk(self, key: WorkerKey, chunk: TokenChunk) -> None:
        stream = self.streams[chunk.request_id]
        for offset, token in enumerate(chunk.tokens):
            index = chunk.first_index + offset
            expected = stream.expected[index]
            assert token.token_id == expected, f"{chunk.request_id}[{index}] is not {expected}"
            stream.tokens[index] = token.token_id
        if chunk.finish is not None:
            stream.finish = chunk.finish
            stream.length = chunk.first_index + len(chunk.tokens)
        if stream.done:
            self._send(key, StreamAcked(request_id=chunk.request_id))
        elif (missing := stream.have) < chunk.first_index:
            self._send(key, ResendAsked(request_id=chunk.request_id, from_index=missing))

    def _iterate(self, worker: Worker, batch: Batch, copies: tuple[Copy, ...]) -> None:
        assert worker.batch is None, "two iterations at once"
        worker.batch = batch
        worker.batches.append(batch)
        for chunk in batch.chunks:
            assert chunk.token_ids, "an empty chunk"
            assert len(chunk.block_table) * 4 >= chunk.end, "the table does not cover the chunk"
        for layer in range(self.layers):
            stored_ns = self.now_ns + self.iteration_ns * (layer + 1) // (self.layers + 1)
            self.at(stored_ns, lambda layer=layer: self._store(worker, batch, layer, copies))
        self.at(self.now_ns + self.iteration_ns, lambda: self._done(worker, batch))

    def _store(self, worker: Worker, batch: Batch, layer: int, copies: tuple[Copy, ...]) -> None:
        if not worker.alive:
            return
        for chunk in batch.chunks:
            worker.machine.compute(chunk, layer)
        for copy in copies:
            if copy.last_layer == layer + 1:
                self._note(f"{worker.key.worker_id} (iteration)", copy)
                self._copy(worker, copy)

    def _done(self, worker: Worker, batch: Batch) -> None:
        worker.batch = None
        sampled = tuple(worker.machine.sample(chunk) for chunk in batch.chunks)
        self.post(worker.key, IterationDone(iteration=batch.iteration, sampled=sampled))

    def _copy(self, worker: Worker, copy: Copy) -> None:
        sent_ns = self.now_ns + self.network.delay(self.network.copy_ns)
        if self.network.random.random() < self.network.copies_failed:
            failed = CopyFailed(copy_id=copy.copy_id, move_id=copy.move_id, reason="link")
            self.at(sent_ns, lambda: self.post(worker.key, failed))
        else:
            self.at(sent_ns, lambda: self._leave(worker, copy))

    def _copy_host(self, worker: Worker, copy: HostCopy) -> None:
        fails = self.network.random.random() < self.network.copies_failed
        end = worker.host.fail if fails else worker.host.end
        ended_ns = worker.host.book(self.now_ns, self.network.delay(self.network.copy_ns))
        self.at(ended_ns, lambda: self.post(worker.key, end(copy, worker.machine)))

    def _leave(self, worker: Worker, copy: Copy) -> None:
        if not worker.alive:
            return
        content = worker.machine.read(copy)
        size = len(copy.source_blocks) * (copy.last_layer - copy.first_layer) * 25
        target = self.workers[copy.target]
        self._land(worker, target, copy, content, size)
        sent = CopySent(copy_id=copy.copy_id, move_id=copy.move_id, transfer_bytes=size)
        self.post(worker.key, sent)

    def _land(self, worker: Worker, target: Worker, copy: Copy, content: Any, size: int) -> None:
        if copy.copy_id in self.network.damaged:
            reason = "marker: wrong checksum"
            failed = CopyFailed(copy_id=copy.copy_id, move_id=copy.move_id, reason=reason)
            self.post(target.key, failed)
            return
        target.machine.write(copy, content)  # also into a closed lease
        if (copy.move_id, copy.lease) in target.leases:
            landed = BlocksLanded(copy_id=copy.copy_id, move_id=copy.move_id, transfer_bytes=size)
            self.post(target.key, landed)

    def _note(self, who: str, what: Any) -> None:
        self.transcript.append(f"{self.now_ns / MS:7.2f} {who}: {describe(what)}")
