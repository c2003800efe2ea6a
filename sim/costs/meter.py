"""Counts the joules of one worker: each iteration by its phase, idle power between them."""

from ..clock import NS_PER_S
from .power import Power
from .work import Work


class Meter:
    """One life of a worker. Energy of an iteration counts when it starts."""

    def __init__(self, power: Power) -> None:
        self._power = power
        self.busy_ns = 0
        self.busy_j = 0.0

    def add(self, work: Work, duration_ns: int) -> None:
        """An iteration runs for that long."""
        self.busy_ns += duration_ns
        self.busy_j += self._power.iteration_j(work, duration_ns / NS_PER_S)

    def total_j(self, span_ns: int) -> float:
        """Joules over `span_ns`, of which all but the iterations are idle."""
        idle_s = max(0, span_ns - self.busy_ns) / NS_PER_S
        return self.busy_j + self._power.idle_w * idle_s
