"""A worker's core that can be told of many iterations at once.

The same state, the same rules. A shell asks `horizon` after each step; if it sees
some way ahead it need not step at every iteration's end, but says `pass_over` before
the next event, and `finish_at` at the horizon.
"""

from ...proto.batch import Batch
from ...proto.effects import WorkerEffect
from ...proto.views import WorkerInfo
from ...proto.worker_events import BlocksLanded, HandoverOffered, StreamAcked, WorkerEvent
from .core import Flight, WorkerCore
from .leap import Count, Horizon, Leap, Sample
from .limits import WorkerLimits
from .scheduler import Entry


class LeapingCore(WorkerCore):
    """`count` makes the order of a batch of decodes, which nobody looks into."""

    def __init__(self, info: WorkerInfo, limits: WorkerLimits, layers: int, count: Count) -> None:
        super().__init__(info, limits, layers)
        self._count = count
        self._leap = Leap(
            limits, info.context_tokens_max, self._holdings, self._scheduler, self._requests
        )

    def horizon(self) -> Horizon | None:
        """For how many iterations nothing is decided; None: any of them may decide anything."""
        moving = self._sources.moves or self._targets.delayed or self.info.host_blocks
        if self._flight is None or moving:
            return None
        return self._leap.horizon(self._flight.entries)

    def unnoticed(self, event: WorkerEvent) -> bool:
        """Whether the batch would go on just the same if the event came earlier or later."""
        if self._holdings.waiting:
            return False
        match event:
            case StreamAcked():
                return True  # what has finished here owns nothing
            case BlocksLanded() | HandoverOffered():
                return self._targets.wants_more(event)
            case _:
                return False

    def pass_over(self, ends_ns: list[int], sample: Sample) -> list[WorkerEffect]:
        """Iterations ended at `ends_ns` that decided nothing; the next one is in flight."""
        flight = self._jump(ends_ns, sample, flying=True)
        count = len(ends_ns)
        entries = [
            Entry(sequence, start + count, end + count, draws)
            for sequence, start, end, draws in flight.entries
        ]
        self._iterations += count
        self._flight = Flight(self._iterations, ends_ns[-1], flight.tokens, entries)
        self._leap.tell_first(entries, count)
        self._leap.flown(entries, count)
        return self._told()

    def finish_at(self, ends_ns: list[int], sample: Sample) -> list[WorkerEffect]:
        """Iterations ended at `ends_ns`, the last one now: what follows is planned."""
        now_ns = ends_ns[-1]
        flight = self._jump(ends_ns, sample, flying=False)
        self._iterations += len(ends_ns) - 1
        self._flight = None
        self._leap.settle(flight.entries, now_ns)
        self._leap.tell_first(flight.entries, len(ends_ns))
        self._sources.progress(now_ns)
        return self._follow(now_ns)

    def tell(self) -> list[WorkerEffect]:
        """What gateways were not told of the iterations passed over."""
        self._leap.tell()
        return self._told()

    def _jump(self, ends_ns: list[int], sample: Sample, *, flying: bool) -> Flight:
        flight = self._flight
        assert flight is not None, "nothing is in flight"
        started_ns = flight.started_ns
        for end_ns in ends_ns:
            self._speed.observe(flight.tokens, end_ns - started_ns)
            started_ns = end_ns
        self._leap.jump(flight.entries, len(ends_ns), sample, flying=flying)
        return flight

    def _batch(self, entries: list[Entry]) -> Batch:
        counted = self._count(self._iterations, entries)
        return super()._batch(entries) if counted is None else counted
