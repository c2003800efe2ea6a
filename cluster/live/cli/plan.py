"""`splitweave plan`: which fleet to buy."""

from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from . import options as opt
from .reporting import reporting

Trace = Annotated[
    str,
    typer.Option(
        help="Trace file; a TOML file with a [workload]; or a synthetic load by its name: "
        "azure-code, azure-conversation, mooncake-conversation, mooncake-synthetic."
    ),
]
Model = Annotated[str, typer.Option(help="config.json, or a built-in name such as Llama-3.1-70B.")]
Slo = Annotated[
    str, typer.Option(help="ttft=2,tpot=0.05@p90: seconds (or 50ms), share within both.")
]
Budget = Annotated[
    str | None,
    typer.Option(help="'50$/h' or 20kW: also find the fleet that carries most for that."),
]
Format = Annotated[
    str | None, typer.Option("--format", help="Of the trace file; default: by its first line.")
]
Catalogue = Annotated[
    Path | None, typer.Option(help="Machines and prices; default: sim/hardware.toml.")
]
Machines = Annotated[
    str, typer.Option(help="Of the catalogue, e.g. A100,H100,L40S; default: all its GPUs.")
]
Tp = Annotated[str, typer.Option(help="GPUs per worker to consider; default: 1,2,4,8.")]
Caps = Annotated[str, typer.Option(help="Power caps to consider, shares of the limit: 1,0.7.")]
Roles = Annotated[str, typer.Option(help="prefill,decode or mixed; default: all.")]
Rate = Annotated[float | None, typer.Option(help="Scale the trace to so many requests/s.", min=0)]
Minutes = Annotated[
    float | None, typer.Option(help="Only the trace's first minutes, in its own time.", min=0)
]
Requests = Annotated[int, typer.Option(help="Fleets are tried on so many.", min=1)]
Confirm = Annotated[
    int, typer.Option(help="An answer must hold on so many, if that is more.", min=0)
]
Tokens = Annotated[int | None, typer.Option(help="Tokens per iteration of every worker.", min=1)]
GpusMax = Annotated[int, typer.Option(help="GPUs of a fleet at most.", min=1, max=4096)]
TriesMax = Annotated[int, typer.Option(help="Fleets simulated at most.", min=1)]
Seed = Annotated[int, typer.Option(help="The same seed gives the same plan.", min=0)]
Jobs = Annotated[int, typer.Option(help="Processes.", min=1, max=256)]
Out = Annotated[
    Path | None, typer.Option(help="Folder for cluster.toml, values.yaml, plan.json, plan.html.")
]
PACKAGE = __name__.split(".", maxsplit=1)[0]


def plan(  # noqa: PLR0913  (a command line is flat)
    trace: Trace,
    model: Model,
    slo: Slo,
    budget: Budget = None,
    form: Format = None,
    catalogue: Catalogue = None,
    machines: Machines = "",
    tp: Tp = "",
    caps: Caps = "",
    roles: Roles = "",
    rate: Rate = None,
    minutes: Minutes = None,
    requests: Requests = 1500,
    confirm: Confirm = 0,
    tokens: Tokens = None,
    gpus_max: GpusMax = 64,
    tries_max: TriesMax = 400,
    seed: Seed = 1,
    jobs: Jobs = 2,
    out: Out = None,
    as_json: opt.Json = False,
) -> None:
    """Find the cheapest fleet that meets an SLO, before buying it.

    Fleets are pools of mixed workers, or of prefill and of decode workers, of any
    machines of the catalogue and any number of GPUs per worker. Bounds rule out
    what cannot do; the rest is simulated with the schedulers that will run.
    Ctrl-C prints the best fleet so far. docs/planner.md says how it is found and
    what the figures rest on.
    """
    with reporting():
        # By name: cluster/ does not import sim/, which stands on it.
        planner = import_module(f"{PACKAGE}.sim.planner.cli")
        given = planner.Given(
            trace=trace, model=model, slo=slo, budget=budget, form=form, catalogue=catalogue,
            machines=machines, tp=tp, caps=caps, roles=roles, rate=rate, minutes=minutes,
            requests=requests, confirm=confirm, tokens=tokens, gpus_max=gpus_max,
            tries_max=tries_max, seed=seed, jobs=jobs, out=out, as_json=as_json,
        )  # fmt: skip
        status = planner.run(given)
    raise typer.Exit(status)
