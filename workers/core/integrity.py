"""An idle worker goes over its own books.

free + held + cached + leased + quarantined = total, every reference has its holder and
every lent block its move. While idle nothing waits for this, so it may be thorough.
Memory whose owner is in doubt must not be given to a request: a life whose books are
wrong ends, and its next one begins with empty ones.
"""

from collections.abc import Callable


class Integrity:
    """Asks for the `problem` at most once per `period_ns`."""

    def __init__(self, problem: Callable[[], str], period_ns: int) -> None:
        self._problem = problem
        self._period_ns = period_ns
        self._checked_ns: int | None = None

    def violation(self, now_ns: int) -> str:
        """What is wrong; empty if nothing is, or if it was looked at lately."""
        checked_ns = self._checked_ns
        if checked_ns is not None and now_ns - checked_ns < self._period_ns:
            return ""
        self._checked_ns = now_ns
        return self._problem()
