"""Requests that wait for a worker: by arrival, those that come again first."""

from .requests import TrackedRequest


class AdmissionQueue:
    """First come, first served. A request that lost its worker waits before all new ones."""

    def __init__(self) -> None:
        self._again: dict[str, TrackedRequest] = {}
        self._fresh: dict[str, TrackedRequest] = {}

    def __len__(self) -> int:
        return len(self._again) + len(self._fresh)

    def __contains__(self, tracked: TrackedRequest) -> bool:
        return tracked.request_id in self._again or tracked.request_id in self._fresh

    def add(self, tracked: TrackedRequest) -> None:
        """The last of those that came for the first time."""
        self._fresh[tracked.request_id] = tracked

    def add_again(self, tracked: TrackedRequest) -> None:
        """The last of those that were placed before."""
        self._again[tracked.request_id] = tracked

    def remove(self, tracked: TrackedRequest) -> None:
        """It is placed, or gone; not being there is no error."""
        self._again.pop(tracked.request_id, None)
        self._fresh.pop(tracked.request_id, None)

    def head(self) -> TrackedRequest | None:
        """Who is next."""
        for line in (self._again, self._fresh):
            if line:
                return next(iter(line.values()))
        return None

    def overdue(self, before_ns: int) -> list[TrackedRequest]:
        """Those who have waited since `before_ns` or longer, oldest first in each line."""
        late = []
        for line in (self._again, self._fresh):
            for tracked in line.values():
                if tracked.since_ns > before_ns:
                    break
                late.append(tracked)
        return late
