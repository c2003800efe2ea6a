"""The effects of one step, in order."""

from ...proto.cluster_events import ClusterEvent
from ...proto.effects import ToController, ToGateway, ToWorker, WorkerEffect
from ...proto.gateway_events import GatewayEvent
from ...proto.ids import GatewayId, WorkerKey
from ...proto.timers import ClearTimer, SetTimer, TimerKey
from ...proto.worker_events import WorkerEvent


class Outbox:
    """Collects what the parts of a core order; `take` empties it."""

    def __init__(self) -> None:
        self._effects: list[WorkerEffect] = []

    def put(self, effect: WorkerEffect) -> None:
        self._effects.append(effect)

    def to_controller(self, event: ClusterEvent) -> None:
        self._effects.append(ToController(event))

    def to_worker(self, key: WorkerKey, event: WorkerEvent) -> None:
        self._effects.append(ToWorker(key, event))

    def to_gateway(self, gateway_id: GatewayId, event: GatewayEvent) -> None:
        self._effects.append(ToGateway(gateway_id, event))

    def set_timer(self, key: TimerKey, at_ns: int) -> None:
        self._effects.append(SetTimer(key, at_ns))

    def clear_timer(self, key: TimerKey) -> None:
        self._effects.append(ClearTimer(key))

    def take(self) -> list[WorkerEffect]:
        effects, self._effects = self._effects, []
        return effects
