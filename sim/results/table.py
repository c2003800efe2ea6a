"""A run's records as columns of numbers: what every figure is computed from."""

import numpy as np
from numpy.typing import NDArray

from ..clock import NS_PER_S
from .records import UNKNOWN, Ending, Records

Numbers = NDArray[np.int64] | NDArray[np.float64]
Mask = NDArray[np.bool_]


class Table:
    """All requests, in order of their ends. Latencies are of completed ones alone."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self.ending = records.column("ending")
        self.done: Mask = self.ending == Ending.COMPLETED
        self._asked = records.column("asked_ns")
        self._first = records.column("first_ns")
        self._last = records.column("last_ns")
        self._tokens = records.column("output_tokens")

    def of(self, name: str) -> NDArray[np.int64]:
        """A column of `records.Row`."""
        return self._records.column(name)

    def count(self, ending: Ending) -> int:
        """How many ended so."""
        return int(np.count_nonzero(self.ending == ending))

    @property
    def ttft_ns(self) -> NDArray[np.int64]:
        """Arrival to first token."""
        return (self._first - self._asked)[self.done]

    @property
    def e2e_ns(self) -> NDArray[np.int64]:
        """Arrival to last token."""
        return (self._last - self._asked)[self.done]

    @property
    def tpot_ns(self) -> NDArray[np.float64]:
        """(last − first) / (tokens − 1), of those with at least two tokens."""
        several = self.done & (self._tokens > 1)
        return np.asarray((self._last - self._first)[several] / (self._tokens[several] - 1))

    def meets(self, ttft_slo_s: float, tpot_slo_s: float) -> Mask:
        """Of all requests, those that completed within both bounds."""
        spans = (self._last - self._first) / np.maximum(1, self._tokens - 1) / NS_PER_S
        soon = (self._first - self._asked) / NS_PER_S <= ttft_slo_s
        return self.done & soon & ((self._tokens < 2) | (spans <= tpot_slo_s))

    def span_s(self) -> float:
        """First arrival to last token; 0 if nobody got one."""
        if not len(self._last) or self._last.max() == UNKNOWN:
            return 0.0
        return int(self._last.max() - self._asked.min()) / NS_PER_S
