"""`splitweave simulate`: a scenario in the other world."""

from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from . import options as opt
from .reporting import UsageProblem, reporting


def simulate(
    scenario: Annotated[Path, typer.Argument(help="TOML file; see examples/.")],
    seed: Annotated[int | None, typer.Option(help="Run this seed.", min=0)] = None,
    seeds: Annotated[int | None, typer.Option(help="Run seeds 0 to N-1.", min=1)] = None,
    as_json: opt.Json = False,
) -> None:
    """Run a scenario in the simulator: latencies, goodput, invariants."""
    with reporting():
        if seed is not None and seeds is not None:
            raise UsageProblem("--seed runs one seed and --seeds many: give one of them")
        # By name: cluster/ does not import sim/, which stands on it.
        sim = import_module(".sim.cli", __name__.split(".")[0])
        raise typer.Exit(sim.run(scenario, seed=seed, seeds=seeds, as_json=as_json))
