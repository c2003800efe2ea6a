"""The cheapest fleet that meets the SLO: which fleets to try next, and when to stop.

Every shape is a grid of counts. A cell is open while its fleet might be the answer; it is
closed by a bound, by a fleet at least as large in every pool that failed, or by one found
that costs no more. When none is open, what was found is the cheapest there is:

    cheapest unless a smaller fleet meets an SLO that a larger one of its shape fails

Per shape the next try is the open cell with the most slack over the bounds at half the
way from its cheapest open cell to the best found, then just below the best found:
fleets found make all shapes smaller, fleets that fail make their own smaller.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .bounds import Bools, Bounds
from .fleet import Fleet, Shape
from .machines import WorkerType
from .slo import Unit

NEAR = 0.3  # of the best found: shapes this close are tried right below it
FIRST = 1.5  # times its bound, while nothing is found
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """All fleets of some shapes with at most `gpus_max` GPUs, compared by `unit`, and costing at
    most `within` of another unit.
    """

    shapes: tuple[Shape, ...]
    unit: Unit
    gpus_max: int
    within: tuple[Unit, float] | None = None


@dataclass(slots=True, kw_only=True)
class _Grid:
    """One shape: what its fleets cost, which are open, how far each is above its bounds."""

    shape: Shape
    costs: Floats
    slack: Floats
    open: Bools
    failed_cost: float = 0.0

    @property
    def least(self) -> float:
        """Of the cheapest open fleet."""
        return float(self.costs[self.open].min())


@dataclass(slots=True, kw_only=True)
class Found:
    """How a search stands: the best fleet, and what became of all the others."""

    best: Fleet | None = None
    candidates: int = 0
    beyond_bounds: int = 0
    short: int = 0  # closed because their prefill pools are too small, whatever decodes
    tried: int = 0
    open: int = 0
    least_open: float | None = None

    @property
    def beyond_others(self) -> int:
        """No cheaper than one found, or no larger than one that failed."""
        return self.candidates - self.beyond_bounds - self.short - self.tried - self.open


class Search:
    """One search. Ask `tries`, tell each outcome with `met` or `failed`."""

    def __init__(self, space: Space, bounds: Bounds) -> None:
        self._unit, self.bounds = space.unit, bounds
        self.found = Found()
        self._best_cost = np.inf
        grids = [_grid(shape, space, bounds, self.found) for shape in space.shapes]
        self._grids = {grid.shape.name: grid for grid in grids if grid is not None}
        self._count_open()

    def tries(self, most: int) -> list[Fleet]:
        """The next fleets to try, one per shape, cheapest shapes first; none: it is done."""
        grids = [grid for grid in self._grids.values() if grid.open.any()]
        grids.sort(key=lambda grid: (grid.least, grid.shape.name))
        return [self._pick(grid) for grid in grids[:most]]

    def know(self, fleet: Fleet, *, met: bool) -> None:
        """What another search has found out."""
        if fleet.shape.name in self._grids:
            (self.met if met else self.failed)(fleet)
            self.found.tried -= 1

    def met(self, fleet: Fleet) -> None:
        """It meets the SLO. Whatever costs as much or more is out."""
        self.found.tried += 1
        cost = fleet.cost(self._unit)
        if cost < self._best_cost or (cost == self._best_cost and self._before(fleet)):
            self._best_cost, self.found.best = cost, fleet
        for grid in self._grids.values():
            grid.open &= grid.costs < self._best_cost - 1e-9
        self._count_open()

    def failed(self, fleet: Fleet) -> None:
        """It does not: nor does any with no more workers in any pool."""
        self.found.tried += 1
        grid = self._grids[fleet.shape.name]
        grid.open[tuple(slice(count) for count in fleet.counts)] = False
        grid.failed_cost = max(grid.failed_cost, fleet.cost(self._unit))
        self._count_open()

    def prefills(self) -> list[tuple[WorkerType, int, int]]:
        """Types that prefill for several shapes: least and most of them in an open fleet."""
        found: dict[str, list[tuple[WorkerType, int, int]]] = {}
        for grid in self._grids.values():
            if grid.shape.disaggregated and grid.open.any():
                counts = np.flatnonzero(grid.open.any(axis=1)) + 1
                kind = grid.shape.types[0]
                found.setdefault(kind.name, []).append((kind, int(counts[0]), int(counts[-1])))
        return [
            (several[0][0], min(low for _, low, _ in several), max(high for _, _, high in several))
            for _, several in sorted(found.items())
            if len(several) > 1
        ]

    def opening(self, kind: WorkerType, count: int) -> Fleet | None:
        """The cheapest open fleet with that prefill pool whose decode workers have slack."""
        found: list[tuple[float, str, Fleet]] = []
        for grid in self._grids.values():
            if not grid.shape.disaggregated or grid.shape.types[0].name != kind.name:
                continue
            least = np.ceil(FIRST * self.bounds.least(grid.shape)[1])
            for index in np.flatnonzero(grid.open[count - 1]):
                if index + 1 >= least:
                    fleet = Fleet(grid.shape, (count, int(index) + 1))
                    found.append((fleet.cost(self._unit), fleet.name, fleet))
                    break
        return min(found)[2] if found else None

    def too_few(self, kind: WorkerType, count: int) -> None:
        """So many prefill workers of that type, or fewer, are too few whatever decodes."""
        for grid in self._grids.values():
            if grid.shape.disaggregated and grid.shape.types[0].name == kind.name:
                self.found.short += int(grid.open[:count].sum())
                grid.open[:count] = False
        self._count_open()

    def _before(self, fleet: Fleet) -> bool:
        return self.found.best is None or fleet.name < self.found.best.name

    def _pick(self, grid: _Grid) -> Fleet:
        low = max(grid.least, min(grid.failed_cost, self._best_cost))
        if np.isinf(self._best_cost):
            below = FIRST * low
        elif self._best_cost - low > NEAR * self._best_cost:
            below = (low + self._best_cost) / 2
        else:
            below = self._best_cost
        eligible = grid.open & (grid.costs <= max(below, grid.least))
        eligible = largest(eligible)
        slack = np.where(eligible, grid.slack, -np.inf)
        place = np.unravel_index(int(np.argmax(slack)), slack.shape)
        return Fleet(grid.shape, tuple(int(index) + 1 for index in place))

    def _count_open(self) -> None:
        grids = [grid for grid in self._grids.values() if grid.open.any()]
        self.found.open = sum(int(grid.open.sum()) for grid in grids)
        self.found.least_open = min((grid.least for grid in grids), default=None)


def costs_of(shape: Shape, space: Space) -> tuple[Floats, Bools] | None:
    """What every fleet of a shape costs, and which are in the space; None if none is."""
    most = [space.gpus_max // kind.gpus for kind in shape.types]
    if min(most) < 1:
        return None
    counts: Floats = np.indices(tuple(most)).astype(np.float64) + 1
    inside = _sum(counts, [kind.gpus for kind in shape.types]) <= space.gpus_max
    if space.within is not None:
        unit, most_cost = space.within
        inside &= _sum(counts, shape.costs(unit)) <= most_cost + 1e-9
    return (_sum(counts, shape.costs(space.unit)), inside) if inside.any() else None


def _grid(shape: Shape, space: Space, bounds: Bounds, found: Found) -> _Grid | None:
    """The grid of a shape; None if no fleet of it can do."""
    grid = costs_of(shape, space)
    if grid is None:
        return None
    costs, inside = grid
    possible = inside & bounds.possible(shape, inside.shape)
    found.candidates += int(inside.sum())
    found.beyond_bounds += int(inside.sum() - possible.sum())
    if not possible.any():
        return None
    counts = np.indices(inside.shape).astype(np.float64) + 1
    needs = [max(need, 1e-9) for need in bounds.least(shape)]
    slack = np.min([count / need for count, need in zip(counts, needs, strict=True)], axis=0)
    return _Grid(shape=shape, costs=costs, slack=slack, open=possible)


def _sum(counts: Floats, weights: Sequence[float]) -> Floats:
    return np.asarray(np.tensordot(np.array(weights, dtype=float), counts, axes=1))


def largest(cells: Bools) -> Bools:
    """Those of the cells that no other one of them exceeds in one pool by one worker."""
    kept = cells.copy()
    for axis in range(cells.ndim):
        further = np.zeros_like(cells)
        lower = [slice(None)] * cells.ndim
        upper = [slice(None)] * cells.ndim
        lower[axis], upper[axis] = slice(None, -1), slice(1, None)
        further[tuple(lower)] = cells[tuple(upper)]
        kept &= ~further
    return kept
