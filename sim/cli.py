"""What `splitweave simulate` does; also `python -m splitweave.sim`."""

import argparse
import json
import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from .campaign import run_seed
from .errors import InvariantBroken, SimulationError
from .fuzz import run_batches
from .fuzz_campaign import FuzzCampaign
from .metrics import Metrics, measure
from .report import tables
from .run import Outcome, simulate, with_seed
from .scenario import ConfigError, Scenario, load_scenario
from .transcript import Transcript

SHOWN_FAILURES = 5
WIDTH = 120


def run(
    path: Path,
    *,
    seed: int | None = None,
    seeds: int | None = None,
    as_json: bool = False,
    json_path: Path | None = None,
    record: Path | None = None,
) -> int:
    """Simulate the scenario at `path`; the exit status.

    `seed` replaces the scenario's. With `seeds`, a campaign over that many seeds
    from `seed` (default 0) on, every rule checked. The metrics go to stdout
    instead of tables (`as_json`), and to `json_path`; a recording per core to
    the folder `record`. 0: done; 1: a rule was broken; 2: bad input.
    """
    console = Console(stderr=as_json)
    try:
        scenario = load_scenario(path)
        if seeds is not None:
            return _campaign(console, path, scenario, range(seed or 0, (seed or 0) + seeds))
        if seed is not None:
            scenario = with_seed(scenario, seed)
        metrics = _single(console, path, scenario, record)
        if metrics is not None and json_path is not None:
            json_path.write_text(_text(metrics) + "\n")
    except (ConfigError, SimulationError, OSError) as error:
        problem = Console(stderr=True, soft_wrap=True, highlight=False)
        problem.print(str(error), style="red", markup=False)
        return 2
    if metrics is None:
        return 1
    if as_json:
        print(_text(metrics))
    return 0


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
    """`python -m splitweave.sim SCENARIO [--seed N] [--seeds N] [--json PATH] [--record DIR]`."""
    parser = argparse.ArgumentParser(prog="python -m splitweave.sim", description=__doc__)
    parser.add_argument("scenario", type=Path)
    parser.add_argument("--seed", type=int, help="instead of the scenario's own")
    parser.add_argument("--seeds", type=int, help="a campaign over this many seeds, all checked")
    parser.add_argument("--json", type=Path, dest="json_path", help="write the metrics here")
    parser.add_argument("--record", type=Path, help="write a recording per core to this folder")
    given = parser.parse_args(arguments)
    if given.seed is not None and given.seed < 0:
        parser.error(f"--seed ({given.seed}) must be at least 0")
    if given.seeds is not None and given.seeds < 1:
        parser.error(f"--seeds ({given.seeds}) must be at least 1")
    return run(
        given.scenario, seed=given.seed, seeds=given.seeds, json_path=given.json_path,
        record=given.record,
    )  # fmt: skip


def _text(metrics: Metrics) -> str:
    return json.dumps(metrics.as_json(), indent=2)


def _single(
    console: Console, path: Path, scenario: Scenario, record: Path | None
) -> Metrics | None:
    transcript = Transcript(record) if record is not None else None
    began = time.perf_counter()
    try:
        outcome = _simulate(console, scenario, transcript)
    except (InvariantBroken, AssertionError) as error:
        console.print(f"seed {scenario.seed}: {error}", style="red", markup=False)
        _print_replay(console, path, scenario.seed)
        return None
    finally:
        if transcript is not None:
            transcript.close()
    wall_s = time.perf_counter() - began
    metrics = measure(outcome)
    console.print(tables(scenario, metrics))
    for line in outcome.world.described():
        console.print(line, style="dim", markup=False, highlight=False)
    rate = metrics.requests / wall_s
    console.print(f"{wall_s:.2f} s of real time, {rate:.0f} requests/s, {outcome.events} events")
    if transcript is not None:
        console.print(f"digest {transcript.digest()}, recordings in {record}")
    return metrics


def _simulate(console: Console, scenario: Scenario, transcript: Transcript | None) -> Outcome:
    with _bar(console) as progress:
        task = progress.add_task("requests", total=None)

        def show(ended: int, total: int | None) -> None:
            progress.update(task, completed=ended, total=total)

        return simulate(scenario, transcript=transcript, progress=show)


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
