"""Which moves an event is about: those it names, or those it has to do with."""

from typing import Any

import pytest
from sim_worlds import key, request
from splitweave.proto.ids import GatewayId, MoveId, RequestId
from splitweave.proto.move import FetchPlan, MoveKind, MoveOrder
from splitweave.proto.timers import TimerFired, TimerKey
from splitweave.proto.views import Role
from splitweave.proto.worker_events import (
    AbortAcked,
    GatewayLost,
    IterationDone,
    ListenerChanged,
    MoveOrdered,
    PeerLost,
    RequestAssigned,
    RequestCancelled,
    RoleAssigned,
    StreamAcked,
)
from splitweave.sim.concerns import OTHER_ASSIGNED, concerned
from splitweave.workers.core.halves import Half, OpenHalf, Side

R, G = RequestId("r"), GatewayId("g")
HALVES = {
    MoveId(name): OpenHalf(side, half, R, G, key(peer))
    for name, side, half, peer in (
        ("to", Side.SOURCE, Half.COPY, "a"),
        ("here", Side.TARGET, Half.LEASED, "b"),
        ("lent", Side.FETCH_SOURCE, Half.COPY, "a"),
        ("awaited", Side.FETCH_TARGET, Half.LEASED, "b"),
    )
}


def about(event: Any) -> list[str]:
    return [move_id for move_id, _ in concerned(event, HALVES)]


@pytest.mark.parametrize(
    ("event", "moves"),
    [
        (AbortAcked(move_id=MoveId("unknown"), lease=1, peer=key("a")), ["unknown"]),
        (IterationDone(iteration=1, sampled=()), ["to"]),
        (StreamAcked(request_id=R), ["to", "awaited"]),
        (StreamAcked(request_id=RequestId("other")), []),
        (RequestCancelled(request_id=R), ["to", "here", "awaited"]),
        (ListenerChanged(request_id=R, gateway_id=G, from_index=0), ["to", "here", "awaited"]),
        (GatewayLost(gateway_id=G), ["to", "here", "awaited"]),
        (GatewayLost(gateway_id=GatewayId("other")), []),
        (PeerLost(key=key("a")), ["to", "lent"]),
        (PeerLost(key=key("b", 2)), ["here", "awaited"]),
        (RoleAssigned(role=Role.DECODE, draining=False), []),
        (TimerFired(key=TimerKey("fetch", "awaited")), ["awaited"]),
        (TimerFired(key=TimerKey("heartbeat", "")), []),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, list) else "-".join(value),
)
def test_an_event_concerns_the_moves_it_names_or_has_to_do_with(
    event: Any, moves: list[str]
) -> None:
    assert about(event) == moves


def test_an_assignment_is_about_its_own_moves_and_in_the_way_of_the_others() -> None:
    order = MoveOrder(
        move_id=MoveId("to"), kind=MoveKind.HANDOFF, request_id=R, source=key("s"),
        target=key("a"),
    )  # fmt: skip
    plan = FetchPlan(move_id=MoveId("awaited"), source=key("b"), blocks=2)
    assigned = RequestAssigned(request=request("r"), handoff=order, fetch=plan)
    assert concerned(assigned, HALVES) == [
        ("to", "RequestAssigned"),
        ("awaited", "RequestAssigned"),
        ("here", OTHER_ASSIGNED),
    ]
    assert concerned(MoveOrdered(order=order), HALVES) == [("to", "MoveOrdered")]
