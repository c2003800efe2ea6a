"""A worker's half of a move in one word, for whoever looks on. Nothing here decides."""

from collections.abc import Iterable
from enum import StrEnum
from typing import NamedTuple

from ...proto.ids import MoveId, WorkerKey
from ...proto.move import Stage
from ...proto.requests import Request
from .memory import EndedMoves
from .source_move import SourceMove
from .target_move import TargetMove


class Half(StrEnum):
    """How one side stands in a move."""

    NONE = "none"  # never heard of, or forgotten
    ENDED = "ended"  # over, and remembered
    COMMITTED = "committed"  # committed here as the target, and remembered
    # At the source:
    EXPECTED = "expected"  # a handoff that waits with its request: nobody was asked yet
    RESERVE = "reserve"
    COPY = "copy"
    HANDOVER = "handover"
    ABANDONED = "abandoned"  # runs on; the target has not said whether it committed
    ABORTED_COPYING = "aborted, copying"  # copies are still in flight
    COMMITTED_COPYING = "committed, copying"
    # At the target:
    LEASED = "leased"
    OFFERED = "offered"  # the source has stopped, not all has landed
    QUARANTINED = "quarantined"


class OpenHalf(NamedTuple):
    """A half that is not over."""

    half: Half
    request: Request
    peer: WorkerKey


_SOURCE = {
    Stage.RESERVE: Half.RESERVE,
    Stage.COPY: Half.COPY,
    Stage.HANDOVER: Half.HANDOVER,
    Stage.COMMITTED: Half.COMMITTED_COPYING,
    Stage.ABORTED: Half.ABORTED_COPYING,
}
_TARGET = {
    Stage.COPY: Half.LEASED,
    Stage.HANDOVER: Half.OFFERED,
    Stage.ABORTED: Half.QUARANTINED,
}


def source_half(move: SourceMove) -> Half:
    """Of a move that the source still has."""
    if move.stage is Stage.RESERVE and move.asked_ns is None:
        return Half.EXPECTED
    if move.stage is Stage.HANDOVER and move.abandoned:
        return Half.ABANDONED
    return _SOURCE[move.stage]


def over(move_id: MoveId, ended: EndedMoves) -> Half:
    """Of a move that the worker does not have: what it remembers of it."""
    if move_id not in ended:
        return Half.NONE
    return Half.ENDED if ended.committed(move_id) is None else Half.COMMITTED


def open_halves(
    sources: Iterable[SourceMove], targets: Iterable[TargetMove]
) -> dict[MoveId, OpenHalf]:
    """Every half of one worker."""
    halves = {
        move.order.move_id: OpenHalf(source_half(move), move.sequence.request, move.target)
        for move in sources
    }
    for move in targets:
        halves[move.move_id] = OpenHalf(_TARGET[move.stage], move.request, move.source)
    return halves
