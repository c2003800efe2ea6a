"""`splitweave compare`: simulated runs side by side."""

from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from .reporting import reporting

PACKAGE = __name__.split(".", maxsplit=1)[0]


def compare(
    results: Annotated[
        list[Path], typer.Argument(help="Two or more results.json files, or their folders.")
    ],
    html: Annotated[Path | None, typer.Option(help="Also as one HTML file, with plots.")] = None,
) -> None:
    """Lay simulated runs side by side: every figure, and its ratio to the first run's.

    `splitweave simulate SCENARIO --out FOLDER` writes what is read here. Below the figures
    stands in what the scenarios differ.
    """
    if len(results) < 2:
        raise typer.BadParameter("give at least two: one run has nothing beside it")
    with reporting():
        sim = import_module(f"{PACKAGE}.sim.cli")
        status = sim.compare(results, html=html)
    raise typer.Exit(status)
