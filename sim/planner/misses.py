"""Counts the requests of a run that have missed the SLO, or must, while it goes on."""

from ..clients import Stream
from ..clock import to_ns
from ..results.table import Table
from ..world import World
from .slo import Slo


class Misses:
    """Of one world: what has ended counts by its record, what is open by what is certain."""

    def __init__(self, world: World, slo: Slo) -> None:
        self._clients, self._slo = world.clients, slo
        self._ttft_ns, self._tpot_ns = to_ns(slo.ttft_s), to_ns(slo.tpot_s)

    def count(self, now_ns: int) -> int:
        """How many there are by now."""
        table = Table(self._clients.records)
        within = table.meets(self._slo.ttft_s, self._slo.tpot_s)
        streams = self._clients.streams.values()
        late = sum(self._must_miss(stream, now_ns) for stream in streams if not stream.ended)
        return len(within) - int(within.sum()) + late

    def _must_miss(self, stream: Stream, now_ns: int) -> bool:
        if stream.first_ns is None:
            return now_ns - stream.asked_ns > self._ttft_ns
        late = stream.first_ns - stream.asked_ns > self._ttft_ns
        return late or now_ns - stream.first_ns > self._tpot_ns * (stream.max_tokens - 1)
