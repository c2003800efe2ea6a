"""Counts of the gaps between tokens, in a table whose size does not grow with the run.

Gaps fall into buckets that are at most 1/1024 of their values wide (below 2 048 ns:
one per nanosecond). A bucket keeps the count and the sum of what fell into it, so
mean and maximum are exact, and a percentile is the mean of the bucket that the
nearest-rank value lies in: within 0.1 % of it, and equal to it where all of a
bucket's gaps are equal.
"""

from array import array
from collections.abc import Iterable
from math import ceil

import numpy as np
from numpy.typing import NDArray

STEPS = 1024  # buckets per doubling
BUCKETS = 65 * STEPS + STEPS
PENDING_MAX = 1 << 16  # gaps that wait to be counted


class Gaps:
    """All gaps of a run, ns. Tokens that came together have gaps of 0."""

    def __init__(self) -> None:
        self.together = 0
        self._pending = array("q")
        self._counts = np.zeros(BUCKETS, np.int64)
        self._sums = np.zeros(BUCKETS, np.int64)
        self._max_ns = 0

    def add(self, gaps_ns: Iterable[int], together: int) -> None:
        """The gaps of one request, and how many of its tokens came with the one before."""
        self._pending.extend(gaps_ns)
        self.together += together
        if len(self._pending) >= PENDING_MAX:
            self._fold()

    @property
    def count(self) -> int:
        """How many there are."""
        self._fold()
        return self.together + int(self._counts.sum())

    @property
    def mean_ns(self) -> float:
        """Their mean; 0 if there are none."""
        count = self.count
        return int(self._sums.sum()) / count if count else 0.0

    @property
    def max_ns(self) -> int:
        """The longest; 0 if there are none."""
        self._fold()
        return self._max_ns

    def percentile_ns(self, percent: float) -> float:
        """Nearest rank, to within 0.1 %; 0 if there are none."""
        rank = ceil(self.count * percent / 100) - self.together
        if rank <= 0:
            return 0.0
        bucket = int(np.searchsorted(np.cumsum(self._counts), rank))
        return int(self._sums[bucket]) / int(self._counts[bucket])

    def _fold(self) -> None:
        if not self._pending:
            return
        gaps = np.array(self._pending, np.int64)
        self._pending = array("q")
        buckets = _buckets(gaps)
        self._counts += np.bincount(buckets, minlength=BUCKETS)
        np.add.at(self._sums, buckets, gaps)
        self._max_ns = max(self._max_ns, int(gaps.max()))


def _buckets(gaps_ns: NDArray[np.int64]) -> NDArray[np.int64]:
    mantissas, exponents = np.frexp(gaps_ns.astype(np.float64))
    fine = (mantissas * (2 * STEPS)).astype(np.int64)
    return exponents.astype(np.int64) * STEPS + fine
