"""`splitweave drain`: empties workers by migration, and shows how far it is."""

from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from ....client import Client, DrainOptions, DrainProgress, WorkerDrain
from . import options as opt
from .reporting import UsageProblem, reporting


def drain(  # noqa: PLR0913  (a command line is flat)
    worker_id: Annotated[
        str | None, typer.Argument(help="As `splitweave status` shows it.", metavar="[WORKER]")
    ] = None,
    node: Annotated[str | None, typer.Option(help="Every worker on that node.")] = None,
    pool: Annotated[str | None, typer.Option(help="Every worker of that pool.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Every worker; with --restart.")] = False,
    deadline: Annotated[
        float | None,
        typer.Option(help="Seconds each worker's requests may take to leave.", min=0.001),
    ] = None,
    restart: Annotated[
        bool, typer.Option("--restart", help="Each comes back, one after the other.")
    ] = False,
    recompute: Annotated[
        bool,
        typer.Option("--recompute", help="At the deadline, compute what is left again elsewhere."),
    ] = False,
    address: opt.Address = opt.ADDRESS,
) -> None:
    """Empty workers: their requests migrate away, then they end. No stream stops.

    One worker, or all of a node or a pool at once. With --restart each comes
    back, and the next one leaves only then: `drain --all --restart` renews a
    whole cluster under load. At the deadline it says what is left; the drain goes on.
    """
    options = _options(worker_id, node, pool, every)
    if deadline is not None:
        options["deadline_s"] = deadline
    options["restart"], options["recompute"] = restart, recompute
    with reporting(), Client(address) as client:
        last = _watch(client, options)
        for worker in last.workers if last is not None else ():
            typer.echo(describe(worker))


def _options(
    worker_id: str | None, node: str | None, pool: str | None, every: bool
) -> DrainOptions:
    given = [name for name in (worker_id, node, pool, every) if name]
    if len(given) != 1:
        with reporting():
            raise UsageProblem("drain: give a WORKER, or one of --node, --pool and --all")
    if node:
        return DrainOptions(node=node)
    if pool:
        return DrainOptions(pool=pool)
    return DrainOptions(worker_id=worker_id) if worker_id else DrainOptions(all=True)


def _watch(client: Client, options: DrainOptions) -> DrainProgress | None:
    """Draws until all are empty; the last report."""
    last: DrainProgress | None = None
    columns = (TextColumn("{task.description:<16}"), BarColumn(), TextColumn("{task.fields[said]}"))
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True) as bars:
        if not console.is_terminal:
            bars.disable = True
        tasks = {}
        for last in client.drain_workers(**options):
            for worker in last.workers:
                if worker.worker_id not in tasks:
                    tasks[worker.worker_id] = bars.add_task(worker.worker_id, total=1, said="")
                total = max(worker.requests, worker.left, 1)
                over = worker.state in ("empty", "restarting", "restarted")
                done = total if over else total - worker.left
                said = f"{worker.state}, {worker.left} left, {worker.moved} moved"
                if worker.state == "waiting":
                    done, said = 0, worker.state
                bars.update(tasks[worker.worker_id], total=total, completed=done, said=said)
    return last


def describe(worker: WorkerDrain) -> str:
    """One worker's end in one line."""
    end = "is back" if worker.state == "restarted" else f"is {worker.state}"
    return (
        f"{worker.worker_id} {end}; {worker.requests} requests were there, {worker.moved} moved"
        f" ({worker.transfer_bytes:,} bytes), {worker.recomputed} computed again"
    )
