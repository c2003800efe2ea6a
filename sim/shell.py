"""Feeds one core with events on the event queue, and keeps its timers.

A frozen shell steps nothing: whatever comes is kept in order and taken at the
thaw, timers included. That is what a stopped process looks like from outside.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

from ..proto.timers import ClearTimer, SetTimer, TimerFired, TimerKey
from .clock import Action
from .local_clock import TRUE, LocalClock
from .queue import EventQueue

Step = Callable[[Any, int], Sequence[Any]]
Due = tuple[int, int]  # time and ticket
Perform = Callable[[Any], None]
# Told of every step, before its effects are performed: (now_ns, event, effects).
Watch = Callable[[int, Any, Sequence[Any]], None]


class Shell(Protocol):
    """What a party needs of the thing that steps its core."""

    @property
    def now_ns(self) -> int:
        """Now, by the party's own clock."""

    def post(self, event: Any) -> None:
        """One step: the event in, its effects performed."""

    def close(self) -> None:
        """No further step, no further timer."""


class Ahead(Protocol):
    """Something that runs ahead of a core, and lets it catch up before each step."""

    def heed(self, event: Any) -> None:
        """Before a step: the core is as of now, if `event` asks for that."""

    def go_on(self) -> None:
        """After a step: what it has changed."""


class QueueShell:
    """A `Shell` on the event queue."""

    __slots__ = (
        "_clock",
        "_closed",
        "_frozen",
        "_mail",
        "_perform",
        "_queue",
        "_step",
        "_timers",
        "_watch",
        "ahead",
    )

    def __init__(
        self, queue: EventQueue, step: Step, perform: Perform, watch: Watch | None
    ) -> None:
        self._queue = queue
        self._clock = TRUE
        self._step = step
        self._perform = perform
        self._watch = watch
        self.ahead: Ahead | None = None
        self._closed = False
        self._frozen = False
        self._mail: list[tuple[Action, Any]] = []
        # Per key: when it is due, and when its entry in the queue comes up.
        self._timers: dict[TimerKey, tuple[Due, Due]] = {}

    def post(self, event: Any) -> None:
        """One step: the event in, its effects performed; kept for later while frozen."""
        if self._closed:
            return
        if self._frozen:
            self._mail.append((self.post, event))
            return
        if self.ahead is not None:
            self.ahead.heed(event)
        now_ns = self.now_ns
        effects = self._step(event, now_ns)
        if self._watch is not None:
            self._watch(now_ns, event, effects)
        self.perform(effects)
        if self.ahead is not None:
            self.ahead.go_on()

    def perform(self, effects: Iterable[Any]) -> None:
        """What a step has ordered."""
        for effect in effects:
            kind = type(effect)
            if kind is SetTimer:
                self._set(effect.key, effect.at_ns)
            elif kind is ClearTimer:
                self._timers.pop(effect.key, None)
            else:
                self._perform(effect)

    @property
    def now_ns(self) -> int:
        """Now, by the party's own clock."""
        return self._clock.local(self._queue.now_ns)

    def set_clock(self, clock: LocalClock) -> None:
        """The party's machine has this clock. Before the first step."""
        self._clock = clock

    @property
    def timers(self) -> list[TimerKey]:
        """What is set now."""
        return list(self._timers)

    def close(self) -> None:
        """No further step, no further timer: the process is gone."""
        self._closed = True
        self._mail.clear()
        self._timers.clear()

    def freeze(self) -> None:
        """Take no step until `thaw`."""
        self._frozen = True

    def thaw(self) -> None:
        """Take what came meanwhile, in order."""
        self._frozen = False
        mail, self._mail = self._mail, []
        for action, argument in mail:
            action(argument)

    def run(self, action: Action, argument: Any) -> None:
        """Do something the process does itself: at the thaw if frozen, never if closed."""
        if self._closed:
            return
        if self._frozen:
            self._mail.append((action, argument))
        else:
            action(argument)

    def _set(self, key: TimerKey, at_ns: int) -> None:
        # A timer moved later keeps its old entry, which moves on when it comes up:
        # a timer that is pushed back with every token costs no entry each.
        due = (self._clock.true(at_ns), self._queue.ticket())
        known = self._timers.get(key)
        if known is not None and known[1] <= due:
            self._timers[key] = (due, known[1])
        else:
            self._push(key, due)

    def _push(self, key: TimerKey, due: Due) -> None:
        self._timers[key] = (due, due)
        self._queue.at_ticket(due[0], due[1], self._come, (key, due))

    def _come(self, entry: tuple[TimerKey, Due]) -> None:
        key, entry_due = entry
        known = self._timers.get(key)
        if known is None or known[1] != entry_due:
            return  # cleared, or set anew with an entry of its own
        if known[0] != entry_due:
            self._push(key, known[0])
        elif self._frozen:
            self._mail.append((self._come, entry))
        else:
            del self._timers[key]
            self.post(TimerFired(key))
