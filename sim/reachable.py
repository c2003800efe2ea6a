"""Which pairs of the move machine nothing can ever take, and why.

Data: a pair that is listed here and is taken all the same fails a fuzz run; one
that is not listed and never taken is printed. Rows and columns are those of
`coverage.py`.
"""

from typing import NamedTuple

from ..proto.move import NEXT, Stage
from ..workers.core.halves import Half
from .coverage import (
    COLUMNS,
    FETCH_SOURCE,
    FETCH_TARGET,
    ROWS,
    SOURCE,
    STAGES,
    TARGET,
    Cell,
    Coverage,
)


class Never(NamedTuple):
    """These rows never meet these columns."""

    side: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    reason: str


_OVER = (Half.NONE, Half.ENDED)
_ASKED = ("LeaseOpened", "LeaseRefused", "MoveCommitted", "MoveAborted", "AbortAcked")
_OF_REQUEST = (
    "PeerLost",
    "RequestAssigned, other",
    "RequestCancelled",
    "GatewayLost",
    "ListenerChanged",
)
_NAMES_NO_MOVE = "names no move: only those that are there are concerned"
_MOVES = (
    Never(SOURCE, (*_OF_REQUEST, "StreamAcked", "IterationDone"), _OVER, _NAMES_NO_MOVE),
    Never(
        SOURCE,
        _ASKED,
        (Half.NONE,),
        "answers an ask, and whoever has asked has the move or remembers it",
    ),
    Never(
        TARGET,
        ("HandoverOffered", "BlocksLanded", "CopyFailed"),
        (Half.NONE,),
        "follows the lease, and whoever has opened one has it or remembers it",
    ),
    Never(
        SOURCE, ("MoveOrdered",), (Half.EXPECTED,), "a migration asks in the step that orders it"
    ),
    Never(SOURCE, _ASKED, (Half.EXPECTED,), "the target has not been asked yet"),
    Never(
        SOURCE,
        ("MoveCommitted",),
        (Half.RESERVE, Half.COPY),
        "the target commits only what was offered, and an offer enters handover",
    ),
    Never(
        SOURCE,
        ("AbortAcked",),
        (Half.RESERVE, Half.COPY, Half.HANDOVER),
        "answers an abort only, with which the source leaves these stages",
    ),
    Never(
        SOURCE,
        ("MoveAborted", "AbortAcked"),
        (Half.COMMITTED_COPYING,),
        "a target that has committed says so and nothing else",
    ),
    Never(
        SOURCE,
        ("CopySent", "CopyFailed"),
        (*_OVER, Half.EXPECTED, Half.RESERVE),
        "no copy before the lease, and a move stays until its copies have ended",
    ),
    Never(
        SOURCE,
        ("CopyFailed",),
        (Half.COMMITTED_COPYING,),
        "the target commits when every copy has landed, and a failed one never does",
    ),
    Never(
        SOURCE,
        ("TimerFired",),
        (*_OVER, Half.EXPECTED, Half.ABORTED_COPYING, Half.COMMITTED_COPYING),
        "set with the first ask, cleared at the end",
    ),
    Never(TARGET, _OF_REQUEST, (*_OVER, Half.COMMITTED), _NAMES_NO_MOVE),
    Never(
        TARGET,
        ("TimerFired",),
        (*_OVER, Half.COMMITTED),
        "set with the lease, cleared when it is forgotten",
    ),
    Never(
        TARGET,
        ("BlocksLanded", "CopyFailed"),
        (Half.COMMITTED,),
        "every copy has landed before the commit, and each lands once",
    ),
)
_FETCHES = (
    Never(FETCH_SOURCE, ("PeerLost",), _OVER, _NAMES_NO_MOVE),
    Never(
        FETCH_SOURCE,
        ("FetchGranted", "MoveCommitted", "AbortAcked"),
        (Half.NONE,),
        "answers an offer or its end, and whoever has offered has the fetch or remembers it",
    ),
    Never(
        FETCH_SOURCE,
        ("MoveCommitted",),
        (Half.RESERVE,),
        "the target commits what was copied, and the first copy follows the grant",
    ),
    Never(
        FETCH_SOURCE,
        ("AbortAcked",),
        (Half.RESERVE, Half.COPY, Half.HANDOVER),
        "answers an abort only, with which the source leaves these stages",
    ),
    Never(
        FETCH_SOURCE,
        ("MoveAborted", "AbortAcked"),
        (Half.COMMITTED_COPYING,),
        "a target that has committed says so and nothing else",
    ),
    Never(
        FETCH_SOURCE,
        ("CopySent", "CopyFailed"),
        (*_OVER, Half.RESERVE, Half.HANDOVER),
        "no copy before the grant, none is left in the handover, and a fetch stays for its copies",
    ),
    Never(
        FETCH_SOURCE,
        ("CopyFailed",),
        (Half.COMMITTED_COPYING,),
        "the target commits when every copy has landed, and a failed one never does",
    ),
    Never(
        FETCH_SOURCE,
        ("TimerFired",),
        (*_OVER, Half.ABORTED_COPYING, Half.COMMITTED_COPYING),
        "set with the offer, cleared at the end",
    ),
    Never(
        FETCH_TARGET,
        (*_OF_REQUEST, "StreamAcked"),
        (*_OVER, Half.COMMITTED),
        _NAMES_NO_MOVE,
    ),
    Never(
        FETCH_TARGET,
        ("FetchOffered", "FetchRefused", "MoveAborted", "AbortAcked", "BlocksLanded", "CopyFailed"),
        (Half.NONE,),
        "follows an ask, and whoever has asked has the fetch or remembers it",
    ),
    Never(
        FETCH_TARGET,
        ("FetchRefused",),
        (Half.LEASED, Half.LANDING, Half.QUARANTINED, Half.COMMITTED),
        "a source that has refused a fetch remembers it as ended, and offers nothing",
    ),
    Never(
        FETCH_TARGET,
        ("BlocksLanded", "CopyFailed"),
        (Half.RESERVE, Half.COMMITTED),
        "nothing is copied before the grant, and every copy has landed, once, before the commit",
    ),
    Never(
        FETCH_TARGET,
        ("TimerFired",),
        (*_OVER, Half.COMMITTED),
        "set with the ask, cleared when it is forgotten",
    ),
)
NEVER = (*_MOVES, *_FETCHES)
# Legal in `proto/move.py: NEXT`, and not taken by one of the sides.
NEVER_STAGES = {
    (TARGET, Stage.RESERVE, Stage.ABORTED): "a refused ask leaves nothing at the target",
    (FETCH_TARGET, Stage.COPY, Stage.COPY): "the first copy that lands ends it",
}


