"""Looks on as the parties of one world step, and counts what they go through.

Every look is a read-only question to a core, before and after a step: nothing
in a core counts for this. Also tells listeners (faults that wait for a stage)
when a worker's half of a move has changed.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from ..cluster.core.core import ClusterCore
from ..cluster.core.gateway import GatewayCore
from ..proto.cluster_events import MoveEnded, RequestArrived
from ..proto.effects import RestoreBlocks, SpillBlocks, ToController
from ..proto.ids import HostCopyId, MoveId, RequestId, WorkerKey
from ..proto.move import MoveKind, MoveOrder, Stage
from ..proto.timers import TimerFired
from ..proto.worker_events import BlocksRestored, BlocksSpilled, HostCopyFailed, RequestAssigned
from ..workers.core.core import WorkerCore
from ..workers.core.halves import Half, Side
from .concerns import Halves, concerned
from .coverage import (
    ARRIVALS,
    CONTROLLER,
    GATEWAYS,
    HOST,
    REBORN,
    REQUESTS,
    STAGE_OF,
    STAGES,
    Coverage,
    path,
)
from .shell import Step

_REPEATS = frozenset({"CopySent", "BlocksLanded", "LeaseOpened", "LeaseAsked", "IterationDone"})


class HalfChanged(NamedTuple):
    """A worker's half of `order` has come to `half`; `halves` are all of its open ones."""

    worker: WorkerKey
    order: MoveOrder
    side: Side
    half: Half
    halves: Halves


class Observer:
    """Of one world: it learns every move's order from the events that carry it."""

    def __init__(self, coverage: Coverage) -> None:
        self.coverage = coverage
        self.listeners: list[Callable[[HalfChanged], None]] = []
        self._orders: dict[MoveId, MoveOrder] = {}
        # A core that has forgotten an ended move takes a late double for a new one: the
        # table of the unreachable does not speak of such moves.
        self._over: set[tuple[WorkerKey, MoveId]] = set()
        self._reborn: set[MoveId] = set()

    # ---- the three kinds of cores

    def worker(self, core: WorkerCore) -> Step:
        """The core's step, observed."""
        key = core.info.key
        ordered: dict[HostCopyId, str] = {}  # copies to host memory and back, under way

        def step(event: Any, now_ns: int) -> Any:
            before = core.halves()
            self._learn(event, key)
            seen = [
                (move_id, row, before[move_id].half if move_id in before else core.half(move_id))
                for move_id, row in concerned(event, before)
            ]
            self._note_request(core, event)
            effects = core.step(event, now_ns)
            for move_id, row, half in seen:
                self._count_pair(key, move_id, row, half)
            if before or seen:
                self._note_changes(core, seen, before, effects)
            self._note_host_copies(event, effects, ordered)
            return effects

        return step

    def controller(self, core: ClusterCore) -> Step:
        """The core's step, observed."""

        def step(event: Any, now_ns: int) -> Any:
            worker = _worker_of(event)
            if worker is not None:
                row = type(event).__name__
                self.coverage.count(CONTROLLER, row, core.worker_state(worker))
            if isinstance(event, RequestArrived):
                request = event.request
                state = core.request_state(request.request_id)
                self.coverage.count(ARRIVALS, request.request_class.value, state)
                if request.resumes:
                    self.coverage.count(ARRIVALS, "resumed", state)
            return core.step(event, now_ns)

        return step

    def gateway(self, core: GatewayCore) -> Step:
        """The core's step, observed."""

        def step(event: Any, now_ns: int) -> Any:
            for row, request_id in _requests_of(event):
                self.coverage.count(GATEWAYS, row, core.stream_state(request_id))
            return core.step(event, now_ns)

        return step

    # ---- moves

    def learn(self, order: MoveOrder) -> None:
        """Who is the source of a move, and who its target."""
        self._orders[order.move_id] = order

    def _learn(self, event: Any, key: WorkerKey) -> None:
        order = getattr(event, "handoff", None) or getattr(event, "order", None)
        if isinstance(order, MoveOrder):
            self.learn(order)
        if isinstance(event, RequestAssigned) and event.fetch is not None:
            plan = event.fetch
            fetch = MoveOrder(
                move_id=plan.move_id, kind=MoveKind.FETCH, request_id=event.request.request_id,
                source=plan.source, target=key,
            )  # fmt: skip
            self.learn(fetch)

    def _count_pair(self, key: WorkerKey, move_id: MoveId, row: str, half: Half) -> None:
        order = self._orders.get(move_id)
        if order is not None:
            side = _side(order, key)
            self.coverage.count(REBORN[side] if move_id in self._reborn else side, row, half.value)

    def _note_changes(
        self,
        core: WorkerCore,
        seen: list[tuple[MoveId, str, Half]],
        before: Halves,
        effects: Any,
    ) -> None:
        after = core.halves()
        for move_id in {**before, **after}:
            order = self._orders.get(move_id)
            if order is None:
                continue
            was = before[move_id].half if move_id in before else None
            half = after[move_id].half if move_id in after else core.half(move_id)
            side = _side(order, core.info.key)
            if half is not was:
                self._note_life(core.info.key, move_id, begins=was is None)
                self._count_stages(side, was, half, _ended(move_id, effects))
                for listener in self.listeners:
                    listener(HalfChanged(core.info.key, order, side, half, after))
        for move_id, row, was in seen:
            stays = move_id in after and after[move_id].half is was
            if stays and row in _REPEATS and was in (Half.COPY, Half.LEASED):
                side = after[move_id].side
                self.coverage.count(STAGES[side], Stage.COPY.value, Stage.COPY.value)

    def _note_life(self, key: WorkerKey, move_id: MoveId, *, begins: bool) -> None:
        if begins and (key, move_id) in self._over:
            self._reborn.add(move_id)
        self._over.add((key, move_id))

    def _count_stages(self, side: str, was: Half | None, half: Half, ended: Stage | None) -> None:
        start = Stage.RESERVE if was is None else STAGE_OF[was]
        if half in STAGE_OF:
            end = STAGE_OF[half]
        elif half is Half.COMMITTED:
            end = Stage.COMMITTED
        else:
            end = ended or Stage.ABORTED
        if start is not end or start is Stage.COPY:
            for one, other in path(start, end):
                self.coverage.count(STAGES[side], one.value, other.value)

    # ---- host memory

    def _note_host_copies(self, event: Any, effects: Any, ordered: dict[HostCopyId, str]) -> None:
        if isinstance(event, BlocksSpilled | BlocksRestored | HostCopyFailed):
            what = ordered.pop(event.host_copy_id, None)
            if what is not None:
                end = "failed" if isinstance(event, HostCopyFailed) else "done"
                self.coverage.count(HOST, what, end)
        for effect in effects:
            if isinstance(effect, SpillBlocks | RestoreBlocks):
                what = "spill" if isinstance(effect, SpillBlocks) else "restore"
                ordered[effect.host_copy_id] = what
                self.coverage.count(HOST, what, "ordered")

    # ---- requests

    def _note_request(self, core: WorkerCore, event: Any) -> None:
        request_id = getattr(event, "request_id", None)
        if request_id is None and hasattr(event, "request"):
            request_id = event.request.request_id
        if request_id is not None:
            phase = core.phase(request_id)
            column = "not here" if phase is None else phase.value
            self.coverage.count(REQUESTS, type(event).__name__, column)


