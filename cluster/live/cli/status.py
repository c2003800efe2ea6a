"""`splitweave status`: workers, requests and moves, once or for ever."""

import dataclasses
import json
import sys
import time
from typing import Annotated

import typer
from rich.console import Console, RenderableType
from rich.live import Live

from ....client import Client, ClusterStatus, NotFound, RequestTrace
from . import options as opt
from .reporting import reporting
from .tables import tables
from .trace_tables import trace_tables

PERIOD_S = 1.0
PIPE_WIDTH = 240


def status(
    request_id: Annotated[
        str | None,
        typer.Option(
            "--request", help="Only this request, running or lately ended, and all its moves."
        ),
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Show it every second.")] = False,
    metrics: Annotated[
        bool, typer.Option("--metrics", help="Print counters in Prometheus' text format.")
    ] = False,
    as_json: opt.Json = False,
    address: opt.Address = opt.ADDRESS,
) -> None:
    """Show workers, requests and moves."""
    with reporting(), Client(address) as client:
        if watch:
            watch_tables(client, request_id)
        if metrics:
            typer.echo(client.metrics(), nl=False)
        elif request_id is not None:
            trace = client.trace(request_id)
            show(trace, trace_tables(trace), as_json=as_json)
        else:
            picture = client.status()
            show(picture, tables(picture), as_json=as_json)


def show(value: ClusterStatus | RequestTrace, drawing: RenderableType, *, as_json: bool) -> None:
    """For programs or for people."""
    if as_json:
        typer.echo(json.dumps(dataclasses.asdict(value)))
    else:
        console().print(drawing)


def console() -> Console:
    """The terminal; wide enough for every column if stdout is a file or a pipe."""
    return Console() if sys.stdout.isatty() else Console(width=PIPE_WIDTH)


def narrowed(picture: ClusterStatus, request_id: str | None) -> ClusterStatus:
    """Only what concerns one request. Raises NotFound if there is none of that id."""
    if request_id is None:
        return picture
    requests = tuple(item for item in picture.requests if item.request_id == request_id)
    if not requests:
        raise NotFound(f"request {request_id!r} does not run")
    homes = {item.worker_id for item in requests}
    return dataclasses.replace(
        picture,
        requests=requests,
        workers=tuple(worker for worker in picture.workers if worker.worker_id in homes),
        moves=tuple(move for move in picture.moves if move.request_id == request_id),
    )


def watch_tables(client: Client, request_id: str | None) -> None:
    """Draws until Ctrl-C."""
    with Live(console=Console(), auto_refresh=False, screen=True) as live:
        while True:
            live.update(tables(narrowed(client.status(), request_id)), refresh=True)
            time.sleep(PERIOD_S)
