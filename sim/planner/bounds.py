"""Which fleets cannot meet the SLO, whatever the scheduler does: told without simulating.

Optimistic by construction, twice over. A request that even an idle worker serves too
late is a miss for certain; with more of those than the SLO allows the shape is out. And in
any window of time, what must be done within it fits into its worker-seconds:

    work of the requests that arrive in it and are due in it,
        less the dearest that may be missed           <=  workers x length of the window

A request is due TTFT + TPOT x (its tokens - 1) after it arrived, its prefill TTFT after.
Bursts share the misses: of all prefills together no more must be late than may be missed,
with the best choice of those that are left out (`late.py`).
A prefill worker may decode what finds no room among the decode workers, so a prefill
pool's time that its prefills leave counts for decodes too.
"""

import numpy as np
from numpy.typing import NDArray

from ...proto.views import Role
from .budgets import Budgets
from .demand import (
    Floats,
    decode_s,
    idle_tpot_s,
    idle_ttft_s,
    mixed_s,
    prefill_s,
    requests_of,
)
from .fleet import Fleet, Shape
from .floor import Floor, floor_of
from .late import least_workers, likely_workers
from .machines import WorkerType
from .question import Question

Bools = NDArray[np.bool_]
Window = tuple[float, float]  # seconds
GRID = 16  # windows begin at so many arrivals, and end at twice as many deadlines
TOLERANCE = 1e-6  # of rounding: costs are whole nanoseconds