def _side(order: MoveOrder, key: WorkerKey) -> Side:
    """Which half of a move is that worker's."""
    if order.kind is MoveKind.FETCH:
        return Side.FETCH_SOURCE if order.source == key else Side.FETCH_TARGET
    return Side.SOURCE if order.source == key else Side.TARGET


def _ended(move_id: MoveId, effects: Any) -> Stage | None:
    """How a source has just reported the move's end, if it has."""
    for effect in effects:
        told = effect.event if isinstance(effect, ToController) else None
        if isinstance(told, MoveEnded) and told.report.move_id == move_id:
            return told.report.outcome
    return None


def _worker_of(event: Any) -> WorkerKey | None:
    """The life of a worker that a controller's event is from, or about."""
    for name in ("info", "view", "report"):
        part = getattr(event, name, None)
        if part is not None:
            life: WorkerKey = part.source if name == "report" else part.key
            return life
    key = getattr(event, "worker", None) or getattr(event, "key", None)
    return key if isinstance(key, WorkerKey) else None


def _requests_of(event: Any) -> Iterator[tuple[str, RequestId]]:
    """The streams that a gateway's event is about."""
    row = type(event).__name__
    if isinstance(event, TimerFired):
        yield f"TimerFired, {event.key.kind}", RequestId(event.key.subject)
        return
    for chunk in getattr(event, "chunks", ()):
        yield row, chunk.request_id
    for part in (event, getattr(event, "request", None), getattr(event, "report", None)):
        request_id = getattr(part, "request_id", None)
        if request_id is not None:
            yield row, request_id
