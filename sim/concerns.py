"""Which moves an event is about, as far as a worker that takes it can tell.

Some events name their move; others name a request, a gateway or a peer, and so
concern every half of a move that has to do with it.
"""

from collections.abc import Mapping
from typing import Any

from ..proto.ids import MoveId, RequestId
from ..proto.timers import TimerFired
from ..proto.worker_events import (
    GatewayLost,
    IterationDone,
    ListenerChanged,
    MoveOrdered,
    PeerLost,
    RequestAssigned,
    RequestCancelled,
    StreamAcked,
)
from ..workers.core.halves import OpenHalf, Side

OTHER_ASSIGNED = "RequestAssigned, other"  # of the move's request, not with this move
TIMERS = ("source_move", "target_move", "fetch_source", "fetch")
RUNS = (Side.SOURCE, Side.FETCH_TARGET)  # the request is here, before the move's end
Halves = Mapping[MoveId, OpenHalf]


def concerned(event: Any, halves: Halves) -> list[tuple[MoveId, str]]:
    """Every move that an event is about, and the row of the tables it counts in."""
    row = type(event).__name__
    match event:
        case TimerFired(key=key):
            return [(MoveId(key.subject), row)] if key.kind in TIMERS else []
        case RequestAssigned(request=request, handoff=handoff, fetch=fetch):
            own = [(order.move_id, row) for order in (handoff, fetch) if order is not None]
            others = [m for m in _of_request(halves, request.request_id) if (m, row) not in own]
            return own + [(move_id, OTHER_ASSIGNED) for move_id in others]
        case MoveOrdered(order=order):
            return [(order.move_id, row)]
        case _:
            move_id = getattr(event, "move_id", None)
            named = _touched(event, halves) if move_id is None else [move_id]
            return [(one, row) for one in named]


def _touched(event: Any, halves: Halves) -> list[MoveId]:
    """The moves that an event concerns without naming them."""
    match event:
        case IterationDone():
            return [m for m, half in halves.items() if half.side is Side.SOURCE]
        case StreamAcked(request_id=request_id):
            moves = _of_request(halves, request_id)
            return [move_id for move_id in moves if halves[move_id].side in RUNS]
        case RequestCancelled(request_id=request_id) | ListenerChanged(request_id=request_id):
            return _of_request(halves, request_id)
        case PeerLost(key=key):
            return [m for m, half in halves.items() if key.covers(half.peer)]
        case GatewayLost(gateway_id=gateway_id):
            return [m for m, h in halves.items() if h.gateway_id == gateway_id and _has(h)]
        case _:
            return []


def _of_request(halves: Halves, request_id: RequestId) -> list[MoveId]:
    return [m for m, half in halves.items() if half.request_id == request_id and _has(half)]


def _has(half: OpenHalf) -> bool:
    """Whether the worker has, or is to have, the request: the source of a fetch has not."""
    return half.side is not Side.FETCH_SOURCE
