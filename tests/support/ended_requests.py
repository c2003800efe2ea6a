"""Records made by hand: requests that ended as a test says."""

from typing import Any

from splitweave.proto.ids import Epoch, MoveId, RequestId, WorkerKey
from splitweave.proto.move import MoveKind, MoveReport, Stage
from splitweave.sim.results.records import UNKNOWN, Ending, Records, Row
from splitweave.sim.results.table import Table

MS = 1_000_000


def row(asked_ms: float = 0, *stations_ms: float, **changes: Any) -> Row:
    """A completed request of four tokens: asked, placed, began, computed, first, last."""
    times = [int(at_ms * MS) for at_ms in (asked_ms, *stations_ms)]
    times += [UNKNOWN] * (6 - len(times))
    values: dict[str, Any] = {
        "asked_ns": times[0], "placed_ns": times[1], "began_ns": times[2], "computed_ns": times[3],
        "first_ns": times[4], "last_ns": times[5], "fetch_ns": 0, "transfer_ns": 0,
        "exposed_ns": 0, "transfer_bytes": 0, "prompt_tokens": 10, "output_tokens": 4,
        "cached_tokens": 0, "cached_host_tokens": 0, "cached_peer_tokens": 0, "attempts": 1,
        "migrations": 0, "source": 0, "target": 0, "ending": Ending.COMPLETED, "request_class": 1,
    }  # fmt: skip
    return Row(**(values | changes))


def records(*rows: Row) -> Records:
    """They ended in this order."""
    made = Records()
    for index, each in enumerate(rows):
        made.add(RequestId(f"r{index}"), each)
    return made


def table(*rows: Row) -> Table:
    return Table(records(*rows))


def move(kind: MoveKind, source: WorkerKey, target: WorkerKey, **changes: Any) -> MoveReport:
    """A committed move of one block: 2 ms of reserving, 5 of copying, 3 of handing over."""
    values: dict[str, Any] = {
        "move_id": MoveId("m"), "kind": kind, "request_id": RequestId("r"), "epoch": Epoch(0),
        "source": source, "target": target, "outcome": Stage.COMMITTED, "reason": "", "blocks": 1,
        "transfer_bytes": 100, "hidden_bytes": 60, "reserve_ns": 2 * MS, "copy_ns": 5 * MS,
        "handover_ns": 3 * MS, "asked_ns": 0, "ended_ns": 10 * MS,
    }  # fmt: skip
    return MoveReport(**(values | changes))
