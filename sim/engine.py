"""A worker's engine and its end of every KV copy, simulated.

An iteration takes what the cost model says, longer where others of its node compute.
Each of its copies starts when its layers are stored: at the share of the iteration that
comes before `last_layer`.
A landing writes only under an open lease. A copy reads its source blocks when
its last byte leaves, and a request's slots are read and written both when its
iteration starts and when it ends: whoever gives blocks away too early pays.
"""

from collections.abc import Callable
from typing import Any, Protocol

from ..proto.batch import Batch
from ..proto.effects import CloseLease, EndProcess, EndReason, OpenLease, RunIteration
from ..proto.ids import RequestId, WorkerKey
from ..proto.move import Copy
from ..proto.requests import SampledToken
from ..proto.views import WorkerInfo
from ..proto.worker_events import BlocksLanded, CopyFailed, CopySent, IterationDone
from .clock import Action, Scheduler
from .content import BlockContent, Payload
from .costs.meter import Meter
from .costs.protocol import CostModel
from .costs.slowdown import kind_of
from .costs.work import work_of
from .errors import InvariantBroken
from .fast_forward import FastForward
from .inbound import Inbound, LeaseName
from .links import Fate, Links, Passage
from .shared_node import Point, Shared
from .streams import TrueStream, quick_token


class Peers(Protocol):
    """What an engine asks of the world."""

    def engine(self, key: WorkerKey) -> "Engine | None":
        """That incarnation's engine, None if it is gone."""

    def stream(self, request_id: RequestId) -> TrueStream:
        """The true stream of a request."""

    def end_fenced(self, key: WorkerKey) -> None:
        """That incarnation's process ends itself."""

    def drew(self, request_id: RequestId, ends_ns: list[int]) -> None:
        """A worker drew a token at each of these times."""

    def computing(self, batch: Batch, begins_ns: int, ends_ns: int) -> None:
        """An iteration runs: its requests are on their way to a token."""


