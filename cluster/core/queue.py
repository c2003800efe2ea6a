"""Requests that wait for a worker: those that come again, then by class and arrival.

Strict order between classes would let a busy one starve the others. So waiting
counts: each `queue_age_ns` lifts a request by one class, and among equals the
one that came first is first. The lowest class thus waits at most two of them
behind what comes later.
"""

from collections import deque

from ...proto.requests import RequestClass
from .requests import TrackedRequest

CLASSES = tuple(RequestClass)  # the most urgent first
PLACED_MAX = 64  # placements that the drain rate is taken from


class AdmissionQueue:
    """A line for each class, and one before them. `age_ns` lifts a request by one class."""

    def __init__(self, age_ns: int) -> None:
        self._age_ns = age_ns
        self._again: dict[str, TrackedRequest] = {}
        self._lines: dict[RequestClass, dict[str, TrackedRequest]] = {c: {} for c in CLASSES}
        self._placed_ns: deque[int] = deque(maxlen=PLACED_MAX)

    def __len__(self) -> int:
        return len(self._again) + sum(len(line) for line in self._lines.values())

    def __contains__(self, tracked: TrackedRequest) -> bool:
        lines = (self._again, *self._lines.values())
        return any(tracked.request_id in line for line in lines)

    def waiting(self, request_class: RequestClass) -> int:
        """How many of that class wait, without those that come again."""
        return len(self._lines[request_class])

    def add(self, tracked: TrackedRequest) -> None:
        """The last of its class that came for the first time."""
        self._lines[tracked.request_class][tracked.request_id] = tracked

    def add_again(self, tracked: TrackedRequest) -> None:
        """The last of those that were placed before."""
        self._again[tracked.request_id] = tracked

    def remove(self, tracked: TrackedRequest) -> None:
        """It is placed, or gone; not being there is no error."""
        for line in (self._again, *self._lines.values()):
            line.pop(tracked.request_id, None)

    def head(self, now_ns: int) -> TrackedRequest | None:
        """Who is next."""
        if self._again:
            return next(iter(self._again.values()))
        heads = [next(iter(line.values())) for line in self._lines.values() if line]
        return min(heads, key=lambda head: self._rank(head, now_ns), default=None)

    def note_placed(self, now_ns: int) -> None:
        """One of them got a worker."""
        self._placed_ns.append(now_ns)

    def wait_ns(self, request_class: RequestClass, now_ns: int) -> int | None:
        """When a request of that class that came now would be placed, by the rate of late.

        None as long as nothing tells: fewer than two were placed.
        """
        if len(self._placed_ns) < 2:
            return None
        ahead = len(self._again) + sum(
            len(self._lines[c]) for c in CLASSES[: CLASSES.index(request_class) + 1]
        )
        took_ns = now_ns - self._placed_ns[0]
        return ahead * took_ns // (len(self._placed_ns) - 1)

    def overdue(self, before_ns: int) -> list[TrackedRequest]:
        """Those who have waited since `before_ns` or longer, oldest first in each line."""
        late = []
        for line in (self._again, *self._lines.values()):
            for tracked in line.values():
                if tracked.since_ns > before_ns:
                    break
                late.append(tracked)
        return late

    def _rank(self, tracked: TrackedRequest, now_ns: int) -> tuple[int, int, int]:
        own = CLASSES.index(tracked.request_class)
        lifted = max(0, own - (now_ns - tracked.since_ns) // self._age_ns)
        return lifted, tracked.since_ns, own
