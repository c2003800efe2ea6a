"""Times copies of KV between two transports on this machine, and fits a link to them.

Both ends run in this process, each on threads of its own: two workers of one machine
do at least as well. Between machines, take what the network gives.
"""

import queue
import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from ....proto.ids import BlockId, Incarnation, MoveId, WorkerId, WorkerKey
from ....proto.move import Copy
from ..engine import Engine
from ..transport import CopyResult, Endpoint, ParcelHeader, Transport, cpu_ways, network_ways

HOST = "127.0.0.1"
WAIT_S = 30.0
BLOCK_COUNTS = (1, 4, 16, 64)
WAYS = {"memory": cpu_ways, "network": network_ways}


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A copy takes latency + bytes / bandwidth; `error`: median of |fit / measured - 1|."""

    way: str
    bytes_per_s: float
    latency_us: float
    error: float


class LinkError(Exception):
    """A copy did not arrive."""


def measure_links(engine: Engine, rounds: int) -> list[Link]:
    """Through memory that two workers of a machine share, and through its sockets."""
    return [_fitted(way, _times(engine, way, rounds)) for way in WAYS]


def _times(engine: Engine, way: str, rounds: int) -> dict[int, float]:
    """Microseconds by bytes of one copy of whole blocks; sizes in turns, medians."""
    pair = _Pair(engine, way)
    counts = [count for count in BLOCK_COUNTS if 2 * count <= engine.blocks]
    seen: dict[int, list[float]] = {count * engine.block_bytes: [] for count in counts}
    try:
        for number in range(rounds + 1):
            for count in counts:
                took_us = pair.copy(number, count)
                if number:  # the first round pairs and warms up
                    seen[count * engine.block_bytes].append(took_us)
    finally:
        pair.close()
    return {size: median(times) for size, times in seen.items()}


def _fitted(way: str, times_us: dict[int, float]) -> Link:
    """A line through the least and the largest copy, which are far apart."""
    least, largest = min(times_us), max(times_us)
    slope = max(1e-12, times_us[largest] - times_us[least]) / max(1, largest - least)
    if least == largest:
        slope = times_us[least] / least
    latency_us = max(0.0, times_us[least] - slope * least)
    errors = [abs((latency_us + slope * size) / took - 1) for size, took in times_us.items()]
    return Link(
        way=way, bytes_per_s=1e6 / slope, latency_us=latency_us, error=median(errors)
    )  # fmt: skip


class _Pair:
    """A source and a target over one cache: the lower blocks go to the upper ones."""

    def __init__(self, engine: Engine, way: str) -> None:
        self._engine = engine
        self._landed: queue.Queue[CopyResult] = queue.Queue()
        ways = WAYS[way](HOST)
        self._target = Transport(_key("target"), HOST, lambda *_: None, ways)
        self._source = Transport(_key("source"), HOST, self._announce, WAYS[way](HOST))

    def copy(self, number: int, count: int) -> float:
        """Microseconds from the order to the last byte's landing. Raises LinkError."""
        half = self._engine.blocks // 2
        copy = Copy(
            copy_id=f"profile/{number}/{count}",
            move_id=MoveId("profile"),
            lease=0,
            target=_key("target"),
            first_layer=0,
            last_layer=self._engine.spec.layers,
            source_blocks=tuple(BlockId(block) for block in range(count)),
            target_blocks=tuple(BlockId(half + block) for block in range(count)),
        )
        payload = self._engine.block_rows(0, copy.last_layer, copy.source_blocks)
        began_ns = time.perf_counter_ns()
        self._source.send(self._target.endpoint, copy, payload, lambda _: None)
        try:
            result = self._landed.get(timeout=WAIT_S)
        except queue.Empty:
            raise LinkError(f"a copy of {count} blocks did not land in {WAIT_S:g} s") from None
        if not result.ok:
            raise LinkError(f"a copy of {count} blocks failed: {result}")
        return (time.perf_counter_ns() - began_ns) / 1e3

    def close(self) -> None:
        self._source.close()
        self._target.close()

    def _announce(self, _: Endpoint, header: ParcelHeader, copies: Sequence[Copy]) -> None:
        landings = [
            self._engine.block_rows(copy.first_layer, copy.last_layer, copy.target_blocks)
            for copy in copies
        ]
        self._target.receive(header, landings, self._landed.put)


def _key(name: str) -> WorkerKey:
    return WorkerKey(WorkerId(name), Incarnation(1))
