"""Workers of one node share its compute: an iteration is slowed while others run theirs.

    a  |======+------------+=====|      = at full speed, - beside b, which takes `factor` as long
    b         |------------|

Work is counted in nanoseconds at full speed. Whenever an iteration begins or ends, what the
others have done until now is settled and the rest goes on at the new speed. An iteration passes
points on its way (a layer is stored, a token drawn): each comes when so much of it is done.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..proto.ids import WorkerId, WorkerKey
from .clock import Action, Scheduler
from .costs.slowdown import Kind, Slowdown
from .scenario import Scenario


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """`action(argument)`, once so much of an iteration is done; points come in order."""

    done_ns: int
    action: Action
    argument: Any


@dataclass(slots=True)
class _Course:
    """An iteration under way. `done_ns` was true at `since_ns`; since then 1 / factor a ns."""

    slowdown: Slowdown
    kind: Kind
    points: list[Point]  # still to come, the next one last
    since_ns: int
    done_ns: float = 0.0
    factor: float = 0.0
    aims: int = 0  # how often the next point was aimed at: older aims are void


class SharedNode:
    """The iterations that run on one node now."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._courses: dict[WorkerKey, _Course] = {}

    def begin(
        self, key: WorkerKey, slowdown: Slowdown, kind: Kind, points: Sequence[Point]
    ) -> None:
        """A worker begins an iteration, which ends with its last point."""
        assert key not in self._courses, f"worker {key}: two iterations at once"
        now_ns = self._scheduler.now_ns
        self._courses[key] = _Course(slowdown, kind, list(reversed(points)), now_ns)
        self._settle()

    def leave(self, key: WorkerKey) -> None:
        """The process is gone, and its iteration with it."""
        if self._courses.pop(key, None) is not None:
            self._settle()

    def _settle(self) -> None:
        """Somebody began or ended: everybody goes on at the speed that this leaves them."""
        for key, course in self._courses.items():
            beside = [other.kind for other in self._courses.values() if other is not course]
            factor = course.slowdown.factor(course.kind, beside)
            if factor != course.factor:
                self._change(course, factor)
                self._aim(key, course)

    def _change(self, course: _Course, factor: float) -> None:
        now_ns = self._scheduler.now_ns
        if course.factor:
            course.done_ns += (now_ns - course.since_ns) / course.factor
        course.since_ns, course.factor = now_ns, factor

    def _aim(self, key: WorkerKey, course: _Course) -> None:
        course.aims += 1
        left_ns = course.points[-1].done_ns - course.done_ns
        at_ns = course.since_ns + round(left_ns * course.factor)
        self._scheduler.at(at_ns, self._arrive, (key, course, course.aims))

    def _arrive(self, aim: tuple[WorkerKey, _Course, int]) -> None:
        key, course, number = aim
        if self._courses.get(key) is not course or course.aims != number:
            return  # gone, or its speed has changed
        point = course.points.pop()
        course.since_ns, course.done_ns = self._scheduler.now_ns, float(point.done_ns)
        if course.points:
            self._aim(key, course)
        else:
            del self._courses[key]
            self._settle()
        point.action(point.argument)


@dataclass(frozen=True, slots=True)
class Shared:
    """A worker's place on a node that it shares."""

    node: SharedNode
    slowdown: Slowdown

    def begin(self, key: WorkerKey, kind: Kind, points: Sequence[Point]) -> None:
        """The worker begins an iteration."""
        self.node.begin(key, self.slowdown, kind, points)


@dataclass(frozen=True, slots=True)
class Nodes:
    """The workers that share nodes where sharing costs anything; all others run as ever."""

    shared: dict[WorkerId, Shared] = field(default_factory=dict)

    def describe(self) -> list[str]:
        """One line for the report, per slowdown."""
        groups: dict[str, list[WorkerId]] = {}
        for worker_id, place in self.shared.items():
            groups.setdefault(place.slowdown.describe(), []).append(worker_id)
        return [f"{', '.join(names)}: {line}" for line, names in groups.items()]


def shared_nodes(
    scenario: Scenario, slowdowns: Mapping[str, Slowdown | None], scheduler: Scheduler
) -> Nodes:
    """Groups the workers of a scenario; `slowdowns` by the hardware's name."""
    members: dict[str, list[tuple[WorkerId, Slowdown]]] = {}
    for pool in scenario.pools:
        slowdown = slowdowns[pool.hardware] or Slowdown()
        for index in range(pool.count):
            worker_id = WorkerId(f"{pool.name}-{index}")
            members.setdefault(pool.node_of(index), []).append((worker_id, slowdown))
    shared: dict[WorkerId, Shared] = {}
    for workers in members.values():
        if len(workers) > 1 and any(slowdown.added for _, slowdown in workers):
            node = SharedNode(scheduler)
            shared |= {worker_id: Shared(node, slowdown) for worker_id, slowdown in workers}
    return Nodes(shared)
