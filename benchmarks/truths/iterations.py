"""Where a live run and its simulation differ: iterations, worker by worker.

Each live iteration is held against what the profile says of that very batch: while no other
worker computed (the profile alone is asked), and while another did all along (the slowdown).
"""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import mean, median

import ray
from rich.table import Table

from ...cluster.live.cluster import LiveCluster
from ...cluster.live.config import ModelConfig
from ...cluster.live.model_path import resolve
from ...sim.costs.table import MeasuredTable
from ...sim.costs.work import Prefill, Work
from ...workers.live.engine import load_engine
from ...workers.live.iteration_log import TimedIteration
from ...workers.live.profiling.live import IDLE_NS
from ...workers.live.profiling.shapes import Shape
from ...workers.live.profiling.timing import time_shapes

ALONE, BESIDE = 0.1, 0.9  # shares of an iteration in which another worker computes
Iterations = dict[str, list[TimedIteration]]
PACE_SHAPES = (
    Shape(prefill_tokens=64), Shape(prefill_tokens=128),
    Shape(decodes=1, decode_context=256), Shape(decodes=4, decode_context=256),
)  # fmt: skip
PACE_BLOCKS, PACE_BLOCK_TOKENS, PACE_ROUNDS = 128, 16, 3


@dataclass(frozen=True)
class Life:
    """What a simulated worker did."""

    worker: str
    iterations: int
    busy_s: float


def live_iterations(cluster: LiveCluster) -> Iterations:
    """Of every worker since the last call; the first call begins to keep them."""
    return {
        str(worker_id): ray.get(actor.iterations.remote())
        for worker_id, actor in cluster.actors.workers.items()
    }


def pace(profile: MeasuredTable) -> float:
    """The bare engine's iterations now / the profile's word: 1 while the machine is as it was."""
    path, _ = resolve(ModelConfig(path="demo"))
    engine = load_engine(path, PACE_BLOCKS, PACE_BLOCK_TOKENS, threads=1)
    times = time_shapes(engine, PACE_SHAPES, PACE_BLOCK_TOKENS, PACE_ROUNDS, lambda _: None)
    return median(1e3 * us / profile.work_ns(_work(shape)) for shape, us in times.items())


def _work(shape: Shape) -> Work:
    prefills = (Prefill(shape.prefill_tokens, shape.prefill_context),)
    keys = shape.decodes * (shape.decode_context + 1)
    return Work(prefills if shape.prefill_tokens else (), shape.decodes, keys)


class Others:
    """The iterations of all workers but one."""

    def __init__(self, live: Iterations, worker: str) -> None:
        runs = [run for name, runs in live.items() if name != worker for run in runs]
        self._runs = sorted(runs, key=lambda run: run.began_ns)
        self._begins = [run.began_ns for run in self._runs]
        self._longest_ns = max((run.ended_ns - run.began_ns for run in runs), default=0)

    def share(self, run: TimedIteration) -> float:
        """The share of it in which another worker computes; of two others, both count."""
        first = bisect_left(self._begins, run.began_ns - self._longest_ns)
        last = bisect_left(self._begins, run.ended_ns)
        common_ns = sum(
            max(0, min(run.ended_ns, other.ended_ns) - max(run.began_ns, other.began_ns))
            for other in self._runs[first:last]
        )
        return common_ns / (run.ended_ns - run.began_ns)


def explained(lives: Sequence[Life], live: Iterations, profile: MeasuredTable) -> Table:
    """A column per worker. Ratios are medians, with how many iterations they are of."""
    names = (
        "iterations, simulated", "live", "mean ms, simulated", "live",
        "live / profile: prefills alone", "beside another", "decodes alone", "beside another",
        "computed beside another", "between two, ms",
    )  # fmt: skip
    columns: list[tuple[str, ...]] = [names]
    for life in lives:
        mine = live.get(life.worker, [])
        others = Others(live, life.worker)
        means = life.busy_s / max(1, life.iterations), _mean_s(mine)
        shares = [others.share(run) for run in mine]
        columns.append((
            str(life.iterations), str(len(mine)),
            *(f"{1e3 * value:.1f}" for value in means),
            *_ratios(mine, shares, profile),
            f"{mean(shares):.0%}" if shares else "",
            f"{_between_ms(mine):.2f}",
        ))  # fmt: skip
    table = Table("iterations", *(life.worker for life in lives))
    for row in zip(*columns, strict=True):
        table.add_row(*row)
    return table


def _ratios(
    runs: Sequence[TimedIteration], shares: Sequence[float], profile: MeasuredTable
) -> Iterable[str]:
    """live / profile, (alone, beside) of prefills, then of decodes."""
    for prefills in (True, False):
        kind = [
            (share, (run.ended_ns - run.began_ns) / profile.work_ns(work_of(run)))
            for share, run in zip(shares, runs, strict=True)
            if bool(run.prefills) is prefills
        ]
        for ratios in (
            [ratio for share, ratio in kind if share <= ALONE],
            [ratio for share, ratio in kind if share >= BESIDE],
        ):
            yield f"{median(ratios):.2f} ({len(ratios)})" if ratios else ""


def work_of(run: TimedIteration) -> Work:
    """What the cost model is asked."""
    prefills = tuple(Prefill(tokens, before) for tokens, before in run.prefills)
    return Work(prefills, run.decodes, run.decode_keys)


def _mean_s(runs: Sequence[TimedIteration]) -> float:
    return mean(run.ended_ns - run.began_ns for run in runs) / 1e9 if runs else 0.0


def _between_ms(runs: Sequence[TimedIteration]) -> float:
    """Median from an iteration's end to the next one's begin, while there is work."""
    gaps = [later.began_ns - run.ended_ns for run, later in pairwise(runs)]
    return median([gap for gap in gaps if gap < IDLE_NS] or [0]) / 1e6
