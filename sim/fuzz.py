"""Many seeds in several processes: each a run of its own, all their coverage in one.

A seed is a scenario and a run of it, nothing else: which process takes it
changes nothing. Processes are started afresh (spawn) and ignore Ctrl-C, so that
the parent can print what it has.
"""

import multiprocessing
import signal
from collections.abc import Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field

from .campaign import SeedResult, run_seed
from .coverage import Coverage
from .scenario import Scenario
from .swarm import swarm

SEEDS_PER_TASK = 8  # long enough that starting one costs nothing, short enough for a live bar
TASKS_WAITING_MAX = 2  # per process, so that Ctrl-C leaves little behind


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What some seeds came to."""

    results: tuple[SeedResult, ...]
    coverage: Coverage = field(default_factory=Coverage)


def run_batch(scenario: Scenario | None, seeds: Sequence[int]) -> Batch:
    """Each seed of `scenario`, or each a scenario of its own (None)."""
    coverage = Coverage()
    results = [
        run_seed(swarm(seed) if scenario is None else scenario, seed, coverage=coverage)
        for seed in seeds
    ]
    return Batch(results=tuple(results), coverage=coverage)


def run_batches(scenario: Scenario | None, seeds: range, jobs: int) -> Generator[Batch, None, None]:
    """All of `seeds`, as they come; in this process if `jobs` is 1.

    Closing the iterator ends the processes; seeds under way are lost.
    """
    tasks = [seeds[at : at + SEEDS_PER_TASK] for at in range(0, len(seeds), SEEDS_PER_TASK)]
    if jobs == 1:
        yield from (run_batch(scenario, task) for task in tasks)
    else:
        yield from _in_processes(scenario, tasks, jobs)


def _in_processes(
    scenario: Scenario | None, tasks: list[range], jobs: int
) -> Generator[Batch, None, None]:
    spawn = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(jobs, mp_context=spawn, initializer=_ignore_interrupts)
    under_way: set[Future[Batch]] = set()
    try:
        for task in tasks:
            under_way.add(pool.submit(run_batch, scenario, task))
            while len(under_way) >= jobs * TASKS_WAITING_MAX:
                done, under_way = wait(under_way, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in done)
        while under_way:
            done, under_way = wait(under_way, return_when=FIRST_COMPLETED)
            yield from (future.result() for future in done)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _ignore_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
