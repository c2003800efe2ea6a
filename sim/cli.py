"""What `splitweave simulate` does; also `python -m splitweave.sim`."""

import argparse
import json
import shlex
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from .campaign import run_seed
from .cores import CoreBuilder
from .errors import InvariantBroken, SimulationError
from .fuzz import run_batches
from .fuzz_campaign import FuzzCampaign
from .report import shown, tables
from .results.compare import comparison, differing, write_comparison
from .results.files import File, write
from .results.html import plotly_js
from .results.results import Results, ResultsError, read_results, results_of
from .run import run_scenario, watching_of, with_seed
from .scenario import ConfigError, Scenario, load_scenario
from .transcript import Transcript

SHOWN_FAILURES = 5
WIDTH = 120


def run(  # noqa: PLR0913  (as the command line is)
    path: Path,
    *,
    seed: int | None = None,
    seeds: int | None = None,
    step_by_step: bool = False,
    as_json: bool = False,
    record: Path | None = None,
    files: Mapping[File, Path] | None = None,
) -> int:
    """Simulate the scenario at `path`; the exit status.

    `seed` replaces the scenario's; `step_by_step` turns its `fast_forward` off. With `seeds`,
    a campaign over that many seeds from `seed` (default 0) on, every rule checked. The metrics
    go to stdout instead of tables (`as_json`), results to `files` (see `files_of`), a
    recording per core to the folder `record`. 0: done; 1: a rule was broken; 2: bad input.
    """
    console = Console(stderr=True) if as_json else _wide_console()
    try:
        scenario = load_scenario(path)
        if seeds is not None:
            return _campaign(console, path, scenario, range(seed or 0, (seed or 0) + seeds))
        if seed is not None:
            scenario = with_seed(scenario, seed)
        if step_by_step:
            scenario = replace(scenario, fast_forward=False)
        wanted = _writable(console, files or {})
        results = _single(console, path, scenario, record)
        if results is not None:
            _write(console, results, wanted)
    except (ConfigError, SimulationError, OSError) as error:
        return _wrong(error)
    if results is None:
        return 1
    if as_json:
        print(json.dumps(results.metrics.as_json(), indent=2))
    return 0


def compare(paths: Sequence[Path], *, html: Path | None = None) -> int:
    """Lay results side by side; the exit status. `paths`: results.json files, or their folders."""
    console = _wide_console()
    try:
        runs = [read_results(path) for path in paths]
        console.print(shown(comparison(runs)))
        console.print(shown(differing(runs)))
        if html is not None:
            write_comparison(runs, html)
            console.print(f"wrote {html}", markup=False, soft_wrap=True)
    except (SimulationError, OSError) as error:
        return _wrong(error)
    return 0


def files_of(
    out: Path | None, *, html: Path | None, csv: Path | None, trace: Path | None
) -> dict[File, Path]:
    """What to write and where: everything into the folder `out`, single ones to their paths."""
    files = {} if out is None else {file: out / file for file in File}
    single = {File.REPORT: html, File.REQUESTS: csv, File.TRACE: trace}
    return files | {file: path for file, path in single.items() if path is not None}


def fuzz(path: Path | None, *, seeds: int, first: int = 0, jobs: int = 2) -> int:
    """Run `seeds` seeds from `first` on in `jobs` processes; the exit status.

    Without a scenario each seed draws one of its own (see `swarm.py`). Prints the
    coverage. 0: every rule held; 1: one was broken; 2: bad input; 130: Ctrl-C.
    """
    console = _wide_console()
    try:
        scenario = None if path is None else load_scenario(path)
    except (ConfigError, OSError) as error:
        Console(stderr=True, soft_wrap=True).print(str(error), style="red", markup=False)
        return 2
    campaign = FuzzCampaign(console, path)
    with (
        _bar(console) as progress,
        closing(run_batches(scenario, range(first, first + seeds), jobs)) as batches,
    ):
        task = progress.add_task("seeds", total=seeds)
        interrupted = campaign.run(batches, lambda done: progress.update(task, completed=done))
    held = campaign.conclude()
    return 130 if interrupted else 0 if held else 1