class Bounds:
    """Lower bounds for one load; what concerns a worker type is worked out once."""

    def __init__(self, question: Question) -> None:
        self._question, self._slo = question, question.slo
        self._requests = requests = requests_of(question.load)
        self._misses_max = question.slo.misses_max(len(requests.at_s))
        slo = question.slo
        self._due_prefill = requests.at_s + slo.ttft_s
        self._due = self._due_prefill + slo.tpot_s * requests.decodes
        windows = _windows(requests.at_s, self._due_prefill, self._due)
        self._begins = np.array([begin for begin, _ in windows])
        self._ends = np.array([end for _, end in windows])
        self._floors: dict[tuple[str, Role], Floor] = {}
        self._needs: dict[tuple[str, Role, bool], Floats] = {}
        self._likely: dict[str, int] = {}
        self._bursts_of: dict[tuple[str, bool], float] = {}

    def certain_misses(self, shape: Shape) -> int:
        """Requests that idle workers of that shape serve too late."""
        floors = [self._floor(*pool) for pool in zip(shape.types, shape.roles, strict=True)]
        budgets = self._question.budgets(shape.types[0], shape.roles[0])
        ttft_s = idle_ttft_s(floors[0], self._requests, budgets)
        tpots_s = [idle_tpot_s(floor, self._requests) for floor in floors]
        tpot_s = np.min(tpots_s, axis=0)
        late = self._late(ttft_s) | (tpot_s > self._slo.tpot_s + TOLERANCE)
        return int(late.sum())

    def possible(self, shape: Shape, most: tuple[int, ...]) -> Bools:
        """For every count of workers, from 1 to `most` of each pool: can it be enough?"""
        if self.certain_misses(shape) > self._misses_max:
            return np.zeros(most, dtype=bool)
        if not shape.disaggregated:
            enough: Bools = np.arange(1, most[0] + 1) >= self.least(shape)[0] - TOLERANCE
            return enough
        return np.array([self._decodes_enough(shape, p, most[1]) for p in range(1, most[0] + 1)])

    def allows(self, fleet: Fleet) -> bool:
        """Whether no bound is against that fleet."""
        shape = fleet.shape
        if self.certain_misses(shape) > self._misses_max:
            return False
        if not shape.disaggregated:
            return fleet.counts[0] >= self.least(shape)[0] - TOLERANCE
        return bool(self._decodes_enough(shape, fleet.counts[0], fleet.counts[1])[-1])

    def least(self, shape: Shape) -> tuple[float, ...]:
        """Workers of each pool that are needed if the other does not help."""
        if not shape.disaggregated:
            kind = shape.types[0]
            needs = [self._need(kind, role, mixed=True) for role in (Role.MIXED, Role.PREFILL)]
            return (max(*map(self._workers, needs), self._by_bursts(kind, mixed=True)),)
        first, second = shape.types
        prefills = self._workers(self._need(first, Role.PREFILL))
        decodes = self._workers(self._need(second, Role.DECODE))
        return max(prefills, self._by_bursts(first, mixed=False)), decodes

    def likely_prefills(self, kind: WorkerType) -> int:
        """A guess, no bound: prefill workers of that type that may be enough."""
        if kind.name not in self._likely:
            floor, budgets = (
                self._floor(kind, Role.PREFILL),
                self._question.budgets(kind, Role.PREFILL),
            )
            times_s = idle_ttft_s(floor, self._requests, budgets)
            self._likely[kind.name] = likely_workers(
                self._requests.at_s, times_s, self._slo.ttft_s, self._misses_max
            )
        return self._likely[kind.name]

    def _by_bursts(self, kind: WorkerType, *, mixed: bool) -> float:
        """Workers that bursts of prefills need."""
        key = (kind.name, mixed)
        if key not in self._bursts_of:
            pool = Role.MIXED if mixed else Role.PREFILL
            budgets = self._question.budgets(kind, pool)
            self._bursts_of[key] = self._bursts(self._floor(kind, pool), budgets)
        return self._bursts_of[key]

    def _bursts(self, floor: Floor, budgets: Budgets) -> float:
        """Those that not even an idle worker serves in time are late without any work."""
        certain = self._late(idle_ttft_s(floor, self._requests, budgets))
        work = np.where(certain, 0.0, self._seconds(floor, budgets, Role.PREFILL))
        within_s = self._slo.ttft_s * (1 + TOLERANCE)
        late_max = self._misses_max - int(certain.sum())
        workers = least_workers(self._requests.at_s, work, within_s, late_max)
        return float(workers) if workers > 1 else 0.0

    def _late(self, ttft_s: Floats) -> Bools:
        late: Bools = ttft_s > self._slo.ttft_s + TOLERANCE
        return late

    def _workers(self, need_s: Floats) -> float:
        return float((need_s / self._lengths).max(initial=0.0))

    def _decodes_enough(self, shape: Shape, prefills: int, most: int) -> Bools:
        """Which counts of decode workers may do beside so many prefill workers."""
        first, second = shape.types
        left_s = prefills * self._lengths * (1 + TOLERANCE) - self._need(first, Role.PREFILL)
        if (left_s < 0).any() or prefills < self._by_bursts(first, mixed=False):
            return np.zeros(most, dtype=bool)
        there_s, here_s = self._need(first, Role.DECODE), self._need(second, Role.DECODE)
        taken = np.minimum(1.0, left_s / np.maximum(there_s, TOLERANCE))
        least = (here_s * (1 - taken) / self._lengths).max(initial=0.0)
        enough: Bools = np.arange(1, most + 1) >= least - TOLERANCE
        return enough

    @property
    def _lengths(self) -> Floats:
        lengths: Floats = self._ends - self._begins
        return lengths

    def _floor(self, kind: WorkerType, role: Role) -> Floor:
        mixed = role is Role.MIXED
        key = (kind.name, Role.MIXED if mixed else Role.PREFILL)
        if key not in self._floors:
            budgets = self._question.budgets(kind, role)
            self._floors[key] = floor_of(kind, self._question.model, budgets)
        return self._floors[key]

    def _need(self, kind: WorkerType, role: Role, *, mixed: bool = False) -> Floats:
        """Worker-seconds of prefill, of decode or of both that every window asks of such workers.

        `mixed`: of workers that have a mixed worker's budgets.
        """
        key = (kind.name, role, mixed)
        if key not in self._needs:
            pool = Role.MIXED if mixed else role
            floor, budgets = self._floor(kind, pool), self._question.budgets(kind, pool)
            due = self._due_prefill if role is Role.PREFILL else self._due
            self._needs[key] = self._within(self._seconds(floor, budgets, role), due)
        return self._needs[key]

    def _seconds(self, floor: Floor, budgets: Budgets, role: Role) -> Floats:
        """Of each request."""
        requests = self._requests
        if role is Role.PREFILL:
            work = prefill_s(floor, requests, budgets)
            return np.where(requests.fresh <= budgets.in_place_tokens_max, 0.0, work)
        if role is Role.DECODE:
            return decode_s(floor, requests, budgets, self._slo)
        return mixed_s(floor, requests, budgets, self._slo)

    def _within(self, work: Floats, due: Floats) -> Floats:
        """Of each window: the work that must be done in it, less the dearest misses."""
        order = np.argsort(-work, kind="stable")
        at_s, due, work = self._requests.at_s[order], due[order], work[order]
        inside = (at_s >= self._begins[:, None]) & (due <= self._ends[:, None])
        counted = inside & (np.cumsum(inside, axis=1) > self._misses_max)
        return np.asarray(counted @ work)


def _windows(at_s: Floats, *dues: Floats) -> list[Window]:
    """From some arrivals to some deadlines."""
    places = np.unique(np.linspace(0, len(at_s) - 1, GRID).astype(int))
    begins = np.sort(at_s)[places]
    ends = np.unique(np.concatenate([np.sort(due)[places] for due in dues]))
    return [(begin, end) for begin in np.unique(begins) for end in ends if end > begin]
