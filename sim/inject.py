"""Makes a plan of faults happen to a world."""

from collections.abc import Callable
from typing import Any

from ..proto.cluster_events import DrainAsked, MigrateAsked, RoleAsked
from ..proto.ids import RequestId, WorkerId, WorkerKey
from ..proto.worker_events import TransportStuck
from .clock import to_ns
from .coverage import FAULTS
from .faults import (
    ControllerRestart,
    CopyTrouble,
    Crash,
    Cut,
    CutPair,
    Drain,
    Fault,
    Freeze,
    FullMemory,
    GatewayCrash,
    HangUp,
    HostTrouble,
    LateLetter,
    MessageTrouble,
    Migrate,
    SlowLink,
    StageFault,
    StuckTransport,
    SwitchRole,
)
from .host_memory import HostMemory
from .late_letters import LateLetters
from .links import LinkTrouble
from .network import Trouble
from .seize import Seizure
from .stage_faults import Ambush
from .world import World


class Injector:
    """Puts a plan on a world's schedule. What a healed world still has coming is void."""

    def __init__(self, world: World, plan: list[Fault]) -> None:
        self._world = world
        self._seizures: list[Seizure] = []
        self._ambush = self._letters = None
        if world.observer is not None:
            self._ambush = Ambush(world, world.observer, self._begin)
            self._letters = LateLetters(world, world.observer)
        self._healed = False
        self._asks = 0
        for fault in plan:
            world.scheduler.at(fault.at_ns, self._begin, fault)

    def heal(self) -> None:
        """End every fault, now and for good. Clients may still hang up."""
        self._healed = True
        if self._ambush is not None:
            self._ambush.disarm()
        if self._letters is not None:
            self._letters.disarm()
        for seizure in self._seizures:
            seizure.end()
        self._world.heal()

    def _begin(self, fault: Fault) -> None:
        if not self._healed or isinstance(fault, HangUp):
            self._hurt(fault)

    def _hurt(self, fault: Fault) -> None:
        if self._world.observer is not None:
            self._world.observer.coverage.count(FAULTS, type(fault).__name__, "begun")
        match fault:
            case HangUp(index=index):
                self._world.hang_up(RequestId(f"r{index}"))
            case MessageTrouble() | Cut() | CutPair() | SlowLink() | CopyTrouble():
                self._hurt_wires(fault)
            case Migrate() | Drain() | SwitchRole():
                self._ask(fault)
            case StageFault():
                assert self._ambush is not None, "stage faults need an observer"
                self._ambush.arm(fault)
            case LateLetter():
                assert self._letters is not None, "late letters need an observer"
                self._letters.arm(fault)
            case _:
                self._hurt_party(fault)

    def _hurt_party(
        self,
        fault: Crash
        | Freeze
        | HostTrouble
        | StuckTransport
        | ControllerRestart
        | GatewayCrash
        | FullMemory,
    ) -> None:
        world = self._world
        match fault:
            case Crash(worker_id=worker_id):
                world.kill_worker(worker_id, fault.noticed_ns)
                self._later(fault.down_ns, world.start_worker, worker_id)
            case Freeze():
                self._freeze(fault)
            case StuckTransport(worker_id=worker_id):
                self._stick(worker_id)
            case HostTrouble():
                self._spoil(fault)
            case ControllerRestart():
                world.kill_controller()
                self._later(fault.down_ns, world.start_controller, None)
            case GatewayCrash(gateway_id=gateway_id):
                world.kill_gateway(gateway_id, fault.noticed_ns)
                self._later(fault.down_ns, world.start_gateway, gateway_id)
            case FullMemory():
                self._fill(fault)

    def _hurt_wires(self, fault: MessageTrouble | Cut | CutPair | SlowLink | CopyTrouble) -> None:
        network, links = self._world.mail.network, self._world.links
        match fault:
            case MessageTrouble(trouble=trouble):
                network.trouble(trouble)
                self._later(fault.for_ns, network.ease, trouble)
            case Cut(party=party):
                network.cut(party)
                self._later(fault.for_ns, network.mend, party)
            case CutPair():
                self._cut_pair(fault)
            case SlowLink():
                links.slow(fault.worker_id, fault.factor)
                self._later(fault.for_ns, self._quicken, fault)
            case CopyTrouble():
                bad = LinkTrouble(
                    fail=fault.fail, damage=fault.damage, told_late_ns_max=fault.told_late_ns_max
                )
                links.trouble(bad)
                self._later(fault.for_ns, links.ease, bad)

    def _freeze(self, fault: Freeze) -> None:
        world = self._world
        party = world.mail.workers.get(fault.worker_id)
        if party is None:
            return
        world.freeze_worker(fault.worker_id)
        self._later(fault.for_ns, world.thaw_worker, party.key)
        if fault.killed_ns is not None:
            self._later(fault.for_ns + fault.killed_ns, self._kill_thawed, party.key)

    def _stick(self, worker_id: WorkerId) -> None:
        party = self._world.mail.workers.get(worker_id)
        if party is not None:
            party.shell.post(TransportStuck(reason="drawn"))

    def _spoil(self, fault: HostTrouble) -> None:
        party = self._world.mail.workers.get(fault.worker_id)
        if party is not None:
            party.host.fail = fault.fail
            self._later(fault.for_ns, self._mend_host, party.host)

    def _mend_host(self, host: HostMemory) -> None:
        host.fail = 0.0

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
                if request_id is None and fault.again_ns:  # it waits for one
                    self._later(fault.again_ns, self._begin, fault)
                    return
                request_id = request_id or RequestId("nobody")
                event = MigrateAsked(ask_id=ask_id, request_id=request_id, target=fault.target)
        self._world.ask_controller(event)

    def _some_request(self, pick: int) -> RequestId | None:
        streams = self._world.clients.streams.values()
        running = [stream.request_id for stream in streams if stream.tokens and not stream.ended]
        return running[pick % len(running)] if running else None

    def _quicken(self, fault: SlowLink) -> None:
        self._world.links.quicken(fault.worker_id, fault.factor)

    def _cut_pair(self, fault: CutPair) -> None:
        deaf = Trouble(
            loss=1.0, duplicate=0.0, delay_ns_max=0, source=fault.source, target=fault.target
        )
        self._world.mail.network.trouble(deaf)
        self._later(fault.for_ns, self._world.mail.network.ease, deaf)
        if fault.copies:
            lost = LinkTrouble(
                fail=1.0, source=WorkerId(fault.source), target=WorkerId(fault.target)
            )
            self._world.links.trouble(lost)
            self._later(fault.for_ns, self._world.links.ease, lost)

    def _fill(self, fault: FullMemory) -> None:
        party = self._world.mail.workers.get(fault.worker_id)
        if party is not None:
            seizure = Seizure(self._world.scheduler, party, fault.share, len(self._seizures))
            self._seizures.append(seizure)
            self._later(fault.for_ns, seizure.end, None)

    def _later(self, delay_ns: int, action: Callable[[Any], None], argument: Any) -> None:
        self._world.scheduler.at(self._world.scheduler.now_ns + delay_ns, action, argument)
