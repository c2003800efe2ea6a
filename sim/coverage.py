"""How often what was taken: counts by table, row and column, and the tables of a move.

A *pair* of the move machine is (event, half): something happened to a worker
that stood so in the move it was about. A *stage* pair is one legal move of
`proto/move.py: NEXT`, per side.
"""

from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise

from ..proto.move import NEXT, Stage
from ..workers.core.halves import Half, Side

SOURCE, TARGET = Side.SOURCE, Side.TARGET
FETCH_SOURCE, FETCH_TARGET = Side.FETCH_SOURCE, Side.FETCH_TARGET
STAGES: dict[str, str] = {side: f"{side}, stages" for side in Side}
# Of moves that one side had forgotten: they are counted, and nothing is claimed of them.
REBORN: dict[str, str] = {side: f"{side} of a forgotten move" for side in Side}
HOST, ARRIVALS = "host memory", "requests at the controller"
REQUESTS, CONTROLLER, GATEWAYS = "requests at workers", "workers at the controller", "gateways"
FAULTS = "faults"

STAGE_OF: dict[Half, Stage] = {
    Half.EXPECTED: Stage.RESERVE,
    Half.RESERVE: Stage.RESERVE,
    Half.COPY: Stage.COPY,
    Half.HANDOVER: Stage.HANDOVER,
    Half.ABANDONED: Stage.HANDOVER,
    Half.ABORTED_COPYING: Stage.ABORTED,
    Half.COMMITTED_COPYING: Stage.COMMITTED,
    Half.LEASED: Stage.COPY,
    Half.OFFERED: Stage.HANDOVER,
    Half.QUARANTINED: Stage.ABORTED,
    Half.LANDING: Stage.HANDOVER,
}
# Two words per half that is over: whether it was committed is told elsewhere.
_OVER = (Half.NONE, Half.ENDED)
COLUMNS: dict[str, tuple[str, ...]] = {
    SOURCE: (
        *_OVER,
        Half.EXPECTED,
        Half.RESERVE,
        Half.COPY,
        Half.HANDOVER,
        Half.ABANDONED,
        Half.ABORTED_COPYING,
        Half.COMMITTED_COPYING,
    ),
    TARGET: (*_OVER, Half.COMMITTED, Half.LEASED, Half.OFFERED, Half.QUARANTINED),
    FETCH_SOURCE: (
        *_OVER,
        Half.RESERVE,
        Half.COPY,
        Half.HANDOVER,
        Half.ABORTED_COPYING,
        Half.COMMITTED_COPYING,
    ),
    FETCH_TARGET: (
        *_OVER,
        Half.COMMITTED,
        Half.RESERVE,
        Half.LEASED,
        Half.LANDING,
        Half.QUARANTINED,
    ),
    HOST: ("ordered", "done", "failed"),
    ARRIVALS: ("unknown", "queued", "assigned", "displaced"),
}
_OF_ANY = ("MoveAborted", "AbortAcked", "CopyFailed", "TimerFired", "PeerLost")
_OF_REQUEST = ("RequestAssigned, other", "RequestCancelled", "GatewayLost", "ListenerChanged")
ROWS: dict[str, tuple[str, ...]] = {
    SOURCE: (
        "RequestAssigned",
        "MoveOrdered",
        "LeaseOpened",
        "LeaseRefused",
        "MoveCommitted",
        "CopySent",
        "IterationDone",
        "StreamAcked",
        *_OF_ANY,
        *_OF_REQUEST,
    ),
    TARGET: ("LeaseAsked", "HandoverOffered", "BlocksLanded", *_OF_ANY, *_OF_REQUEST),
    FETCH_SOURCE: ("FetchAsked", "FetchGranted", "MoveCommitted", "CopySent", *_OF_ANY),
    FETCH_TARGET: (
        "RequestAssigned",
        "FetchOffered",
        "FetchRefused",
        "BlocksLanded",
        "StreamAcked",
        *_OF_ANY,
        *_OF_REQUEST,
    ),
    HOST: ("spill", "restore"),
    ARRIVALS: ("interactive", "standard", "batch", "resumed"),
}
# What a worker is told, in contrast to what becomes of its own orders.
OWN = frozenset({"CopySent", "CopyFailed", "BlocksLanded", "IterationDone", "TimerFired"})
Cell = tuple[str, str, str]


@dataclass(slots=True)
class Coverage:
    """Counts by (table, row, column)."""

    counts: Counter[Cell] = field(default_factory=Counter)

    def count(self, table: str, row: str, column: str) -> None:
        self.counts[table, row, column] += 1

    def add(self, other: "Coverage") -> None:
        """All of `other` too."""
        self.counts.update(other.counts)

    def table(self, table: str) -> dict[tuple[str, str], int]:
        """The counts of one table by (row, column)."""
        return {
            (row, column): count
            for (name, row, column), count in sorted(self.counts.items())
            if name == table
        }


def path(start: Stage, end: Stage) -> list[tuple[Stage, Stage]]:
    """The fewest legal moves from `start` to `end`; one step may take several."""
    ways: list[list[Stage]] = [[start]]
    while ways:
        way = ways.pop(0)
        if way[-1] is end:
            return list(pairwise(way))
        ways += [[*way, stage] for stage in Stage if stage in NEXT[way[-1]] and stage not in way]
    raise AssertionError(f"no legal way from {start} to {end}")
