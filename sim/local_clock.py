"""A machine's own clock: off by a constant, and faster or slower than true time.

No core may compare an instant of one machine with one of another. Worlds whose
clocks disagree show it if one does.
"""

from dataclasses import dataclass
from random import Random

from .clock import to_ns

MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class LocalClock:
    """`local(t) = offset_ns + t + t x drift_ppm / 10^6`. Exact in whole nanoseconds."""

    offset_ns: int = 0
    drift_ppm: int = 0

    def local(self, true_ns: int) -> int:
        """What the machine's clock shows at `true_ns`."""
        return self.offset_ns + true_ns + true_ns * self.drift_ppm // MILLION

    def true(self, local_ns: int) -> int:
        """The first true instant at which the machine's clock shows `local_ns` or more."""
        true_ns = (local_ns - self.offset_ns) * MILLION // (MILLION + self.drift_ppm)
        while self.local(true_ns) < local_ns:
            true_ns += 1
        return true_ns


def draw_clock(name: str, seed: int, offset_s: float, drift: float) -> LocalClock:
    """The clock of one life of a party: its offset and drift at most these."""
    if not (offset_s or drift):
        return TRUE
    random = Random(f"clock {seed} {name}")
    return LocalClock(
        offset_ns=to_ns(random.uniform(0.0, offset_s)),
        drift_ppm=round(random.uniform(-drift, drift) * MILLION),
    )


TRUE = LocalClock()
