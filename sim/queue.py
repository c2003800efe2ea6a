"""The event queue: a heap of actions, and the virtual clock that follows it.

Entries are ordered by (time, ticket). A ticket is drawn when an entry is asked
for, so equal times run in order of asking and two runs are the same run.
"""

from heapq import heappop, heappush
from typing import Any

from .clock import Action

Entry = tuple[int, int, Action, Any]


class EventQueue:
    """A `Scheduler` that jumps to the next entry. `now_ns` never goes back."""

    __slots__ = ("_heap", "_tickets", "events", "now_ns")

    def __init__(self) -> None:
        self.now_ns = 0
        self.events = 0
        self._heap: list[Entry] = []
        self._tickets = 0

    def __len__(self) -> int:
        return len(self._heap)

    def at(self, at_ns: int, action: Action, argument: Any) -> None:
        """Run `action(argument)` at `at_ns`, or now if that is past."""
        self._tickets += 1
        now_ns = self.now_ns
        if at_ns < now_ns:
            at_ns = now_ns
        heappush(self._heap, (at_ns, self._tickets, action, argument))

    def ticket(self) -> int:
        """A place among entries of equal time, for an entry pushed later by `at_ticket`."""
        self._tickets += 1
        return self._tickets

    def at_ticket(self, at_ns: int, ticket: int, action: Action, argument: Any) -> None:
        """As `at`, in the place that `ticket` holds."""
        heappush(self._heap, (max(at_ns, self.now_ns), ticket, action, argument))

    def run_until(self, end_ns: int) -> None:
        """Run every entry due up to and including `end_ns`; the clock ends there."""
        heap = self._heap
        while heap and heap[0][0] <= end_ns:
            at_ns, _, action, argument = heappop(heap)
            self.now_ns = at_ns
            self.events += 1
            action(argument)
        self.now_ns = max(self.now_ns, end_ns)
