"""What is looked at while a run goes on: requests that have missed the SLO, or must, and memory."""

import numpy as np

from ..clients import Stream
from ..clock import NS_PER_S, to_ns
from ..results.records import UNKNOWN
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


class Memory:
    """The most KV blocks in use, of each pool: as a share of all."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._most = [0.0] * len(world.scenario.pools)

    def look(self) -> None:
        """Now."""
        for index, pool in enumerate(self._world.scenario.pools):
            total = used = 0
            for party in self._world.mail.workers.values():
                if party.info.pool == pool.name:
                    occupancy = party.core.occupancy
                    total += party.info.blocks_total
                    used += occupancy.blocks_used
            self._most[index] = max(self._most[index], used / total if total else 0.0)

    @property
    def most(self) -> tuple[float, ...]:
        """Of each pool, in the scenario's order."""
        return tuple(self._most)


def stages_s(table: Table, ttft_s: float) -> tuple[float, float, float]:
    """Of completed requests beyond the bound: mean seconds until placed, begun, computed."""
    names = ("asked_ns", "placed_ns", "began_ns", "computed_ns", "first_ns")
    points = np.stack([table.of(name) for name in names])[:, table.done]
    late = (points[4] - points[0] > ttft_s * NS_PER_S) & (points > UNKNOWN).all(axis=0)
    if not late.any():
        return 0.0, 0.0, 0.0
    placing, queueing, computing, _ = np.diff(points[:, late], axis=0).mean(axis=1) / NS_PER_S
    return float(placing), float(queueing), float(computing)
