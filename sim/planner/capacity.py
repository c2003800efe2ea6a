"""The best fleet for a budget: the one that meets the SLO at the highest rate.

Rates are steps of 5 %. Of every shape the largest fleets within the budget are looked
at. A bound says beyond which step a fleet cannot be; those with the highest are tried
first, each one step above the best known, so that most fall at their first trial.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from .bounds import Bounds
from .fleet import Fleet, Shape
from .machines import WorkerType
from .search import Space, costs_of, largest

STEP = 1.05
LOWEST, HIGHEST = -60, 60  # steps: 1/19 and 19 times the load


def factor_of(step: int) -> float:
    """How many times the load's rate a step is."""
    return float(STEP**step)


@dataclass(slots=True, kw_only=True)
class Contender:
    """One fleet: it can do `low` (None: nothing known), and nothing above `high`."""

    fleet: Fleet
    high: int
    low: int | None = None

    def next_step(self, best: int) -> int:
        """What to try next: just better than the best, then half way up."""
        if self.low is None or self.low < best:
            return best + 1
        return (self.low + self.high + 1) // 2


class Race:
    """Asks `tries`, is told each outcome with `ended`; the best stands in `leader`."""

    def __init__(self, contenders: Sequence[Contender], start: int = LOWEST - 1) -> None:
        self._contenders = {c.fleet.name: c for c in contenders}
        self.best = start
        self.leader: Fleet | None = None

    @property
    def open(self) -> int:
        """How many fleets may still be better."""
        return len(self._open())

    def tries(self, most: int) -> list[tuple[Fleet, int]]:
        """Fleets and the steps to try them at; none: it is done."""
        ordered = sorted(
            self._open(), key=lambda c: (c.fleet != self.leader, -c.high, c.fleet.name)
        )
        return [(c.fleet, c.next_step(self.best)) for c in ordered[:most]]

    def ended(self, fleet: Fleet, step: int, *, met: bool) -> None:
        """How that fleet did at that step."""
        contender = self._contenders[fleet.name]
        if not met:
            contender.high = min(contender.high, step - 1)
            return
        contender.low = step
        if step > self.best:
            self.best, self.leader = step, fleet

    def too_few(self, kind: WorkerType, count: int, step: int) -> None:
        """So many prefill workers of that type, or fewer, are too few at that step."""
        for contender in self._prefilled_by(kind, count):
            contender.high = min(contender.high, step - 1)

    def shared(self, fleet: Fleet) -> bool:
        """Whether other open fleets have no more prefill workers of the same type."""
        kind, count = fleet.shape.types[0], fleet.counts[0]
        others = self._prefilled_by(kind, count) if fleet.shape.disaggregated else []
        return sum(contender.high > self.best for contender in others) > 1

    def _prefilled_by(self, kind: WorkerType, most: int) -> list[Contender]:
        return [
            contender
            for contender in self._contenders.values()
            if contender.fleet.shape.disaggregated
            and contender.fleet.shape.types[0].name == kind.name
            and contender.fleet.counts[0] <= most
        ]

    def _open(self) -> list[Contender]:
        return [c for c in self._contenders.values() if c.high > self.best]


def contenders_of(space: Space, bounds_at: Callable[[int], Bounds]) -> list[Contender]:
    """The largest fleets of every shape within the space, and what their bounds allow."""
    found = [
        Contender(fleet=fleet, high=_highest(fleet, bounds_at))
        for shape in space.shapes
        for fleet in _largest(shape, space)
    ]
    return [contender for contender in found if contender.high >= LOWEST]


def _largest(shape: Shape, space: Space) -> list[Fleet]:
    grid = costs_of(shape, space)
    if grid is None:
        return []
    _, inside = grid
    cells = np.argwhere(largest(inside))
    return [Fleet(shape, tuple(int(index) + 1 for index in cell)) for cell in cells]


def _highest(fleet: Fleet, bounds_at: Callable[[int], Bounds]) -> int:
    """The last step at which no bound is against the fleet; below LOWEST if there is none."""
    low, high = LOWEST - 1, HIGHEST
    while low < high:
        middle = (low + high + 1) // 2
        if bounds_at(middle).allows(fleet):
            low = middle
        else:
            high = middle - 1
    return low
