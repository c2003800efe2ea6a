"""Feeds one core with events on one event loop, and keeps its timers.

All steps of a core happen on the loop's thread. `post` may be called there
only; other threads use `post_threadsafe`. Effects other than timers go to
`perform`, which must not block.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from ...proto.timers import ClearTimer, SetTimer, TimerFired, TimerKey

Step = Callable[[Any, int], Sequence[Any]]


class Recorder(Protocol):
    """Keeps what went into a core and what came out, for replay."""

    def record(self, now_ns: int, event: Any, effects: Sequence[Any]) -> None: ...


class CoreShell:
    """One core's life in real time."""

    def __init__(
        self, step: Step, perform: Callable[[Any], None], recorder: Recorder | None = None
    ) -> None:
        self._step = step
        self._perform = perform
        self._recorder = recorder
        self._loop = asyncio.get_running_loop()
        self._timers: dict[TimerKey, asyncio.TimerHandle] = {}
        self._closed = False

    def post(self, event: Any) -> None:
        """One step: the event in, its effects performed."""
        if self._closed:
            return
        now_ns = time.monotonic_ns()
        effects = self._step(event, now_ns)
        if self._recorder is not None:
            self._recorder.record(now_ns, event, effects)
        for effect in effects:
            match effect:
                case SetTimer(key=key, at_ns=at_ns):
                    self._set(key, (at_ns - now_ns) / 1e9)
                case ClearTimer(key=key):
                    self._clear(key)
                case _:
                    self._perform(effect)

    def post_threadsafe(self, event: Any) -> None:
        """As `post`, from any thread; dropped once the loop is closed."""
        if not self._closed and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self.post, event)

    def close(self) -> None:
        """No further step, no further timer."""
        self._closed = True
        for handle in self._timers.values():
            handle.cancel()
        self._timers.clear()

    def _set(self, key: TimerKey, delay_s: float) -> None:
        self._clear(key)
        self._timers[key] = self._loop.call_later(max(0.0, delay_s), self._fire, key)

    def _clear(self, key: TimerKey) -> None:
        handle = self._timers.pop(key, None)
        if handle is not None:
            handle.cancel()

    def _fire(self, key: TimerKey) -> None:
        self._timers.pop(key, None)
        self.post(TimerFired(key))
