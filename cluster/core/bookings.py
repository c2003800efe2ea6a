"""What was placed on a worker and its views cannot show yet.

A booking ends when a view lists the request, when the request leaves, or after
`booking_ns_max`: from then on only views count.
"""

from dataclasses import dataclass

from ...proto.ids import RequestId, WorkerKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Booking:
    """What one request will take of one worker."""

    tokens: int  # to prefill
    prefills: int  # 1 if it will prefill there
    blocks: int
    streams: int  # 1 if it will decode there
    booked_ns: int


NOTHING = Booking(tokens=0, prefills=0, blocks=0, streams=0, booked_ns=0)


class Bookings:
    """Per worker, per request; with the sums kept beside them."""

    def __init__(self, booking_ns_max: int) -> None:
        self._booking_ns_max = booking_ns_max
        self._by_worker: dict[WorkerKey, dict[RequestId, Booking]] = {}
        self._sums: dict[WorkerKey, Booking] = {}

    def book(self, worker: WorkerKey, request_id: RequestId, booking: Booking) -> None:
        """One booking per worker and request; a second replaces it."""
        self.end(worker, request_id)
        self._by_worker.setdefault(worker, {})[request_id] = booking
        self._add(worker, booking, 1)

    def end(self, worker: WorkerKey, request_id: RequestId) -> None:
        """A view shows it, or it will not come; none is no error."""
        held = self._by_worker.get(worker)
        booking = None if held is None else held.pop(request_id, None)
        if booking is None:
            return
        self._add(worker, booking, -1)
        if not held:
            self.remove_worker(worker)

    def remove_worker(self, worker: WorkerKey) -> None:
        """Nothing will come there."""
        self._by_worker.pop(worker, None)
        self._sums.pop(worker, None)

    def sum_of(self, worker: WorkerKey) -> Booking:
        """All bookings of a worker together."""
        return self._sums.get(worker, NOTHING)

    def expire(self, now_ns: int) -> None:
        """End what no view has shown in time."""
        limit_ns = now_ns - self._booking_ns_max
        late = [
            (worker, request_id)
            for worker, held in self._by_worker.items()
            for request_id, booking in held.items()
            if booking.booked_ns <= limit_ns
        ]
        for worker, request_id in late:
            self.end(worker, request_id)

    def check(self) -> None:
        """Programmer's errors only: sums are sums."""
        assert self._sums.keys() == self._by_worker.keys()
        for worker, held in self._by_worker.items():
            total = self._sums[worker]
            assert total.tokens == sum(b.tokens for b in held.values()), worker
            assert total.prefills == sum(b.prefills for b in held.values()), worker
            assert total.blocks == sum(b.blocks for b in held.values()), worker
            assert total.streams == sum(b.streams for b in held.values()), worker

    def _add(self, worker: WorkerKey, booking: Booking, sign: int) -> None:
        before = self._sums.get(worker, NOTHING)
        self._sums[worker] = Booking(
            tokens=before.tokens + sign * booking.tokens,
            prefills=before.prefills + sign * booking.prefills,
            blocks=before.blocks + sign * booking.blocks,
            streams=before.streams + sign * booking.streams,
            booked_ns=0,
        )
