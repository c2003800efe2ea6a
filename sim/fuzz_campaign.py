"""The course of `splitweave fuzz`: counts, failures with their replay, the coverage."""

import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

from rich.console import Console

from .coverage import Coverage
from .coverage_report import coverage_tables, print_verdict
from .fuzz import Batch

SHOWN_FAILURES = 5  # then no further seed is begun


class FuzzCampaign:
    """Takes batches as they come, and says at the end what they came to."""

    def __init__(self, console: Console, path: Path | None) -> None:
        self.coverage = Coverage()
        self._console = console
        self._path = path
        self._failed: list[int] = []
        self._seeds = self._events = self._requests = self._faults = 0

    def run(self, batches: Iterator[Batch], show: Callable[[int], None]) -> bool:
        """Take all batches, or those until Ctrl-C (True) or a few failures."""
        try:
            for batch in batches:
                self._take(batch)
                show(self._seeds)
                if len(self._failed) >= SHOWN_FAILURES:
                    break
        except KeyboardInterrupt:
            self._console.print("interrupted: what follows is of the seeds until then")
            return True
        return False

    def conclude(self) -> bool:
        """Print everything; whether all held."""
        console = self._console
        console.print(coverage_tables(self.coverage))
        console.print(
            f"{self._seeds} seeds: {self._events} events, {self._requests} requests, "
            f"{self._faults} faults"
        )
        sound = print_verdict(console, self.coverage)
        for seed in self._failed:
            console.print(f"replay: {self._replay(seed)}", markup=False, soft_wrap=True)
        if not self._failed:
            console.print("no rule broken, every admitted request ended, all memory returned")
        return sound and not self._failed

    def _take(self, batch: Batch) -> None:
        self.coverage.add(batch.coverage)
        for result in batch.results:
            self._seeds += 1
            self._events += result.events
            self._requests += result.requests
            self._faults += result.faults
            if result.error:
                self._failed.append(result.seed)
                text = f"seed {result.seed}: {result.error}"
                self._console.print(text, style="red", markup=False)

    def _replay(self, seed: int) -> str:
        if self._path is None:
            return f"splitweave fuzz --seeds 1 --first {seed}"
        return f"splitweave simulate {shlex.quote(str(self._path))} --seed {seed}"
