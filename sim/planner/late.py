"""The fewest requests that must be late for their first token, whatever the order.

All workers of a pool are taken for one that is as fast as all together, which may leave
requests out and need not know the future. Requests are due equally long after they came,
so those in time may as well be computed in order of arrival; where one more does not fit,
the best to leave out is that without which the rest is done soonest (Kise, Ibaraki and
Mine, 1978: least late jobs when due times are in the order of release times).
"""

from heapq import heapreplace

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
WORKERS_MAX = 4096


def least_workers(at_s: Floats, work_s: Floats, within_s: float, late_max: int) -> int:
    """Workers with which no more than `late_max` must be late; 0 if nothing is to be done.

    `work_s`: of one worker, per request, in order of arrival. At most WORKERS_MAX.
    """
    some = work_s > 0
    at_s, work_s = at_s[some], work_s[some]
    if not len(work_s):
        return 0
    high = 1
    while high < WORKERS_MAX and not enough(at_s, work_s / high, within_s, late_max):
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        if enough(at_s, work_s / middle, within_s, late_max):
            high = middle
        else:
            low = middle
    return high


def enough(at_s: Floats, work_s: Floats, within_s: float, late_max: int) -> bool:
    """Whether one worker can have all but `late_max` done within that time after they came."""
    kept: list[int] = []
    busy_from = late = 0  # a busy period begins at that one of `kept`
    free_s = 0.0
    for index, (came_s, own_s) in enumerate(zip(at_s.tolist(), work_s.tolist(), strict=True)):
        if came_s >= free_s:
            busy_from, free_s = len(kept), came_s
        kept.append(index)
        free_s += own_s
        if free_s > came_s + within_s:
            late += 1
            if late > late_max:
                return False
            free_s = _leave_out(at_s, work_s, kept, busy_from)
    return True


def likely_workers(at_s: Floats, work_s: Floats, within_s: float, late_max: int) -> int:
    """A guess, no bound: in order of arrival, each to the worker that is free first."""
    low, high = 0, 1
    while high < WORKERS_MAX and _late_in_order(at_s, work_s, within_s, high) > late_max:
        low, high = high, high * 2
    while high - low > 1:
        middle = (low + high) // 2
        if _late_in_order(at_s, work_s, within_s, middle) > late_max:
            low = middle
        else:
            high = middle
    return high


def _late_in_order(at_s: Floats, work_s: Floats, within_s: float, workers: int) -> int:
    free_s, late = [0.0] * workers, 0
    for came_s, own_s in zip(at_s.tolist(), work_s.tolist(), strict=True):
        done_s = max(came_s, free_s[0]) + own_s
        heapreplace(free_s, done_s)
        late += done_s > came_s + within_s
    return late


def _leave_out(at_s: Floats, work_s: Floats, kept: list[int], busy_from: int) -> float:
    """Drop that one from `kept` without which the rest ends soonest; when that is."""
    some = np.array(kept[busy_from:])
    work = work_s[some]
    ends = at_s[some] + work[::-1].cumsum()[::-1]  # if nothing before it were to be done
    none = np.array([-np.inf])
    before = np.concatenate([none, np.maximum.accumulate(ends)[:-1]])
    behind = np.concatenate([np.maximum.accumulate(ends[::-1])[::-1][1:], none])
    without = np.maximum(before - work, behind)
    place = int(without.argmin())
    del kept[busy_from + place]
    return float(without[place])
