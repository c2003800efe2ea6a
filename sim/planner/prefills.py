"""How many prefill workers first tokens need, whatever decodes behind them: simulated.

A prefill pool is tried by itself: every answer has one token, and there are decode workers
with room for twice all requests at once. No pool of a fleet has it as well, so one that is late
here for more requests than may be, and `MARGIN` more, is too small beside any decode pool.

Per type the least that is enough is enclosed: around a guess of the cheapest types while no
fleet is found; then of all types from the most that a fleet cheaper than it may have, which
alone closes the type if it is too small.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil

from ...proto.views import Role
from ..workloads.arrivals import Arrival
from .fleet import Fleet, Shape
from .machines import WorkerType
from .question import Question
from .slo import Unit
from .trace import Load

MARGIN = 1.1  # times as many misses as may be: chance decides below that
DEAR = 1.25  # times the cheapest guess: of no interest until a fleet is found
ROOM = 2.0  # times all requests' KV


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """Prefill workers of open fleets: the least, the most, and how many are likely enough."""

    kind: WorkerType
    least: int
    most: int
    likely: int


@dataclass(slots=True, kw_only=True)
class _Pool:
    """`low` are too few; `high` are enough (None: not known)."""

    kind: WorkerType
    low: int
    likely: int
    most: int
    high: int | None = None
    cheaper: bool = False  # `most` comes of a fleet that is found

    @property
    def next_count(self) -> int | None:
        """None: enclosed, or there are no more."""
        if self.high is None or self.high > self.most:
            likely = max(self.low + 1, min(self.likely, self.most))
            count = self.most if self.cheaper else likely
        elif self.likely == self.high:
            count = self.high - 1
        else:
            count = (self.low + self.high) // 2
        return count if self.low < count <= self.most else None


class PrefillPools:
    """Told of the open `ranges`; asks `tries`, one per type; is told each outcome with `ended`."""

    def __init__(self, unit: Unit) -> None:
        self._unit = unit
        self._pools: dict[str, _Pool] = {}
        self._open: list[_Pool] = []

    def ranges(self, ranges: Sequence[Range], *, cheaper: bool) -> None:
        """What is open now. `cheaper`: than a fleet that is found."""
        self._open = [self._pool(one) for one in ranges]
        for pool, one in zip(self._open, ranges, strict=True):
            pool.low, pool.most = max(pool.low, one.least - 1), one.most
            pool.cheaper = cheaper

    def tries(self) -> list[tuple[WorkerType, int]]:
        """The next pools to try; none: it is done."""
        costs = [pool.likely * pool.kind.cost(self._unit) for pool in self._pools.values()]
        dear = DEAR * min(costs, default=0.0)
        asked = [(pool, pool.next_count) for pool in self._open]
        return [
            (pool.kind, count)
            for pool, count in asked
            if count is not None
            and (pool.cheaper or pool.likely * pool.kind.cost(self._unit) <= dear)
        ]

    def ended(self, kind: WorkerType, count: int, *, met: bool) -> None:
        """How that pool did."""
        pool = self._pools[kind.name]
        if met:
            pool.high = count if pool.high is None else min(pool.high, count)
        else:
            pool.low = max(pool.low, count)
            pool.likely = max(pool.likely, count + 1)

    def enclosed(self) -> list[tuple[WorkerType, int]]:
        """Types of which the least that is enough is known, and how many that are."""
        return [
            (pool.kind, pool.high)
            for pool in self._open
            if pool.high is not None and pool.low < pool.high <= pool.most
        ]

    def _pool(self, one: Range) -> _Pool:
        fresh = _Pool(kind=one.kind, low=one.least - 1, likely=one.likely, most=one.most)
        return self._pools.setdefault(one.kind.name, fresh)


def alone(question: Question) -> Question:
    """The same prompts, answered with one token each; some more of them may be late."""
    load, slo = question.load, question.slo
    firsts = tuple(replace(arrival, output_tokens=1) for arrival in load.arrivals)
    percent = max(0.0, 100 - (100 - slo.percent) * MARGIN)
    loose = replace(slo, percent=percent)
    return replace(question, load=Load(load.name, firsts), slo=loose, copies=1)


def roomy(kind: WorkerType, count: int, types: Sequence[WorkerType], question: Question) -> Fleet:
    """That prefill pool, and decode workers that are never full."""
    largest = max(types, key=lambda one: (one.blocks.count, one.name))
    blocks = sum(_blocks(arrival, question.block_tokens) for arrival in question.load.arrivals)
    decodes = 1 + ceil(ROOM * blocks / largest.blocks.count)
    return Fleet(Shape((Role.PREFILL, Role.DECODE), (kind, largest)), (count, decodes))


def _blocks(arrival: Arrival, block_tokens: int) -> int:
    return ceil((arrival.prompt_tokens + arrival.output_tokens) / block_tokens)