def never() -> dict[Cell, str]:
    """Every unreachable pair with its reason."""
    cells = {
        (str(rule.side), row, str(column)): rule.reason
        for rule in NEVER
        for row in rule.rows
        for column in rule.columns
    }
    for (side, start, end), reason in NEVER_STAGES.items():
        cells[STAGES[side], start.value, end.value] = reason
    return cells


def pairs() -> list[Cell]:
    """Every pair of which something is claimed, in the order of its tables."""
    cells = [
        (str(table), row, str(column))
        for table, rows in ROWS.items()
        for row in rows
        for column in COLUMNS[table]
    ]
    return cells + [
        (STAGES[side], start.value, end.value)
        for side in STAGES
        for start in Stage
        for end in Stage
        if end in NEXT[start]
    ]


def untaken(coverage: Coverage) -> list[Cell]:
    """Reachable, and never taken."""
    unreachable = never()
    return [c for c in pairs() if c not in unreachable and not coverage.counts[c]]


def impossible(coverage: Coverage) -> dict[Cell, str]:
    """Taken, although called unreachable, or in no table: a bug, of the table or of a core."""
    unreachable, known = never(), set(pairs())
    tables = {*ROWS, *STAGES.values()}
    taken = [c for c in sorted(coverage.counts) if c[0] in tables]
    found = {c: unreachable[c] for c in taken if c in unreachable}
    found |= {c: "stands in no table" for c in taken if c not in known}
    return found
