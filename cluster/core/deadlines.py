"""When each request must have ended: on the controller's own clock, from what was left.

A gateway ends its streams in time by itself. This is the second who looks: for
a gateway that is dead, and for what its cancel did not reach.
"""

import heapq

from ...proto.ids import RequestId

SPARE = 64


class Deadlines:
    """The earliest first. Each change adds an entry; those that do not count are skipped."""

    def __init__(self) -> None:
        self._by_id: dict[RequestId, int] = {}
        self._heap: list[tuple[int, RequestId]] = []

    def __len__(self) -> int:
        return len(self._by_id)

    def set(self, request_id: RequestId, at_ns: int | None) -> None:
        """The request must have ended then; None: whenever."""
        if at_ns is None:
            self._by_id.pop(request_id, None)
        elif self._by_id.get(request_id) != at_ns:
            self._by_id[request_id] = at_ns
            heapq.heappush(self._heap, (at_ns, request_id))
        if len(self._heap) > 2 * len(self._by_id) + SPARE:
            self._heap = sorted((at_ns, name) for name, at_ns in self._by_id.items())

    def due(self, now_ns: int) -> list[RequestId]:
        """Those whose time is over, the earliest first; they are forgotten here."""
        found = []
        while self._heap and self._heap[0][0] <= now_ns:
            at_ns, request_id = heapq.heappop(self._heap)
            if self._by_id.get(request_id) == at_ns:
                del self._by_id[request_id]
                found.append(request_id)
        return found