class Engine:
    """One life of a worker, below its core. `run` does what a process does itself."""

    def __init__(
        self,
        info: WorkerInfo,
        layers: int,
        cost: CostModel,
        content: BlockContent | None,
        peers: Peers,
    ) -> None:
        self.key = info.key
        self.content = content
        self.inbound = Inbound(info, lambda key: peers.engine(key) is not None)
        self.gone = False
        self._block_bytes = info.block_bytes
        self._layers = layers
        self._cost = cost
        self._peers = peers
        self._leases: set[LeaseName] = set()
        self.meter: Meter | None = None  # where the device's power is known
        self.shared: Shared | None = None  # where the worker shares its node's compute
        self.fast: FastForward | None = None  # it takes the iterations that are all decodes
        self._iterations = 0
        self._busy_ns = 0

    def connect(
        self,
        scheduler: Scheduler,
        links: Links,
        post: Callable[[Any], None],
        run: Callable[[Action, Any], None],
    ) -> None:
        """Where ends go, and through which links. Before anything else."""
        self._scheduler = scheduler
        self._links = links
        self._post = post
        self._run = run

    def close(self) -> None:
        """The process is gone: nothing of it ends any more."""
        self.gone = True
        if self.fast is not None:
            self.fast.gone = True
        if self.shared is not None:
            self.shared.node.leave(self.key)

    @property
    def iterations(self) -> int:
        """How many it has begun."""
        return self._iterations + (self.fast.iterations if self.fast else 0)

    @property
    def busy_ns(self) -> int:
        """What those take."""
        return self._busy_ns + (self.fast.busy_ns if self.fast else 0)

    def end_process(self, end: EndProcess) -> None:
        """The core wants its process to end. Raises InvariantBroken: own books are never wrong."""
        if end.why is EndReason.INTEGRITY:
            now_ns = self._scheduler.now_ns
            raise InvariantBroken(f"worker {self.key} at {now_ns}: {end.why}: {end.detail}")
        self._peers.end_fenced(self.key)

    # ---- iterations

    def iterate(self, order: RunIteration) -> None:
        """Start an iteration; it ends in `IterationDone`."""
        if self.fast is not None and self.fast.begin(order):
            return
        now_ns = self._scheduler.now_ns
        duration_ns = self._cost.iteration_ns(order.batch)
        self._iterations += 1
        if self.content is not None:
            self.inbound.begin_writes(order.batch, self._leases)
            self.content.compute(order.batch, self._peers.stream)
        if self.shared is not None:
            self._iterate_beside(self.shared, order, duration_ns)
            return
        self._spend(order.batch, now_ns, now_ns + duration_ns)
        for copy in order.copies:
            stored_ns = now_ns + duration_ns * copy.last_layer // self._layers
            self._scheduler.at(stored_ns, self._start_later, copy)
        self._scheduler.at(now_ns + duration_ns, self._finish, order.batch)

    def _iterate_beside(self, shared: Shared, order: RunIteration, alone_ns: int) -> None:
        """Others may slow it: how long it takes is known when it ends."""
        points = [
            Point(
                done_ns=alone_ns * copy.last_layer // self._layers,
                action=self._start_later,
                argument=copy,
            )
            for copy in order.copies
        ]
        points.sort(key=_done_ns)
        what = (order.batch, self._scheduler.now_ns)
        points.append(Point(done_ns=alone_ns, action=self._finish_beside, argument=what))
        shared.begin(self.key, kind_of(work_of(order.batch)), points)

    def _finish_beside(self, what: tuple[Batch, int]) -> None:
        batch, began_ns = what
        self._spend(batch, began_ns, self._scheduler.now_ns)
        self._finish(batch)

    def _spend(self, batch: Batch, begins_ns: int, ends_ns: int) -> None:
        self._busy_ns += ends_ns - begins_ns
        if self.meter is not None:
            self.meter.add(work_of(batch), ends_ns - begins_ns)
        self._peers.computing(batch, begins_ns, ends_ns)

    def _finish(self, batch: Batch) -> None:
        if self.gone:
            return
        if self.content is None:
            sampled = _quick_tokens(batch)
            if self.fast is not None:
                self.fast.drew(batch)
        else:
            self.inbound.end_writes()
            sampled = self.content.compute(batch, self._peers.stream)
        self._post(IterationDone(iteration=batch.iteration, sampled=sampled))

    # ---- copies, source side

    def _start_later(self, copy: Copy) -> None:
        self._run(self.start, copy)

    def start(self, copy: Copy) -> None:
        """Start a copy; it ends in `CopySent` or `CopyFailed`."""
        if self.gone:
            return
        target = self._peers.engine(copy.target)
        if target is None:
            self._fail(copy, f"worker {copy.target} is gone")
            return
        if self.content is not None:
            target.expect(copy, self.key)
        pair = (self.key.worker_id, copy.target.worker_id)
        self._links.send(pair, self._bytes(copy), self._sent, copy)

    def _sent(self, what: tuple[Copy, Passage]) -> None:
        copy, passage = what
        target = self._peers.engine(copy.target)
        if self.gone or target is None or passage.fate is Fate.FAILS:
            if target is not None:
                target.inbound.forget(copy)
            if not self.gone:
                self._fail(copy, "the link failed" if target else f"worker {copy.target} is gone")
            return
        target.inbound.left(copy)
        payload = self.content.read(copy) if self.content is not None else None
        self._scheduler.at(passage.landed_ns, target.land, (copy, payload, passage.fate))
        if passage.told_ns > passage.sent_ns:
            self._scheduler.at(passage.told_ns, self._tell_sent, copy)
        else:
            self._tell_sent(copy)

    def _tell_sent(self, copy: Copy) -> None:
        self._post(
            CopySent(copy_id=copy.copy_id, move_id=copy.move_id, transfer_bytes=self._bytes(copy))
        )

    def _fail(self, copy: Copy, reason: str) -> None:
        self._post(CopyFailed(copy_id=copy.copy_id, move_id=copy.move_id, reason=reason))

    def _bytes(self, copy: Copy) -> int:
        layers = copy.last_layer - copy.first_layer
        return len(copy.source_blocks) * layers * self._block_bytes // self._layers

    # ---- copies, target side

    def open_lease(self, order: OpenLease) -> None:
        """Landings for this lease may write from now on."""
        self._leases.add((order.move_id, order.lease))

    def close_lease(self, order: CloseLease) -> None:
        """No landing for this lease writes from now on."""
        self._leases.discard((order.move_id, order.lease))

    def expect(self, copy: Copy, source: WorkerKey) -> None:
        """A copy sets out for this worker."""
        self.inbound.expect(copy, source, self._leases)

    @property
    def leases_open(self) -> int:
        return len(self._leases)

    def land(self, what: tuple[Copy, Payload | None, Fate]) -> None:
        """A copy arrives; it ends in `BlocksLanded`, or `CopyFailed` if damaged."""
        copy, payload, fate = what
        if self.gone:
            return
        self.inbound.forget(copy)
        if fate is Fate.DAMAGED:
            self._fail(copy, "checksum differs")
            return
        if (
            (copy.move_id, copy.lease) in self._leases
            and self.content is not None
            and payload is not None
        ):
            self.content.write(copy, payload)
        self._post(
            BlocksLanded(
                copy_id=copy.copy_id, move_id=copy.move_id, transfer_bytes=self._bytes(copy)
            )
        )


def _done_ns(point: Point) -> int:
    return point.done_ns


def _quick_tokens(batch: Batch) -> tuple[SampledToken | None, ...]:
    """Tokens without regard to content: a function of seed and position."""
    sampled: list[SampledToken | None] = []
    for chunk in batch.chunks:
        draw = chunk.draw
        if draw is None:
            sampled.append(None)
        else:
            sampled.append(quick_token(draw.params.seed, draw.position))
    return tuple(sampled)
