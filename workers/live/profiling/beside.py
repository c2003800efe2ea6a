"""Times iterations while others compute on the same machine, in turns with none computing.

    round 1:  alone  beside prefills  beside decodes    round 2:  alone  …
              every shape once in each                            medians over the rounds

Two workers of one machine share caches and memory, and may share cores: the table, which is
of a worker by itself, is too fast for them. What comes out is a factor for each kind of
iteration beside each kind; a mixed iteration counts as a prefill.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from ....proto.batch import Batch
from ..engine import Engine
from .neighbours import Neighbours
from .shapes import Room, Shape
from .timing import batch_of

PREFILL, DECODE = "prefill", "decode"
KINDS = (PREFILL, DECODE)
SHAPES = (
    Shape(prefill_tokens=32),
    Shape(prefill_tokens=128),
    Shape(prefill_tokens=128, prefill_context=256),
    Shape(prefill_tokens=256),
    Shape(prefill_tokens=64, decodes=4, decode_context=256),
    Shape(decodes=1, decode_context=256),
    Shape(decodes=4, decode_context=64),
    Shape(decodes=4, decode_context=256),
    Shape(decodes=8, decode_context=256),
)
LEAST = (Shape(prefill_tokens=4), Shape(decodes=1, decode_context=4))  # for the tiniest worker
Done = Callable[[int, int], None]  # (measurements done, in all)


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """Times as long, of each shape: by the kind of its neighbours, `neighbours` of them."""

    neighbours: int
    ratios: dict[str, dict[Shape, float]]

    def factor(self, kind: str, beside: str) -> float:
        """The median of the shapes of one kind; at least 1. What was not seen: as beside others."""
        others = [ratio for other in KINDS for ratio in self._of(kind, other)]
        return max(1.0, median(self._of(kind, beside) or others or [1.0]))

    def lines(self) -> list[str]:
        """For the head of a table."""
        lines = []
        for kind in KINDS:
            ways = ", ".join(
                f"{self.factor(kind, other):.3f} beside {self.neighbours} {other}"
                for other in KINDS
            )
            lines.append(f"# slowdown {kind} = {ways}")
        return lines

    def describe(self, kind: str, beside: str) -> str:
        """For whoever watches, with the least and the most of the shapes."""
        ratios = self._of(kind, beside)
        if not ratios:
            return f"{kind} beside {self.neighbours} {beside}: not seen"
        return (
            f"{kind} beside {self.neighbours} {beside}: {median(ratios):.2f} x "
            f"({min(ratios):.2f} to {max(ratios):.2f} by shape)"
        )

    def _of(self, kind: str, beside: str) -> list[float]:
        return [ratio for shape, ratio in self.ratios[beside].items() if kind_of(shape) == kind]


def kind_of(shape: Shape) -> str:
    """What an iteration asks of a machine: any prefill makes it one."""
    return PREFILL if shape.prefill_tokens else DECODE


def shapes_beside(room: Room) -> list[Shape]:
    """Those that are measured, as far as there is room; some of each kind."""
    shapes = [shape for shape in SHAPES if room.holds(shape)]
    known = {kind_of(shape) for shape in shapes}
    return shapes + [shape for shape in LEAST if kind_of(shape) not in known]


def measure_beside(
    engine: Engine, room: Room, neighbours: Neighbours, rounds: int, done: Done
) -> Beside:
    """Every shape `rounds` times alone and beside each kind. `neighbours` rest afterwards."""
    shapes = shapes_beside(room)
    batches = {shape: batch_of(shape, room.block_tokens) for shape in shapes}
    loads = {kind: [b for s, b in batches.items() if kind_of(s) == kind] for kind in KINDS}
    seen: dict[tuple[str, Shape], list[float]] = defaultdict(list)
    total = rounds * (1 + len(KINDS)) * len(shapes)
    _run_all(engine, batches.values())  # the first time is slower
    for beside in ("", *KINDS) * rounds:
        if beside:
            neighbours.load(loads[beside])
        for shape, batch in batches.items():
            seen[beside, shape].append(_seconds(engine, batch))
            done(sum(map(len, seen.values())), total)
        neighbours.rest()
    return Beside(neighbours=len(neighbours), ratios=_ratios(seen, shapes))


def _ratios(
    seen: dict[tuple[str, Shape], list[float]], shapes: Sequence[Shape]
) -> dict[str, dict[Shape, float]]:
    return {
        beside: {s: median(seen[beside, s]) / median(seen["", s]) for s in shapes}
        for beside in KINDS
    }


def _seconds(engine: Engine, batch: Batch) -> float:
    began = time.perf_counter()
    engine.run(batch, _nothing)
    return time.perf_counter() - began


def _run_all(engine: Engine, batches: Iterable[Batch]) -> None:
    for batch in batches:
        engine.run(batch, _nothing)


def _nothing(_: int) -> None:
    """No copy waits for a layer."""
