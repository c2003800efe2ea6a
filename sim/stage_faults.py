"""Faults that wait for a move to come to a stage, and strike then.

Armed at a time, each takes the next move of which a side comes to its half, and
hurts that side or the other, at once or a little later.
"""

from collections.abc import Callable
from typing import Any

from ..proto.ids import WorkerKey
from ..proto.move import MoveOrder
from ..proto.worker_events import StreamAcked
from .clock import Action
from .concerns import concerned
from .faults import (
    ControllerRestart,
    Crash,
    CutPair,
    Deed,
    Fault,
    Freeze,
    FullMemory,
    GatewayCrash,
    HangUp,
    StageFault,
)
from .late_letters import is_for_worker
from .observer import HalfChanged, Observer
from .world import World

Hurt = Callable[[Any], None]


class Ambush:
    """Every armed stage fault of a world."""

    def __init__(self, world: World, observer: Observer, hurt: Hurt) -> None:
        self._world = world
        self._hurt = hurt
        self._armed: list[StageFault] = []
        world.mail.network.remember()
        observer.listeners.append(self._changed)

    def arm(self, fault: StageFault) -> None:
        """From now on it waits for its stage."""
        self._armed.append(fault)

    def disarm(self) -> None:
        """Nothing waits any more."""
        self._armed.clear()

    def _changed(self, change: HalfChanged) -> None:
        for fault in self._armed:
            if fault.half is change.half:
                self._armed.remove(fault)
                at_ns = self._world.scheduler.now_ns + fault.delay_ns
                # Later even if at once: the effects of this step come first.
                self._world.scheduler.at(at_ns, self._strike, (fault, change))
                return

    def _strike(self, what: tuple[StageFault, HalfChanged]) -> None:
        fault, change = what
        order = change.order
        peer = order.target if change.worker == order.source else order.source
        victim, other = (peer, change.worker) if fault.peer else (change.worker, peer)
        if fault.deed is Deed.ECHO:
            self._echo(victim, order, fault.pick)
        elif fault.deed is Deed.STRAY_ACK:
            self._stray_ack(victim, order)
        else:
            self._hurt(self._deed(fault, victim, other, change))

    def _echo(self, victim: WorkerKey, order: MoveOrder, pick: int) -> None:
        """A letter to it comes again, now: of those about the move, each kind as likely."""
        party = self._world.mail.living(victim)
        if party is None:
            return
        halves = party.core.halves()
        past: dict[str, list[tuple[Action, Any]]] = {}
        for deliver, message in self._world.mail.network.past(victim.worker_id):
            if is_for_worker(message) and message[0] == victim:
                for move_id, row in concerned(message[1], halves):
                    if move_id == order.move_id:
                        past.setdefault(row, []).append((deliver, message))
        if past:
            letters = list(past.values())[pick % len(past)]
            deliver, message = letters[pick // len(past) % len(letters)]
            self._world.scheduler.at(self._world.scheduler.now_ns, deliver, message)

    def _stray_ack(self, victim: WorkerKey, order: MoveOrder) -> None:
        """What a gateway answers to a late word about a stream that goes on elsewhere.

        It is heard at once, so only gateways that the request does not go to may send it.
        """
        half = self._world.mail.living(victim)
        listeners = [one.gateway_id for one in half.core.halves().values()] if half else []
        for gateway_id in self._world.gateway_ids:
            if listeners and gateway_id not in listeners:
                event = StreamAcked(request_id=order.request_id, gateway_id=gateway_id)
                self._world.mail.to_worker(gateway_id, victim, event)
                return

    def _deed(
        self, fault: StageFault, victim: WorkerKey, other: WorkerKey, change: HalfChanged
    ) -> Fault:
        now_ns = self._world.scheduler.now_ns
        match fault.deed:
            case Deed.CRASH:
                return Crash(
                    at_ns=now_ns, worker_id=victim.worker_id, noticed_ns=fault.noticed_ns,
                    down_ns=fault.for_ns,
                )  # fmt: skip
            case Deed.FREEZE:
                return Freeze(
                    at_ns=now_ns, worker_id=victim.worker_id, for_ns=fault.for_ns, killed_ns=None
                )
            case Deed.CUT:
                return CutPair(
                    at_ns=now_ns, for_ns=fault.for_ns, source=victim.worker_id,
                    target=other.worker_id, copies=True,
                )  # fmt: skip
            case Deed.HANG_UP:
                index = int(change.order.request_id.removeprefix("r"))
                return HangUp(at_ns=now_ns, index=index)
            case Deed.GATEWAY:
                stream = self._world.clients.streams[change.order.request_id]
                return GatewayCrash(
                    at_ns=now_ns, gateway_id=stream.gateway_id, noticed_ns=fault.noticed_ns,
                    down_ns=fault.for_ns,
                )  # fmt: skip
            case Deed.FILL:
                return FullMemory(
                    at_ns=now_ns, for_ns=fault.for_ns, worker_id=victim.worker_id, share=1.0
                )
            case Deed.CONTROLLER:
                return ControllerRestart(at_ns=now_ns, down_ns=fault.for_ns)
            case Deed.ECHO | Deed.STRAY_ACK:
                raise AssertionError(f"an {fault.deed} is a message, not a fault of a party")
