"""Makes a plan of faults happen to a world."""

from collections.abc import Callable
from typing import Any

from ..proto.cluster_events import DrainAsked, MigrateAsked, RoleAsked
from ..proto.ids import RequestId, WorkerId, WorkerKey
from .clock import to_ns
from .faults import (
    ControllerRestart,
    CopyTrouble,
    Crash,
    Cut,
    Drain,
    Fault,
    Freeze,
    GatewayCrash,
    HangUp,
    MessageTrouble,
    Migrate,
    SlowLink,
    SwitchRole,
)
from .world import World


class Injector:
    """Puts a plan on a world's schedule. What a healed world still has coming is void."""

    def __init__(self, world: World, plan: list[Fault]) -> None:
        self._world = world
        self._healed = False
        self._asks = 0
        for fault in plan:
            world.scheduler.at(fault.at_ns, self._begin, fault)

    def heal(self) -> None:
        """End every fault, now and for good. Clients may still hang up."""
        self._healed = True
        self._world.heal()

    def _begin(self, fault: Fault) -> None:
        if not self._healed or isinstance(fault, HangUp):
            self._hurt(fault)

    def _hurt(self, fault: Fault) -> None:
        world = self._world
        match fault:
            case HangUp(index=index):
                world.hang_up(RequestId(f"r{index}"))
            case Crash(worker_id=worker_id):
                world.kill_worker(worker_id, fault.noticed_ns)
                self._later(fault.down_ns, world.start_worker, worker_id)
            case Freeze():
                self._freeze(fault)
            case MessageTrouble(trouble=trouble):
                world.mail.network.trouble(trouble)
                self._later(fault.for_ns, world.mail.network.ease, trouble)
            case Cut(party=party):
                world.mail.network.cut(party)
                self._later(fault.for_ns, world.mail.network.mend, party)
            case SlowLink(worker_id=worker_id):
                world.links.slow(worker_id, fault.factor)
                self._later(fault.for_ns, self._quicken, worker_id)
            case CopyTrouble():
                world.links.trouble(fault.fail, fault.damage)
                self._later(fault.for_ns, self._calm, None)
            case ControllerRestart():
                world.kill_controller()
                self._later(fault.down_ns, world.start_controller, None)
            case GatewayCrash(gateway_id=gateway_id):
                world.kill_gateway(gateway_id, fault.noticed_ns)
                self._later(fault.down_ns, world.start_gateway, gateway_id)
            case Migrate() | Drain() | SwitchRole():
                self._ask(fault)

    def _freeze(self, fault: Freeze) -> None:
        world = self._world
        party = world.mail.workers.get(fault.worker_id)
        if party is None:
            return
        world.freeze_worker(fault.worker_id)
        self._later(fault.for_ns, world.thaw_worker, party.key)
        if fault.killed_ns is not None:
            self._later(fault.for_ns + fault.killed_ns, self._kill_thawed, party.key)

    def _kill_thawed(self, key: WorkerKey) -> None:
        if self._world.mail.living(key) is not None:
            self._world.kill_worker(key.worker_id, to_ns(0.1))
            self._later(to_ns(0.5), self._world.start_worker, key.worker_id)

    def _ask(self, fault: Migrate | Drain | SwitchRole) -> None:
        self._asks += 1
        ask_id = f"gateway.0/{self._asks}"
        match fault:
            case Drain():
                event: Any = DrainAsked(ask_id=ask_id, worker_id=fault.worker_id)
            case SwitchRole():
                event = RoleAsked(ask_id=ask_id, worker_id=fault.worker_id, role=fault.role)
            case Migrate():
                request_id = self._some_request(fault.pick)
                event = MigrateAsked(ask_id=ask_id, request_id=request_id, target=fault.target)
        self._world.ask_controller(event)

    def _some_request(self, pick: int) -> RequestId:
        streams = self._world.clients.streams.values()
        running = [stream.request_id for stream in streams if stream.tokens and not stream.ended]
        return running[pick % len(running)] if running else RequestId("nobody")

    def _quicken(self, worker_id: WorkerId) -> None:
        self._world.links.slow(worker_id, 1.0)

    def _calm(self, _: None) -> None:
        self._world.links.trouble(0.0, 0.0)

    def _later(self, delay_ns: int, action: Callable[[Any], None], argument: Any) -> None:
        self._world.scheduler.at(self._world.scheduler.now_ns + delay_ns, action, argument)
