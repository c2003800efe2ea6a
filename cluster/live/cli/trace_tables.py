"""One request and what moving it has cost, as tables."""

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ....client import Move, RequestTrace
from .tables import headed

MIB = 1024 * 1024


def trace_tables(trace: RequestTrace) -> RenderableType:
    """A line of the request, one of the move in progress, and a table of those that ended."""
    parts: list[RenderableType] = [_request(trace)]
    if trace.running is not None:
        run = trace.running
        line = f"moving now: {run.kind} {run.source} > {run.target} ({run.why}, {run.age_s:.2f} s)"
        parts.append(Text(line))
    if trace.moves:
        parts.append(_moves(trace.moves))
    if trace.moves_left_out:
        parts.append(Text(f"and {trace.moves_left_out} moves more"))
    return Group(*parts)


def _request(trace: RequestTrace) -> Text:
    request = trace.request
    where = f" at {request.worker_id}" if request.worker_id else ""
    return Text(
        f"{request.request_id}: {request.state}{where}, {request.prompt_tokens} prompt tokens,"
        f" {request.output_tokens} output tokens, came {request.age_s:.1f} s ago"
    )


def _moves(moves: tuple[Move, ...]) -> Table:
    """One row per ended move; its three stages add up to its seconds."""
    table = headed(
        "MOVE", "SOURCE", "TARGET", "OUTCOME", ">BLOCKS", ">MIB", ">HIDDEN", ">MIB/S", ">RESERVE",
        ">COPY", ">HANDOVER", ">TOTAL", ">COPIES", ">REPEATS",
    )  # fmt: skip
    for move in moves:
        stages = (move.reserve_s, move.copy_s, move.handover_s, move.seconds)
        table.add_row(
            move.kind,
            move.source,
            move.target,
            "committed" if move.committed else f"aborted: {move.reason}",
            str(move.blocks),
            f"{move.transfer_bytes / MIB:.1f}",
            f"{move.hidden_share:.0%}",
            f"{move.bytes_per_s / MIB:.0f}",
            *(f"{seconds * 1e3:.1f} ms" for seconds in stages),
            str(move.copies),
            str(move.repeats),
        )
    return table
