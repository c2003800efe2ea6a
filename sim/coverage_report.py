"""Coverage as tables: how often each pair was taken, and what is missing."""

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from ..proto.move import NEXT, Stage
from .coverage import (
    ARRIVALS,
    COLUMNS,
    CONTROLLER,
    FAULTS,
    FETCH_SOURCE,
    FETCH_TARGET,
    GATEWAYS,
    HOST,
    REBORN,
    REQUESTS,
    ROWS,
    SOURCE,
    STAGES,
    TARGET,
    Coverage,
)
from .reachable import impossible, never, untaken

NEVER = Text("·", style="dim")
OTHERS = (*REBORN.values(), REQUESTS, CONTROLLER, GATEWAYS, FAULTS)
CLEAR = "untaken, reachable: none"
TITLES: dict[str, str] = {
    SOURCE: "The source of a move: what happened to it, by how it stood",
    TARGET: "The target of a move: what happened to it, by how it stood",
    FETCH_SOURCE: "The source of a prefix fetch",
    FETCH_TARGET: "The target of a prefix fetch, where the request waits",
    HOST: "Copies to host memory and back",
    ARRIVALS: "Requests as they come to the controller, by how they stood there",
}


def coverage_tables(coverage: Coverage) -> RenderableType:
    """Every table; unreachable pairs are dots, reachable ones never taken a red 0."""
    sides = [_claimed(coverage, table) for table in ROWS]
    others = [_seen(coverage, name) for name in OTHERS]
    return Group(*sides, _stages(coverage), *[table for table in others if table is not None])


def print_verdict(console: Console, coverage: Coverage) -> bool:
    """What was never taken, and what should not have been; False if there is any of the latter."""
    missing, wrong = untaken(coverage), impossible(coverage)
    if missing:
        console.print(f"untaken, reachable: {len(missing)} pairs")
        columns: dict[tuple[str, str], list[str]] = {}
        for table, row, column in missing:
            columns.setdefault((table, row), []).append(column)
        for (table, row), names in columns.items():
            console.print(f"  {table}: {row} x {' | '.join(names)}", markup=False, soft_wrap=True)
    else:
        console.print(CLEAR)
    for (table, row, column), reason in wrong.items():
        console.print(
            f"taken although unreachable: {table}: {row} x {column} ({reason})",
            style="red", markup=False,
        )  # fmt: skip
    return not wrong


def _claimed(coverage: Coverage, side: str) -> Table:
    taken, unreachable = coverage.table(side), never()
    table = _table(TITLES[side])
    table.add_column("event", no_wrap=True)
    for column in COLUMNS[side]:
        table.add_column(str(column), justify="right", overflow="fold")
    for row in ROWS[side]:
        cells = [
            NEVER if (side, row, str(c)) in unreachable else _count(taken.get((row, str(c)), 0))
            for c in COLUMNS[side]
        ]
        table.add_row(row, *cells)
    return table


def _stages(coverage: Coverage) -> Table:
    table = _table("Legal moves of proto/move.py")
    table.add_column("legal move", no_wrap=True)
    unreachable = never()
    for side in STAGES:
        table.add_column(side, justify="right")
    for start in Stage:
        for end in sorted(NEXT[start]):
            cells = [
                NEVER
                if (name, start.value, end.value) in unreachable
                else _count(coverage.counts[name, start.value, end.value])
                for name in STAGES.values()
            ]
            table.add_row(f"{start} -> {end}", *cells)
    return table


def _seen(coverage: Coverage, name: str) -> Table | None:
    """A table of what was seen, without a claim about the rest."""
    taken = coverage.table(name)
    if not taken:
        return None
    columns = sorted({column for _, column in taken})
    table = _table(name.capitalize())
    table.add_column("", no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right")
    for row in sorted({row for row, _ in taken}):
        table.add_row(row, *[str(taken.get((row, column), "")) for column in columns])
    return table


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))


def _count(count: int) -> Text:
    return Text(str(count)) if count else Text("0", style="bold red")
