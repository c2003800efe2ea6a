"""The parties of a world: a core, its shell, and how its effects are performed."""

from collections.abc import Callable
from typing import Any, Protocol

from ..cluster.core.core import ClusterCore
from ..cluster.core.gateway import GatewayCore
from ..proto.effects import (
    AnswerAsk,
    CloseLease,
    CopyBlocks,
    DeliverTokens,
    EndProcess,
    EndStream,
    FailStream,
    OpenLease,
    RestartStarting,
    RestartWorker,
    RestoreBlocks,
    RetireWorker,
    RunIteration,
    SpillBlocks,
    ToController,
    ToGateway,
    ToWorker,
)
from ..proto.ids import GatewayId, RequestId, WorkerKey
from ..proto.views import WorkerInfo
from ..proto.worker_events import RequestAssigned
from ..workers.core.core import WorkerCore
from .clients import Clients
from .clock import Scheduler
from .engine import Engine
from .host_memory import HostMemory
from .network import PartyName
from .shell import Shell

CONTROLLER: PartyName = "controller"
EndOrder = RetireWorker | RestartWorker | RestartStarting


class Post(Protocol):
    """How a party reaches the others; `Mail` is it."""

    def to_controller(self, source: PartyName, event: Any) -> None: ...

    def to_worker(self, source: PartyName, key: WorkerKey, event: Any) -> None: ...

    def to_gateway(self, source: PartyName, gateway_id: GatewayId, event: Any) -> None: ...


class Pools(Protocol):
    """Whom a controller's orders concern beside the mail; the world is it."""

    def placed(self, request_id: RequestId) -> None: ...

    def retire(self, effect: EndOrder) -> None: ...


class ControllerParty:
    """One life of the controller."""

    shell: Shell

    def __init__(
        self,
        core: ClusterCore,
        mail: Post,
        pools: Pools,
        answer: Callable[[AnswerAsk], None],
    ) -> None:
        self.core = core
        self._mail = mail
        self._pools = pools
        self._answer = answer

    def perform(self, effect: Any) -> None:
        match effect:
            case ToWorker(key=key, event=event):
                self._mail.to_worker(CONTROLLER, key, event)
                if isinstance(event, RequestAssigned):
                    self._pools.placed(event.request.request_id)
            case ToGateway(gateway_id=gateway_id, event=event):
                self._mail.to_gateway(CONTROLLER, gateway_id, event)
            case AnswerAsk():
                self._answer(effect)
            case RetireWorker() | RestartWorker() | RestartStarting():
                self._pools.retire(effect)
            case _:
                raise AssertionError(f"the controller cannot perform {effect!r}")


class GatewayParty:
    """A gateway, and its clients' ears."""

    shell: Shell

    def __init__(
        self,
        gateway_id: GatewayId,
        core: GatewayCore,
        mail: Post,
        clients: Clients,
        scheduler: Scheduler,
    ) -> None:
        self.gateway_id = gateway_id
        self.core = core
        self._mail = mail
        self._clients = clients
        self._scheduler = scheduler

    def perform(self, effect: Any) -> None:
        match effect:
            case DeliverTokens() | EndStream() | FailStream() if not self._clients.listens(
                effect.request_id, self.gateway_id
            ):
                pass  # its client is at another gateway by now
            case DeliverTokens():
                self._clients.deliver(effect, self._scheduler.now_ns)
            case ToWorker(key=key, event=event):
                self._mail.to_worker(self.gateway_id, key, event)
            case ToController(event=event):
                self._mail.to_controller(self.gateway_id, event)
            case EndStream():
                self._clients.end(effect)
            case FailStream():
                self._clients.fail(effect)
            case _:
                raise AssertionError(f"a gateway cannot perform {effect!r}")


class WorkerParty:
    """One life of a worker."""

    shell: Shell

    def __init__(
        self,
        info: WorkerInfo,
        core: WorkerCore,
        engine: Engine,
        host: HostMemory,
        mail: Post,
    ) -> None:
        self.info = info
        self.key = info.key
        self.core = core
        self.engine = engine
        self.host = host
        self._mail = mail
        self._name: PartyName = info.key.worker_id

    def perform(self, effect: Any) -> None:
        match effect:
            case RunIteration():
                self.engine.iterate(effect)
            case ToGateway(gateway_id=gateway_id, event=event):
                self._mail.to_gateway(self._name, gateway_id, event)
            case ToController(event=event):
                self._mail.to_controller(self._name, event)
            case ToWorker(key=key, event=event):
                self._mail.to_worker(self._name, key, event)
            case CopyBlocks(copy=copy):
                self.engine.start(copy)
            case OpenLease():
                self.engine.open_lease(effect)
            case CloseLease():
                self.engine.close_lease(effect)
            case EndProcess():
                self.engine.end_process(effect)
            case SpillBlocks() | RestoreBlocks():
                self.host.start(effect)
            case _:
                raise AssertionError(f"a worker cannot perform {effect!r}")

    def close(self) -> None:
        """The process is gone."""
        self.shell.close()
        self.engine.close()
        self.host.closed = True
