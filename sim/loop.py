"""An asyncio event loop on virtual time: the live shell's code, without waiting.

`VirtualLoop` jumps to the next call that is due instead of sleeping. Calls due
at one instant run in order of asking. Time is whole nanoseconds, so a timer set
through float seconds still fires at the nanosecond it was meant for.
"""

import asyncio
import selectors
from collections.abc import Callable
from heapq import heappush
from typing import Any

from .clock import NS_PER_S, Action


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop whose clock stands still while anything is ready."""

    def __init__(self) -> None:
        self.now_ns = 0
        self._tickets = 0
        super().__init__(_Jump(self))
        self._clock_resolution = 0.5 / NS_PER_S  # less than the step of the clock

    def time(self) -> float:
        """Virtual seconds."""
        return self.now_ns / NS_PER_S

    def call_at(  # type: ignore[override]  # typeshed ties args to the callback's own
        self, when: float, callback: Callable[..., Any], *args: Any, context: Any = None
    ) -> asyncio.TimerHandle:
        """As asyncio's, on whole nanoseconds and with ties in order of asking."""
        self._tickets += 1
        at_ns = max(self.now_ns, round(when * NS_PER_S))
        when_s = at_ns / NS_PER_S
        handle = _Ticketed(self._tickets, when_s, callback, args, self, context)
        return self._schedule(handle)

    def jump(self, delay_s: float | None) -> None:
        """Move the clock on by what the loop would have slept."""
        if delay_s:
            self.now_ns = max(self.now_ns, round((self.time() + delay_s) * NS_PER_S))

    def _schedule(self, handle: asyncio.TimerHandle) -> asyncio.TimerHandle:
        heappush(self._scheduled, handle)  # type: ignore[attr-defined]
        handle._scheduled = True  # type: ignore[attr-defined]  # noqa: SLF001
        return handle


class LoopScheduler:
    """A `Scheduler` on a virtual loop."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop

    @property
    def now_ns(self) -> int:
        return self._loop.now_ns

    def at(self, at_ns: int, action: Action, argument: Any) -> None:
        """Run `action(argument)` at `at_ns`, or now if that is past."""
        self._loop.call_at(at_ns / NS_PER_S, action, argument)


class _Ticketed(asyncio.TimerHandle):
    """A timer with a place among its equals."""

    __slots__ = ("ticket",)

    def __init__(
        self, ticket: int, when: float, callback: Any, args: Any, loop: Any, context: Any
    ) -> None:
        super().__init__(when, callback, args, loop, context)
        self.ticket = ticket

    def __lt__(self, other: Any) -> bool:
        return (self.when(), self.ticket) < (other.when(), other.ticket)


class _Jump(selectors.SelectSelector):
    """Never sleeps: tells the loop to move its clock instead."""

    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[Any]:
        ready = super().select(0)
        if not ready:
            self._loop.jump(timeout)
        return ready
