"""Watts by phase, energy of an iteration, and what a power cap costs in time.

    idle      the device's idle power
    prefill   its peak (arithmetic-bound), also beside decodes
    decode    low + (high - low) / (1 + exp(midpoint - log2(batch)))

A cap below what a phase draws lowers the clock. Above idle, power goes with
clock^1.54: the exponent for which a 70 % cap makes H100 prefills 1.30 x as long, as
Splitwise (arXiv 2311.18677) states; decodes are bound by memory, whose clock stays,
and take as long as before.
"""

from dataclasses import dataclass
from math import exp, log2

from ...proto.batch import Batch
from .catalogue import Device
from .errors import CostError
from .protocol import CostModel
from .work import Prefill, Work, work_of

CLOCK_EXPONENT = 1.54


@dataclass(frozen=True, slots=True, kw_only=True)
class Power:
    """Of one worker: all its GPUs together, in watts."""

    idle_w: float
    prefill_w: float
    decode_low_w: float
    decode_high_w: float
    decode_midpoint: float
    cap_w: float | None = None

    def __post_init__(self) -> None:
        if self.cap_w is not None and self.cap_w <= self.idle_w:
            raise CostError(f"power_cap_w ({self.cap_w:g}) is not above idle ({self.idle_w:g} W)")

    def wanted_w(self, work: Work) -> float:
        """What an iteration would draw without a cap."""
        if work.prefills:
            return self.prefill_w
        if not work.decodes:
            return self.idle_w
        span = self.decode_high_w - self.decode_low_w
        return self.decode_low_w + span / (1 + exp(self.decode_midpoint - log2(work.decodes)))

    def drawn_w(self, work: Work) -> float:
        """What it draws."""
        wanted = self.wanted_w(work)
        return wanted if self.cap_w is None else min(wanted, self.cap_w)

    def lengthening(self, work: Work) -> float:
        """How many times as long an iteration takes under the cap, >= 1."""
        wanted = self.wanted_w(work)
        if self.cap_w is None or not work.prefills or wanted <= self.cap_w:
            return 1.0
        above = (wanted - self.idle_w) / (self.cap_w - self.idle_w)
        return float(above ** (1 / CLOCK_EXPONENT))

    def iteration_j(self, work: Work, duration_s: float) -> float:
        """Joules of one iteration."""
        return self.drawn_w(work) * duration_s

    def token_j(self, work: Work, duration_s: float) -> float:
        """Joules per token that the iteration computes."""
        return self.iteration_j(work, duration_s) / work.tokens


def power_of(device: Device, gpus: int, cap_w: float | None) -> Power:
    """`gpus` devices; `cap_w` is per GPU."""
    return Power(
        idle_w=device.idle_w.value * gpus,
        prefill_w=device.peak_w.value * gpus,
        decode_low_w=device.decode_low_w.value * gpus,
        decode_high_w=device.decode_high_w.value * gpus,
        decode_midpoint=device.decode_midpoint.value,
        cap_w=None if cap_w is None else cap_w * gpus,
    )


class Capped:
    """A cost model under a power cap."""

    def __init__(self, cost: CostModel, power: Power) -> None:
        self._cost, self._power = cost, power

    def iteration_ns(self, batch: Batch) -> int:
        return self.work_ns(work_of(batch))

    def work_ns(self, work: Work) -> int:
        return round(self._cost.work_ns(work) * self._power.lengthening(work))

    def describe(self) -> tuple[str, ...]:
        longer = self._power.lengthening(Work(prefills=(Prefill(1, 0),)))
        cap_w = self._power.cap_w
        return (*self._cost.describe(), f"power cap {cap_w:g} W: prefill x {longer:.3f}")
