"""Timers are effects: a core asks for one and gets exactly one `TimerFired`."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class TimerKey:
    """Names a timer within one core. Setting the same key again moves it."""

    kind: str
    subject: str = ""


@dataclass(frozen=True, slots=True)
class SetTimer:
    """Order: deliver `TimerFired(key)` at `at_ns`, unless set anew or cleared."""

    key: TimerKey
    at_ns: int


@dataclass(frozen=True, slots=True)
class ClearTimer:
    """Order: forget the timer `key`; none by that name is no error."""

    key: TimerKey


@dataclass(frozen=True, slots=True)
class TimerFired:
    """Fact: the time of `key` has come."""

    key: TimerKey
