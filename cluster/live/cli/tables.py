"""The cluster's status as tables."""

from collections.abc import Iterator
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from ....client import Blocks, ClusterStatus

STYLES = {
    "alive": "green", "serving": "green", "draining": "yellow", "suspect": "magenta",
    "silent": "magenta", "dead": "red", "starting": "cyan", "retired": "dim",
}  # fmt: skip


@dataclass(frozen=True)
class ByWidth:
    """One of two renderings, by the room there is."""

    wide: RenderableType
    narrow: RenderableType

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        room = options.update_width(10_000)  # else a measure never exceeds the terminal
        fits = console.measure(self.wide, options=room).maximum <= options.max_width
        yield self.wide if fits else self.narrow


def tables(picture: ClusterStatus) -> RenderableType:
    """A heading, and a table each of workers, gateways, requests, moves; no empty ones."""
    wanted = [worker for worker in picture.workers if worker.state != "retired"]
    alive = sum(worker.state == "alive" for worker in wanted)
    heading = Text(
        f"{picture.model or 'model unknown'}: {alive} of {len(wanted)} workers alive,"
        f" {len(picture.requests)} requests, {len(picture.moves)} moves,"
        f" up {picture.uptime_s:.0f} s"
    )
    parts: list[RenderableType] = [heading]
    parts += [ByWidth(workers(picture), workers_in_two(picture))] if picture.workers else []
    parts += [gateways(picture)] if picture.gateways else []
    parts += [requests(picture)] if picture.requests else []
    parts += [moves(picture)] if picture.moves else []
    return Group(*parts)


def workers(picture: ClusterStatus) -> Table:
    """One row per worker."""
    table = headed(
        "WORKER", "ROLE", "STATE", ">WAITING", ">RUNNING", "BLOCKS HELD", ">FREE", ">CACHED",
        ">LEASED", ">QUARANTINED", ">HEARD", "NODE", ">PID",
    )  # fmt: skip
    for row in _rows(picture):
        table.add_row(*row)
    return table


def _rows(picture: ClusterStatus) -> Iterator[list[str | Text]]:
    for worker in picture.workers:
        blocks = worker.blocks
        yield [
            worker.worker_id,
            str(worker.role),
            Text(worker.state, style=STYLES.get(worker.state, "")),
            str(worker.waiting),
            str(worker.running),
            gauge(blocks),
            str(blocks.free),
            str(blocks.cached),
            str(blocks.leased),
            str(blocks.quarantined),
            f"{worker.heartbeat_age_s:.1f} s",
            worker.node,
            str(worker.pid),
        ]


def workers_in_two(picture: ClusterStatus) -> RenderableType:
    """The same for a narrow terminal: what they do, then what they hold."""
    load = headed("WORKER", "ROLE", "STATE", ">WAITING", ">RUNNING", ">HEARD", "NODE", ">PID")
    memory = headed(
        "WORKER", "BLOCKS HELD", ">FREE", ">CACHED", ">LEASED", ">QUARANTINED"
    )  # fmt: skip
    for row in _rows(picture):
        load.add_row(*row[:5], *row[10:])
        memory.add_row(row[0], *row[5:10])
    return Group(load, memory)


def gateways(picture: ClusterStatus) -> Table:
    """One row per gateway."""
    table = headed("GATEWAY", "STATE", "ADDRESS", ">STREAMS", ">PID")
    for gateway in picture.gateways:
        state = Text(gateway.state, style=STYLES.get(gateway.state, ""))
        row = (gateway.address or "-", str(gateway.streams), str(gateway.pid))
        table.add_row(gateway.gateway_id, state, *row)
    return table


def requests(picture: ClusterStatus) -> Table:
    """One row per request."""
    table = headed("REQUEST", "STATE", "WORKER", ">PROMPT", ">OUTPUT", ">AGE")
    for request in picture.requests:
        table.add_row(
            request.request_id,
            request.state,
            request.worker_id or "-",
            str(request.prompt_tokens),
            str(request.output_tokens),
            f"{request.age_s:.1f} s",
        )
    return table


def moves(picture: ClusterStatus) -> Table:
    """One row per move in progress."""
    table = headed("MOVE", "KIND", "REQUEST", "SOURCE", "TARGET", "WHY", ">AGE")
    for move in picture.moves:
        table.add_row(
            move.move_id,
            move.kind,
            move.request_id,
            move.source,
            move.target,
            move.why,
            f"{move.age_s:.2f} s",
        )
    return table


def headed(*columns: str) -> Table:
    """A table with these columns; those that begin with > are numbers."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        number = column.startswith(">")
        table.add_column(column.removeprefix(">"), justify="right" if number else "left")
    return table


def gauge(blocks: Blocks) -> str:
    """How full a worker's memory is, by held blocks."""
    share = blocks.held / blocks.total if blocks.total else 0.0
    filled = round(share * 10)
    return f"{'█' * filled}{'░' * (10 - filled)} {blocks.held}/{blocks.total}"
