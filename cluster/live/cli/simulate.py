"""`splitweave simulate`: a scenario in the other world."""

from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from . import options as opt
from .reporting import reporting

PACKAGE = __name__.split(".", maxsplit=1)[0]


def simulate(  # noqa: PLR0913  (a command line is flat)
    scenario: Annotated[Path, typer.Argument(help="TOML file; see examples/.")],
    seed: Annotated[
        int | None, typer.Option(help="Run this seed; with --seeds, the first.", min=0)
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(help="Run that many seeds and check every rule.", min=1)
    ] = None,
    record: Annotated[
        Path | None, typer.Option(help="Folder for a recording of every core.")
    ] = None,
    step_by_step: Annotated[
        bool, typer.Option(help="Step at every iteration's end: slower, the same figures.")
    ] = False,
    as_json: opt.Json = False,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for results.json, requests.csv, samples.csv, trace.json and report.html."
        ),
    ] = None,
    html: Annotated[Path | None, typer.Option(help="The report: one HTML file.")] = None,
    csv: Annotated[Path | None, typer.Option(help="One line per request.")] = None,
    trace: Annotated[
        Path | None, typer.Option(help="Chrome trace, for ui.perfetto.dev: who was where when.")
    ] = None,
) -> None:
    """Run a scenario in the simulator: latencies, goodput, cost.

    Who asks for what is the scenario's table [workload]. Its kind is poisson, gamma, diurnal,
    sessions (turn by turn), batch (offline), synthetic (like a public trace, without one), mix, or
    trace: a file of format azure, burstgpt, mooncake, splitwise, llmservingsim or splitweave.
    docs/workloads.md shows each with its keys.
    """
    with reporting():
        # By name: cluster/ does not import sim/, which stands on it.
        sim = import_module(f"{PACKAGE}.sim.cli")
        files = sim.files_of(out, html=html, csv=csv, trace=trace)
        status = sim.run(
            scenario, seed=seed, seeds=seeds, step_by_step=step_by_step, as_json=as_json,
            record=record, files=files,
        )  # fmt: skip
    raise typer.Exit(status)
