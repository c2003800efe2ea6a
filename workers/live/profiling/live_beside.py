"""What a live worker's iterations take longer while others of its cluster compute.

    worker 0   |== decode ==|== decode ==|== decode ==|     each of these two workers' iterations
    worker 1       |======= prefill =======|                lies wholly beside the other's, or not

Where more processes want to run than there are cores (workers, gateway, controller, clients),
it is then that an iteration has to wait. The bare engine beside bare engines does not show that.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from ..iteration_log import TimedIteration
from .beside import DECODE, KINDS, PREFILL, Beside
from .live import LiveCost, shape_of
from .shapes import Shape

ENOUGH = 0.9  # of an iteration's time, and of its neighbours, that must have computed meanwhile


@dataclass(slots=True)
class BesideSamples:
    """Gathers what was seen, round by round. `cost`: of one such worker by itself."""

    cost: LiveCost
    neighbours: int
    seen: dict[tuple[str, Shape], list[float]] = field(default_factory=lambda: defaultdict(list))

    def add(self, logs: Sequence[Sequence[TimedIteration]], bare_us: Mapping[Shape, float]) -> None:
        """The iterations of all workers in the same minutes, and the bare engine's times."""
        for number, mine in enumerate(logs):
            others = [run for other in (*logs[:number], *logs[number + 1 :]) for run in other]
            for run in mine:
                shape, beside = shape_of(run), self._beside(run, others)
                if shape in bare_us and beside:
                    factor = self.cost.prefill if shape.prefill_tokens else self.cost.decode
                    took_us = (run.ended_ns - run.began_ns) / 1e3
                    self.seen[beside, shape].append(took_us / (factor * bare_us[shape]))

    def beside(self) -> Beside:
        """Medians, per shape and kind of neighbours."""
        ratios: dict[str, dict[Shape, float]] = {kind: {} for kind in KINDS}
        for (beside, shape), found in self.seen.items():
            ratios[beside][shape] = median(found)
        return Beside(neighbours=self.neighbours, ratios=ratios)

    def _beside(self, run: TimedIteration, others: Sequence[TimedIteration]) -> str:
        """The kind of iterations beside which all of it ran; empty if not all of it did."""
        common = dict.fromkeys(KINDS, 0)
        for other in others:
            both_ns = min(run.ended_ns, other.ended_ns) - max(run.began_ns, other.began_ns)
            common[PREFILL if other.prefills else DECODE] += max(0, both_ns)
        enough_ns = ENOUGH * self.neighbours * (run.ended_ns - run.began_ns)
        return next((kind for kind in KINDS if common[kind] >= enough_ns), "")
