"""Recorded and simulated figures side by side."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, inf

from rich.table import Table

STATISTICS = ("mean", "p50", "p90", "p99")


@dataclass(frozen=True, kw_only=True)
class Line:
    """One metric: what was recorded, what was simulated, and how far apart they may be."""

    metric: str
    statistic: str
    recorded: float
    simulated: float
    bound: float

    @property
    def error(self) -> float:
        return self.simulated / self.recorded - 1

    @property
    def holds(self) -> bool:
        return abs(self.error) <= self.bound


def statistics(values: Sequence[float]) -> dict[str, float]:
    """Mean and nearest-rank percentiles."""
    ordered = sorted(values)
    ranks = {
        f"p{percent}": ordered[ceil(len(ordered) * percent / 100) - 1] for percent in (50, 90, 99)
    }
    return {"mean": sum(ordered) / len(ordered), **ranks}


def compare(
    recorded: Mapping[str, Sequence[float]],
    simulated: Mapping[str, Sequence[float]],
    bounds: Mapping[str, float],
) -> list[Line]:
    """Every statistic of every metric. `bounds`: by "metric statistic", by metric, or none."""
    lines = []
    for metric in recorded:
        ours, theirs = statistics(simulated[metric]), statistics(recorded[metric])
        lines += [
            Line(
                metric=metric, statistic=name, recorded=theirs[name], simulated=ours[name],
                bound=bounds.get(f"{metric} {name}", bounds.get(metric, inf)),
            )
            for name in STATISTICS
        ]  # fmt: skip
    return lines


def table(title: str, lines: Sequence[Line]) -> Table:
    """For the terminal."""
    drawn = Table(title=title)
    for name in ("metric", "", "recorded s", "simulated s", "error", "bound", ""):
        drawn.add_column(name, justify="right" if name else "left")
    for line in lines:
        drawn.add_row(
            line.metric, line.statistic, f"{line.recorded:.4f}", f"{line.simulated:.4f}",
            f"{line.error:+.1%}", *_judged(line),
        )  # fmt: skip
    return drawn


def _judged(line: Line) -> tuple[str, str]:
    if line.bound == inf:
        return "", ""
    return f"{line.bound:.1%}", "ok" if line.holds else "MISSED"
