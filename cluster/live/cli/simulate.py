"""`splitweave simulate`: a scenario in the other world."""

from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from . import options as opt
from .reporting import reporting

PACKAGE = __name__.split(".", maxsplit=1)[0]


def simulate(
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
    as_json: opt.Json = False,
) -> None:
    """Run a scenario in the simulator: latencies, goodput, invariants.

    Who asks for what is the scenario's table [workload]. Its kind is poisson, gamma, diurnal,
    sessions (turn by turn), batch (offline), synthetic (like a public trace, without one), mix, or
    trace: a file of format azure, burstgpt, mooncake, splitwise, llmservingsim or splitweave.
    docs/workloads.md shows each with its keys.
    """
    with reporting():
        # By name: cluster/ does not import sim/, which stands on it.
        sim = import_module(f"{PACKAGE}.sim.cli")
        status = sim.run(scenario, seed=seed, seeds=seeds, as_json=as_json, record=record)
    raise typer.Exit(status)
