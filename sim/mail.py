"""Routes messages to whoever bears the name when they arrive.

A message to an incarnation that is gone is dropped; so is one to a controller
or gateway that is down.
"""

from typing import Any

from ..proto.ids import GatewayId, WorkerId, WorkerKey
from ..proto.worker_events import PeerLost
from .network import Network, PartyName
from .parties import CONTROLLER, ControllerParty, GatewayParty, WorkerParty


class Mail:
    """The parties that live now, and the network between them."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.controller: ControllerParty | None = None
        self.gateways: dict[GatewayId, GatewayParty] = {}
        self.workers: dict[WorkerId, WorkerParty] = {}

    def to_controller(self, source: PartyName, event: Any) -> None:
        self.network.send(source, CONTROLLER, self._reach_controller, event)

    def to_worker(self, source: PartyName, key: WorkerKey, event: Any) -> None:
        self.network.send(source, key.worker_id, self._reach_worker, (key, event))

    def to_gateway(self, source: PartyName, gateway_id: GatewayId, event: Any) -> None:
        self.network.send(source, gateway_id, self._reach_gateway, (gateway_id, event))

    def living(self, key: WorkerKey) -> WorkerParty | None:
        """That incarnation, None if it is gone."""
        party = self.workers.get(key.worker_id)
        return party if party is not None and party.key == key else None

    def _reach_controller(self, event: Any) -> None:
        if self.controller is not None:
            self.controller.shell.post(event)

    def _reach_worker(self, message: tuple[WorkerKey, Any]) -> None:
        key, event = message
        party = self.workers.get(key.worker_id)
        if party is None or party.key != key:
            return
        if isinstance(event, PeerLost):
            party.engine.inbound.fence(event.key)
        party.shell.post(event)

    def _reach_gateway(self, message: tuple[GatewayId, Any]) -> None:
        gateway_id, event = message
        party = self.gateways.get(gateway_id)
        if party is not None:
            party.shell.post(event)
