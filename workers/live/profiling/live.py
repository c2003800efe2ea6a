"""What an iteration takes in a live worker, against the bare engine in the same minutes.

    |--- engine: factor x bare ---|- between -|--- engine …

Around a live worker's engine its process sends tokens and heartbeats, and a gateway, a
controller and clients have their share of the machine: the engine's own time grows by a
factor, and from one iteration to the next there are hand-offs between threads.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median

from ..iteration_log import TimedIteration
from .shapes import Shape

IDLE_NS = 20_000_000  # while there is work, less than that passes between two iterations


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """us between two iterations = base + requests x each."""

    base_us: float
    each_us: float

    def us(self, requests: int) -> float:
        """Of a batch of so many."""
        return self.base_us + requests * self.each_us


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveCost:
    """Of one machine, with everything on it that a cluster needs."""

    prefill: float  # live engine time / bare; at least 1
    decode: float
    between: Host

    def us(self, shape: Shape, engine_us: float) -> float:
        """A live iteration, up to the next one's begin."""
        factor = self.prefill if shape.prefill_tokens else self.decode
        return factor * engine_us + self.between.us(shape.decodes + (shape.prefill_tokens > 0))

    def describe(self) -> str:
        """What is in the table."""
        between = f"{self.between.base_us:.0f} us and {self.between.each_us:.1f} us per request"
        return (
            f"engine x {self.prefill:.3f} in prefills, x {self.decode:.3f} in decodes, "
            f"{between} between two"
        )


@dataclass(slots=True)
class LiveSamples:
    """Gathers what was seen, round by round."""

    ratios: dict[bool, list[float]] = field(default_factory=lambda: defaultdict(list))
    gaps_us: dict[int, list[float]] = field(default_factory=lambda: defaultdict(list))

    def add(self, runs: Sequence[TimedIteration], bare_us: dict[Shape, float]) -> None:
        """A live worker's iterations, and the bare engine's time of their shapes."""
        by_shape: dict[Shape, list[float]] = defaultdict(list)
        for run in runs:
            by_shape[shape_of(run)].append((run.ended_ns - run.began_ns) / 1e3)
        for shape, bare in bare_us.items():
            if shape in by_shape:
                self.ratios[shape.prefill_tokens > 0].append(median(by_shape[shape]) / bare)
        for earlier, later in pairwise(runs):
            gap_ns = later.began_ns - earlier.ended_ns
            if not later.prefills and gap_ns < IDLE_NS:
                self.gaps_us[later.decodes].append(gap_ns / 1e3)

    def cost(self) -> LiveCost:
        """Medians; a straight line through the least and the largest batch's gaps."""
        few, many = min(self.gaps_us), max(self.gaps_us)
        low, high = median(self.gaps_us[few]), median(self.gaps_us[many])
        each_us = max(0.0, high - low) / max(1, many - few)
        between = Host(base_us=max(0.0, low - each_us * few), each_us=each_us)
        return LiveCost(
            prefill=_factor(self.ratios[True]), decode=_factor(self.ratios[False]), between=between
        )


def shapes_seen(runs: Iterable[TimedIteration]) -> list[Shape]:
    """What the bare engine is to compute for comparison: each shape once, mixed ones left out."""
    shapes = (shape_of(run) for run in runs)
    return list(dict.fromkeys(s for s in shapes if not (s.prefill_tokens and s.decodes)))


def shape_of(run: TimedIteration) -> Shape:
    """Contexts of decodes to 16 tokens; several prefills as one."""
    context = run.decode_keys // run.decodes // 16 * 16 if run.decodes else 0
    tokens = sum(new for new, _ in run.prefills)
    before = max((start for _, start in run.prefills), default=0)
    return Shape(
        prefill_tokens=tokens, prefill_context=before, decodes=run.decodes, decode_context=context
    )


def _factor(ratios: Sequence[float]) -> float:
    return max(1.0, median(ratios)) if ratios else 1.0
