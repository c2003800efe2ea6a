"""A worker's half of a move in one word, for whoever looks on. Nothing here decides."""

from collections.abc import Iterable
from enum import StrEnum
from typing import NamedTuple

from ...proto.ids import GatewayId, MoveId, RequestId, WorkerKey
from ...proto.move import Stage
from .fetches_source import SourceFetch
from .fetches_target import TargetFetch
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
    # At the target of a fetch, beside RESERVE, LEASED and QUARANTINED:
    LANDING = "landing"


class Side(StrEnum):
    """Whose half it is."""

    SOURCE = "source"
    TARGET = "target"
    FETCH_SOURCE = "fetch's source"
    FETCH_TARGET = "fetch's target"


class OpenHalf(NamedTuple):
    """A half that is not over."""

    side: Side
    half: Half
    request_id: RequestId
    gateway_id: GatewayId
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


_FETCH_TARGET = _TARGET | {Stage.RESERVE: Half.RESERVE, Stage.HANDOVER: Half.LANDING}


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
    halves = {}
    for source in sources:
        request = source.sequence.request
        halves[source.order.move_id] = OpenHalf(
            Side.SOURCE, source_half(source), request.request_id, request.gateway_id, source.target
        )
    for target in targets:
        request = target.request
        halves[target.move_id] = OpenHalf(
            Side.TARGET, _TARGET[target.stage], request.request_id, request.gateway_id,
            target.source,
        )  # fmt: skip
    return halves


def fetch_halves(
    sources: Iterable[SourceFetch], targets: Iterable[TargetFetch]
) -> dict[MoveId, OpenHalf]:
    """The same of prefix fetches."""
    halves = {}
    for source in sources:
        asked = source.asked
        halves[asked.move_id] = OpenHalf(
            Side.FETCH_SOURCE, _SOURCE[source.stage], asked.request_id, asked.gateway_id,
            asked.target,
        )  # fmt: skip
    for target in targets:
        request = target.sequence.request
        halves[target.plan.move_id] = OpenHalf(
            Side.FETCH_TARGET, _FETCH_TARGET[target.stage], request.request_id,
            request.gateway_id, target.plan.source,
        )  # fmt: skip
    return halves
