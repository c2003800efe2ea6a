"""`splitweave fuzz`: many seeds in the other world, each its own disaster."""

from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from .reporting import reporting

PACKAGE = __name__.split(".", maxsplit=1)[0]


def fuzz(
    scenario: Annotated[
        Path | None,
        typer.Argument(help="TOML file; without one each seed draws a cluster and faults."),
    ] = None,
    seeds: Annotated[int, typer.Option(help="How many.", min=1)] = 200,
    first: Annotated[int, typer.Option(help="The first seed.", min=0)] = 0,
    jobs: Annotated[int, typer.Option(help="Processes.", min=1, max=256)] = 2,
) -> None:
    """Run seeds against every rule; print what was covered, and what never was.

    A seed decides everything: the pools, the limits, the requests, what fails
    and when. After the faults all is healed; then every admitted request must
    end and every worker's memory return. A failing seed is printed with the
    command that replays it. The tables count each event by the state that a move
    or a prefix fetch was in: a dot cannot be, a red 0 could and was not seen; all
    of the latter are listed at the end.
    """
    with reporting():
        # By name: cluster/ does not import sim/, which stands on it.
        sim = import_module(f"{PACKAGE}.sim.cli")
        status = sim.fuzz(scenario, seeds=seeds, first=first, jobs=jobs)
    raise typer.Exit(status)
