"""Linear interpolation on a grid of measured points, and what happens beyond its edge.

Between grid points: linear along each axis. Below the first point of an axis: the
first point's value. Beyond the last: `Beyond.EXTEND` goes on with the slope of the
last two points, and counts it; `Beyond.REFUSE` raises. Never silently: `Edge`
knows how often and how far, and `describe` prints it.
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from itertools import product

from .errors import CostError

Point = tuple[float, ...]


class Beyond(Enum):
    """What a lookup beyond the last point of an axis does."""

    EXTEND = "extend"
    REFUSE = "refuse"


@dataclass(slots=True)
class Edge:
    """What one table's lookups asked for that was not measured."""

    name: str
    beyond: Beyond = Beyond.EXTEND
    lookups: int = 0
    outside: int = 0
    farthest: float = 1.0  # times the last point
    axes: set[str] = field(default_factory=set)

    def passed(self, axis: str, value: float, last: float) -> None:
        """A value lies beyond the last point of an axis. Raises CostError if that is refused."""
        if self.beyond is Beyond.REFUSE:
            raise CostError(f"{self.name}: {axis} {value:g} is beyond the last measured, {last:g}")
        self.outside += 1
        self.axes.add(axis)
        self.farthest = max(self.farthest, value / last if last else 1.0)

    def describe(self) -> str:
        """One line for the report."""
        if not self.outside:
            return f"{self.name}: {self.lookups} lookups, none beyond what was measured"
        axes = ", ".join(sorted(self.axes))
        return (
            f"{self.name}: {self.outside} of {self.lookups} lookups beyond what was measured "
            f"({axes}; up to {self.farthest:.2f} x the last point), extended in a straight line"
        )


class Grid:
    """Values on the full product of the axes; holes are filled in, and counted."""

    def __init__(
        self, axes: Sequence[str], points: Mapping[Point, float], edge: Edge, *, origin: str
    ) -> None:
        if not points:
            raise CostError(f"{origin}: no points for {' x '.join(axes)}")
        self.axes = tuple(axes)
        self.edge = edge
        self._ticks = [sorted({p[axis] for p in points}) for axis in range(len(axes))]
        self._values = dict(points)
        self.holes = _fill(self._ticks, self._values)

    def at(self, *where: float) -> float:
        """The value at that point, one coordinate per axis."""
        self.edge.lookups += 1
        value = 0.0
        corners = [self._bracket(axis, x) for axis, x in enumerate(where)]
        for corner in product(*corners):
            weight = 1.0
            for _, share in corner:
                weight *= share
            if weight:
                value += weight * self._values[tuple(tick for tick, _ in corner)]
        return value

    def _bracket(self, axis: int, x: float) -> tuple[tuple[float, float], ...]:
        """The two grid lines around `x` with their weights; one line where there is no other."""
        ticks = self._ticks[axis]
        if x <= ticks[0]:
            return ((ticks[0], 1.0),)
        if x > ticks[-1]:
            self.edge.passed(self.axes[axis], x, ticks[-1])
            if len(ticks) == 1:
                return ((ticks[0], 1.0),)
        above = min(bisect_right(ticks, x), len(ticks) - 1)
        low, high = ticks[above - 1], ticks[above]
        share = (x - low) / (high - low)
        return ((low, 1.0 - share), (high, share))


def _fill(ticks: list[list[float]], values: dict[Point, float]) -> int:
    """Gives every grid point a value; how many had none.

    From the straight line through the others of its row, along the last axis that has two;
    where no axis has, from the nearest measured point.
    """
    measured = dict(values)
    for axis in reversed(range(len(ticks))):
        found: dict[Point, float] = {}
        for point in product(*ticks):
            if point not in values:
                row = _row(values, point, axis, ticks[axis])
                if len(row) > 1:
                    found[point] = _on_line(row, point[axis])
        values |= found
    for point in product(*ticks):
        if point not in values:
            values[point] = measured[min(measured, key=partial(_distance, point))]
    return len(values) - len(measured)


def _row(
    values: Mapping[Point, float], point: Point, axis: int, ticks: list[float]
) -> list[tuple[float, float]]:
    """The known (coordinate, value) pairs on the grid line through `point` along `axis`."""
    places = ((tick, (*point[:axis], tick, *point[axis + 1 :])) for tick in ticks)
    return [(tick, values[place]) for tick, place in places if place in values]


def _on_line(row: list[tuple[float, float]], x: float) -> float:
    above = min(max(bisect_right([tick for tick, _ in row], x), 1), len(row) - 1)
    (low, at_low), (high, at_high) = row[above - 1], row[above]
    return max(0.0, at_low + (at_high - at_low) * (x - low) / (high - low))


def _distance(point: Point, other: Point) -> float:
    return sum(abs(a - b) for a, b in zip(point, other, strict=True))
