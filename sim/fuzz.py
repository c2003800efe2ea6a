"""Many seeds in several processes: each a run of its own, all their coverage in one.

A seed is a scenario and a run of it, nothing else: which process takes it
changes nothing. Processes are started afresh (spawn) and ignore Ctrl-C, so that
the parent can print what it has; they end when the parent does, however it ends.
"""

import multiprocessing
import os
import signal
from collections.abc import Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field
from multiprocessing.connection import wait as wait_for
from threading import Thread

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
    pool = ProcessPoolExecutor(jobs, mp_context=spawn, initializer=_begin_process)
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


def _begin_process() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Waits for the parent's end, which a killed one tells nobody, and ends this process."""
    parent = multiprocessing.parent_process()
    assert parent is not None, "not started by a parent"
    wait_for([parent.sentinel])
    os._exit(1)
