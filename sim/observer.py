"""Looks on as the parties of one world step, and counts what they go through.

Every look is a read-only question to a core, before and after a step: nothing
in a core counts for this. Also tells listeners (faults that wait for a stage)
when a worker's half of a move has changed.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from ..cluster.core.core import ClusterCore
from ..cluster.core.gateway import GatewayCore
from ..proto.cluster_events import MoveEnded
from ..proto.effects import ToController
from ..proto.ids import MoveId, RequestId, WorkerKey
from ..proto.move import MoveOrder, Stage
from ..proto.timers import TimerFired
from ..proto.worker_events import (
    GatewayLost,
    IterationDone,
    MoveOrdered,
    PeerLost,
    RequestAssigned,
    RequestCancelled,
    StreamAcked,
)
from ..workers.core.core import WorkerCore
from ..workers.core.halves import Half, OpenHalf
from .coverage import (
    COLUMNS,
    CONTROLLER,
    GATEWAYS,
    REBORN,
    REQUESTS,
    SOURCE,
    STAGE_OF,
    STAGES,
    TARGET,
    Coverage,
    path,
)
from .shell import Step

OTHER_ASSIGNED = "RequestAssigned, other"  # of the move's request, not with this move
TIMERS = ("source_move", "target_move")
SOURCE_HALVES = frozenset(COLUMNS[SOURCE]) - frozenset(COLUMNS[TARGET])
_REPEATS = frozenset({"CopySent", "BlocksLanded", "LeaseOpened", "LeaseAsked", "IterationDone"})
Halves = Mapping[MoveId, OpenHalf]


class HalfChanged(NamedTuple):
    """A worker's half of `order` has come to `half`."""

    worker: WorkerKey
    order: MoveOrder
    half: Half


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

        def step(event: Any, now_ns: int) -> Any:
            before = core.halves()
            self._learn(event)
            seen = [
                (move_id, row, before[move_id].half if move_id in before else core.half(move_id))
                for move_id, row in _concerned(event, before)
            ]
            self._note_request(core, event)
            effects = core.step(event, now_ns)
            for move_id, row, half in seen:
                self._count_pair(key, move_id, row, half)
            if before or seen:
                self._note_changes(core, seen, before, effects)
            return effects

        return step

    def controller(self, core: ClusterCore) -> Step:
        """The core's step, observed."""

        def step(event: Any, now_ns: int) -> Any:
            worker = _worker_of(event)
            if worker is not None:
                row = type(event).__name__
                self.coverage.count(CONTROLLER, row, core.worker_state(worker))
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

    def _learn(self, event: Any) -> None:
        order = getattr(event, "handoff", None) or getattr(event, "order", None)
        if isinstance(order, MoveOrder):
            self.learn(order)

    def _count_pair(self, key: WorkerKey, move_id: MoveId, row: str, half: Half) -> None:
        order = self._orders.get(move_id)
        if order is not None:
            side = SOURCE if order.source == key else TARGET
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
            side = SOURCE if order.source == core.info.key else TARGET
            if half is not was:
                self._note_life(core.info.key, move_id, begins=was is None)
                self._count_stages(side, was, half, _ended(move_id, effects))
                for listener in self.listeners:
                    listener(HalfChanged(core.info.key, order, half))
        for move_id, row, was in seen:
            stays = move_id in after and after[move_id].half is was
            if stays and row in _REPEATS and was in (Half.COPY, Half.LEASED):
                side = SOURCE if was is Half.COPY else TARGET
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

    # ---- requests

    def _note_request(self, core: WorkerCore, event: Any) -> None:
        request_id = getattr(event, "request_id", None)
        if request_id is None and hasattr(event, "request"):
            request_id = event.request.request_id
        if request_id is not None:
            phase = core.phase(request_id)
            column = "not here" if phase is None else phase.value
            self.coverage.count(REQUESTS, type(event).__name__, column)


def _concerned(event: Any, halves: Halves) -> list[tuple[MoveId, str]]:
    """Every move that an event is about, and the row it counts in."""
    row = type(event).__name__
    match event:
        case TimerFired(key=key):
            return [(MoveId(key.subject), row)] if key.kind in TIMERS else []
        case RequestAssigned(request=request, handoff=handoff):
            own = [] if handoff is None else [(handoff.move_id, row)]
            others = [m for m in _of_request(halves, request.request_id) if (m, row) not in own]
            return own + [(move_id, OTHER_ASSIGNED) for move_id in others]
        case MoveOrdered(order=order):
            return [(order.move_id, row)]
        case _:
            move_id = getattr(event, "move_id", None)
            named = _touched(event, halves) if move_id is None else [move_id]
            return [(one, row) for one in named]


def _touched(event: Any, halves: Halves) -> list[MoveId]:
    """The moves that an event concerns without naming them."""
    match event:
        case IterationDone():
            return [m for m, half in halves.items() if half.half in SOURCE_HALVES]
        case StreamAcked(request_id=request_id):
            moves = _of_request(halves, request_id)
            return [move_id for move_id in moves if halves[move_id].half in SOURCE_HALVES]
        case RequestCancelled(request_id=request_id):
            return _of_request(halves, request_id)
        case PeerLost(key=key):
            return [m for m, half in halves.items() if key.covers(half.peer)]
        case GatewayLost(gateway_id=gateway_id):
            return [m for m, half in halves.items() if half.request.gateway_id == gateway_id]
        case _:
            return []


def _of_request(halves: Halves, request_id: RequestId) -> list[MoveId]:
    return [m for m, half in halves.items() if half.request.request_id == request_id]


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
