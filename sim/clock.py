"""What the world needs of time: an instant, and a way to act at a later one.

Two kinds exist: the event queue (`queue.py`), which jumps from entry to entry,
and an asyncio loop on virtual time (`loop.py`). Both run what is due at one
instant in the order in which it was asked for, so both worlds are the same.
"""

from collections.abc import Callable
from typing import Any, Protocol

NS_PER_S = 1_000_000_000
NS_PER_US = 1_000

Action = Callable[[Any], None]


class Scheduler(Protocol):
    """Virtual time, ns since the world began."""

    @property
    def now_ns(self) -> int: ...

    def at(self, at_ns: int, action: Action, argument: Any) -> None:
        """Run `action(argument)` at `at_ns`, or now if that is past; ties in order of asking."""


def seconds(ns: int) -> float:
    """`ns` as float seconds, for the edges."""
    return ns / NS_PER_S


def to_ns(s: float) -> int:
    """`s` seconds as whole nanoseconds."""
    return round(s * NS_PER_S)
