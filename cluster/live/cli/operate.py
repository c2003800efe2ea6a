"""`splitweave migrate` and `set-role`: an operator's orders about one request, one worker."""

from typing import Annotated

import typer

from ....client import Client, Move
from ....client.status import Role
from . import options as opt
from .reporting import reporting

WorkerId = Annotated[str, typer.Argument(help="As `splitweave status` shows it.", metavar="WORKER")]


def migrate(
    request_id: Annotated[str, typer.Argument(help="A running request.", metavar="REQUEST")],
    target: Annotated[
        str | None, typer.Option("--to", help="Worker to move it to; default: the policy's choice.")
    ] = None,
    address: opt.Address = opt.ADDRESS,
) -> None:
    """Move a running request to another worker while it streams."""
    with reporting(), Client(address) as client:
        typer.echo(describe(client.migrate(request_id, target)))


def set_role(
    worker_id: WorkerId,
    role: Annotated[Role, typer.Argument(help="What it shall do from now on.")],
    address: opt.Address = opt.ADDRESS,
) -> None:
    """Give a worker another role. What it runs now ends as it would have."""
    with reporting(), Client(address) as client:
        previous = client.set_role(worker_id, role)
        typer.echo(f"{worker_id}: {previous} -> {role}")


def describe(move: Move) -> str:
    """One move in one line."""
    end = "committed" if move.committed else f"aborted: {move.reason}"
    return (
        f"{move.kind} {move.source} -> {move.target}: {move.transfer_bytes:,} bytes in"
        f" {move.seconds * 1e3:.1f} ms, {move.downtime_s * 1e3:.1f} ms of it stopped; {end}"
    )
