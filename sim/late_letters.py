"""Letters that come only when their move has gone on.

What could arrive anywhere in a move does, also where chance alone would hardly ever
bring it: a letter is kept until halves that it is about, at the worker it goes to,
have changed a few times.
"""

from dataclasses import dataclass
from typing import Any

from ..proto.ids import WorkerKey
from .clock import Action
from .concerns import concerned
from .faults import LateLetter
from .observer import HalfChanged, Observer
from .world import World


@dataclass(slots=True, eq=False)
class _Kept:
    """One letter that is to come."""

    deliver: Action
    key: WorkerKey
    event: Any
    changes: int  # to come before it


class LateLetters:
    """Every armed fault of a world, and what it keeps."""

    def __init__(self, world: World, observer: Observer) -> None:
        self._world = world
        self._armed: dict[LateLetter, int] = {}  # and how many letters it has yet to keep
        self._kept: list[_Kept] = []
        world.mail.network.catch = self._catch
        observer.listeners.append(self._changed)

    def arm(self, fault: LateLetter) -> None:
        """From now on it waits for its letters."""
        self._armed[fault] = fault.letters

    def disarm(self) -> None:
        """No letter is kept any more: all come now."""
        self._armed.clear()
        for letter in list(self._kept):
            self._release(letter)

    def _catch(self, deliver: Action, message: Any) -> bool:
        """Whether the letter is kept from its receiver for now."""
        if not (self._armed and is_for_worker(message)):
            return False
        key, event = message
        kind = type(event).__name__
        fault = next((one for one in self._armed if one.kind == kind), None)
        if fault is None:
            return False
        self._armed[fault] -= 1
        if not self._armed[fault]:
            del self._armed[fault]
        letter = _Kept(deliver, key, event, fault.changes)
        self._kept.append(letter)
        scheduler = self._world.scheduler
        scheduler.at(scheduler.now_ns + fault.for_ns, self._release, letter)
        return True

    def _changed(self, change: HalfChanged) -> None:
        for letter in [one for one in self._kept if _is_about(one, change)]:
            letter.changes -= 1
            if letter.changes <= 0:
                self._release(letter)

    def _release(self, letter: _Kept) -> None:
        if letter in self._kept:
            self._kept.remove(letter)
            # Later even if at once: the effects of this step come first.
            scheduler = self._world.scheduler
            scheduler.at(scheduler.now_ns, letter.deliver, (letter.key, letter.event))


def is_for_worker(message: Any) -> bool:
    """Whether a message of the network goes to a worker: those travel with their address."""
    return isinstance(message, tuple) and isinstance(message[0], WorkerKey)


def _is_about(letter: _Kept, change: HalfChanged) -> bool:
    if change.worker != letter.key:
        return False
    move_id = change.order.move_id
    return any(move_id == one for one, _ in concerned(letter.event, change.halves))
