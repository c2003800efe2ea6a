"""`splitweave.sim.simulate`: one call from a scenario to typed results."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from ...proto.toml_file import build
from ..cores import CoreBuilder
from ..run import Progress, run_scenario, watching_of
from ..scenario import Scenario, scenario_tables
from ..transcript import Transcript
from .results import Results, results_of

Given = Scenario | str | Path | Mapping[str, Any]


def simulate(
    scenario: Given,
    *,
    progress: bool = False,
    transcript: Transcript | None = None,
    name: str | None = None,
    **changes: Any,
) -> Results:
    """Run a scenario to its end; its results.

    `scenario`: a Scenario, the path of a TOML file, or such a file's tables as dicts.
    `changes` replace its keys: `seed=3`, `slo={"ttft_s": 1.0}` (tables are merged, lists
    replaced). `progress` shows a bar. `transcript` takes every core's steps in.
    Raises ConfigError for a scenario that cannot be, TraceError for a bad trace, and
    InvariantBroken if a rule is broken.
    """
    made = scenario_of(scenario, **changes)
    watching = watching_of(made, transcript)
    with _shown(progress) as show:
        outcome = run_scenario(made, CoreBuilder(made), watching, show)
    return results_of(outcome, name or _name(scenario))


def scenario_of(given: Given, **changes: Any) -> Scenario:
    """The scenario that is meant. Raises ConfigError."""
    if isinstance(given, Scenario) and not changes:
        return given
    if isinstance(given, str | Path):
        tables = scenario_tables(Path(given))
    elif isinstance(given, Scenario):
        tables = TypeAdapter(Scenario).dump_python(given, mode="json")
    else:
        tables = dict(given)
    return build(Scenario, _merged(tables, changes), _name(given))


def _name(given: Given) -> str:
    return Path(given).stem if isinstance(given, str | Path) else "scenario"


def _merged(tables: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(tables)
    for key, value in changes.items():
        known = merged.get(key)
        both = isinstance(known, Mapping) and isinstance(value, Mapping)
        merged[key] = _merged(known, value) if both and known is not None else value
    return merged


@contextmanager
def _shown(wanted: bool) -> Iterator[Progress | None]:
    """A bar on stderr, or nothing."""
    if not wanted:
        yield None
        return
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    )  # fmt: skip
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("requests", total=None)

        def show(ended: int, total: int | None) -> None:
            bar.update(task, completed=ended, total=total)

        yield show