def main(arguments: list[str] | None = None) -> int:
    """`python -m splitweave.sim SCENARIO [--seed N] [--seeds N] [--out DIR] [--record DIR]`."""
    parser = argparse.ArgumentParser(prog="python -m splitweave.sim", description=__doc__)
    parser.add_argument("scenario", type=Path)
    parser.add_argument("--seed", type=int, help="instead of the scenario's own")
    parser.add_argument("--seeds", type=int, help="a campaign over this many seeds, all checked")
    parser.add_argument("--out", type=Path, help="write all results to this folder")
    parser.add_argument("--record", type=Path, help="write a recording per core to this folder")
    given = parser.parse_args(arguments)
    if given.seed is not None and given.seed < 0:
        parser.error(f"--seed ({given.seed}) must be at least 0")
    if given.seeds is not None and given.seeds < 1:
        parser.error(f"--seeds ({given.seeds}) must be at least 1")
    files = files_of(given.out, html=None, csv=None, trace=None)
    return run(
        given.scenario, seed=given.seed, seeds=given.seeds, record=given.record, files=files
    )  # fmt: skip


def _wrong(error: Exception) -> int:
    problem = Console(stderr=True, soft_wrap=True, highlight=False)
    problem.print(str(error), style="red", markup=False)
    return 2


def _writable(console: Console, files: Mapping[File, Path]) -> dict[File, Path]:
    """What can be written, said before a long run. Raises ResultsError if that is nothing."""
    wanted = dict(files)
    if File.REPORT in wanted:
        try:
            plotly_js()
        except ResultsError as error:
            if len(wanted) == 1:
                raise
            console.print(f"without {wanted.pop(File.REPORT)}: {error}", markup=False)
    return wanted


def _write(console: Console, results: Results, files: Mapping[File, Path]) -> None:
    for file, path in files.items():
        with console.status(f"writing {path}"):
            write(results, file, path)
        console.print(f"wrote {path}", markup=False, highlight=False, soft_wrap=True)


def _single(
    console: Console, path: Path, scenario: Scenario, record: Path | None
) -> Results | None:
    transcript = Transcript(record) if record is not None else None
    began = time.perf_counter()
    try:
        results = _simulate(console, path.stem, scenario, transcript)
    except (InvariantBroken, AssertionError) as error:
        console.print(f"seed {scenario.seed}: {error}", style="red", markup=False)
        _print_replay(console, path, scenario.seed)
        return None
    finally:
        if transcript is not None:
            transcript.close()
    wall_s = time.perf_counter() - began
    console.print(tables(results))
    for line in results.provenance:
        console.print(line, style="dim", markup=False, highlight=False)
    rate, events = results.metrics.requests / wall_s, results.run().events
    console.print(f"{wall_s:.2f} s of real time, {rate:.0f} requests/s, {events} events")
    if transcript is not None:
        console.print(f"digest {transcript.digest()}, recordings in {record}")
    return results


def _simulate(
    console: Console, name: str, scenario: Scenario, transcript: Transcript | None
) -> Results:
    with _bar(console) as progress:
        task = progress.add_task("requests", total=None)

        def show(ended: int, total: int | None) -> None:
            progress.update(task, completed=ended, total=total)

        watching = watching_of(scenario, transcript)
        return results_of(run_scenario(scenario, CoreBuilder(scenario), watching, show), name)


def _campaign(console: Console, path: Path, scenario: Scenario, seeds: range) -> int:
    failed: list[int] = []
    events = requests = faults = 0
    with _bar(console) as progress:
        for seed in progress.track(seeds, description="seeds"):
            result = run_seed(scenario, seed)
            events, requests = events + result.events, requests + result.requests
            faults += result.faults
            if result.error:
                failed.append(seed)
                console.print(f"seed {seed}: {result.error}", style="red", markup=False)
            if len(failed) >= SHOWN_FAILURES:
                break
    if not failed:
        console.print(f"{len(seeds)} seeds, no rule broken, every admitted request ended")
        console.print(f"{events} events, {requests} requests, {faults} faults")
        return 0
    for seed in failed:
        _print_replay(console, path, seed)
    return 1


def _print_replay(console: Console, path: Path, seed: int) -> None:
    command = f"splitweave simulate {shlex.quote(str(path))} --seed {seed}"
    console.print(f"replay: {command}", markup=False, soft_wrap=True)


def _wide_console() -> Console:
    """Where nobody watches, tables may be as wide as they are."""
    console = Console()
    return console if console.is_terminal else Console(width=WIDTH)


@contextmanager
def _bar(console: Console) -> Iterator[Progress]:
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    )  # fmt: skip
    hidden = not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=hidden) as progress:
        yield progress


if __name__ == "__main__":
    sys.exit(main())
