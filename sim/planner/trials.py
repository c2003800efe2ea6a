"""Trials of fleets in several processes, each fleet once.

A trial depends on the fleet and the question alone: which process takes it changes
nothing. Processes are started afresh and ignore Ctrl-C; leaving the context ends them
at once, in the middle of a trial too.
"""

import gc
import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.pool import Pool
from typing import NamedTuple, TypeAlias

from .fleet import Fleet
from .question import Question
from .trial import Verdict, judge


class Try(NamedTuple):
    """A fleet at `factor` times the rate; to the end even if it fails, if `whole`."""

    fleet: Fleet
    factor: float = 1.0
    whole: bool = False


Told: TypeAlias = Callable[[Try, Verdict], None]
Asked: TypeAlias = Callable[[float], Question]


class Trials:
    """Answers a question about fleets, which depends on the rate; each try once."""

    def __init__(self, asked: Asked, pool: Pool | None) -> None:
        self._asked, self._pool = asked, pool
        self._known: dict[tuple[str, float, bool], Verdict] = {}
        self.told: Told = unwatched

    def on(self, asked: Asked) -> "Trials":
        """Trials of another question in the same processes."""
        return Trials(asked, self._pool)

    def judge(self, tries: Sequence[Try]) -> list[Verdict]:
        """The verdicts, in that order; known ones at once."""
        new = {_key(one): one for one in tries if _key(one) not in self._known}
        for one, verdict in zip(new.values(), self._run(list(new.values())), strict=True):
            name, factor, whole = _key(one)
            self._known[name, factor, whole] = verdict
            if not verdict.stopped:  # it is also what a run to the end gives, or a careful one
                self._known[name, factor, True] = self._known[name, factor, False] = verdict
            self.told(one, verdict)
        return [self._known[_key(one)] for one in tries]

    def _run(self, tries: list[Try]) -> Iterator[Verdict]:
        jobs = [(one, self._asked(one.factor)) for one in tries]
        if self._pool is None or not jobs:
            return map(_trial, jobs)
        return self._pool.imap(_trial, jobs)


def _key(one: Try) -> tuple[str, float, bool]:
    return one.fleet.name, one.factor, one.whole


@contextmanager
def trials(asked: Asked, jobs: int) -> Iterator[Trials]:
    """Trials in so many processes; in this one if `jobs` is 1."""
    if jobs == 1:
        yield Trials(asked, None)
        return
    spawn = multiprocessing.get_context("spawn")
    with spawn.Pool(jobs, initializer=_begin_process) as pool:  # leaving it terminates them
        yield Trials(asked, pool)


def _trial(job: tuple[Try, Question]) -> Verdict:
    """Nearly nothing in a run is cyclic: its garbage is looked for once, behind it."""
    one, question = job
    was = gc.isenabled()
    gc.disable()
    try:
        return judge(one.fleet, question, whole=one.whole)
    finally:
        if was:
            gc.enable()
        gc.collect()


def _begin_process() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def unwatched(one: Try, verdict: Verdict) -> None:
    """Nobody watches."""
