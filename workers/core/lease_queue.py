"""Handoffs that a target had no room for, and whose turn it is when room comes.

The source keeps what it prefills and asks again now and then; that keeps a place. An
ask that was not repeated for lease_ns is forgotten: its source has gone, or given up.
In order of asking; nobody overtakes, so that small requests do not starve a large one.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace

from ...proto.ids import GatewayId, MoveId, RequestId, WorkerKey
from ...proto.worker_events import LeaseAsked
from .limits import WorkerLimits


class LeaseQueue:
    """Asks by move, at most delayed_leases_max, each with the time it was last heard."""

    def __init__(self, limits: WorkerLimits) -> None:
        self._limits = limits
        self._asks: OrderedDict[MoveId, tuple[LeaseAsked, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._asks)

    def ahead_of(self, event: LeaseAsked) -> bool:
        """Whether somebody else is first in turn."""
        return bool(self._asks) and next(iter(self._asks)) != event.move_id

    def keep(self, event: LeaseAsked, now_ns: int) -> bool:
        """Gives it a place, or lets it keep the one it has; False if there is none left."""
        if event.move_id not in self._asks and len(self) >= self._limits.delayed_leases_max:
            return False
        self._asks[event.move_id] = (event, now_ns)
        return True

    def first(self, now_ns: int) -> LeaseAsked | None:
        """Whose turn it is."""
        while self._asks:
            event, heard_ns = next(iter(self._asks.values()))
            if now_ns - heard_ns < self._limits.lease_ns:
                return event
            self.drop(event.move_id)
        return None

    def drop(self, move_id: MoveId) -> None:
        """Its lease is open, or not wanted any more; none is no error."""
        self._asks.pop(move_id, None)

    def drop_request(self, request_id: RequestId) -> None:
        """The request is not wanted."""
        self._drop_all(lambda ask: ask.request.request_id == request_id)

    def drop_gateway(self, gateway_id: GatewayId) -> None:
        """Nobody listens to these requests."""
        self._drop_all(lambda ask: ask.request.gateway_id == gateway_id)

    def drop_source(self, key: WorkerKey) -> None:
        """That incarnation is dead."""
        self._drop_all(lambda ask: key.covers(ask.source))

    def listen(self, request_id: RequestId, gateway_id: GatewayId) -> None:
        """What is to come here emits to another gateway."""
        for move_id, (ask, heard_ns) in self._asks.items():
            if ask.request.request_id == request_id:
                request = replace(ask.request, gateway_id=gateway_id)
                self._asks[move_id] = (replace(ask, request=request), heard_ns)

    def check(self) -> None:
        """Integrity: it is bounded."""
        assert len(self) <= self._limits.delayed_leases_max, len(self)

    def _drop_all(self, meant: Callable[[LeaseAsked], bool]) -> None:
        for move_id in [move_id for move_id, (ask, _) in self._asks.items() if meant(ask)]:
            del self._asks[move_id]
