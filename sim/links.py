"""KV copies over links: how long each takes, and what a bad link does to it.

A copy leaves through its source's port and arrives through its target's. A
port carries one copy at a time in each direction, first come first served (not
shared), at the lower of both ports' bandwidths; then comes the latency. So
copies from several sources to one target wait for each other, as they do at a
real network card, and a port that is slow holds up only what uses it.
"""

from dataclasses import dataclass
from enum import Enum
from random import Random

from ..proto.ids import WorkerId
from .clock import NS_PER_S

TIMEOUT_NS = 10 * NS_PER_S  # a copy that has not left by then fails, as transports do


class Fate(Enum):
    """What becomes of a copy."""

    ARRIVES = "arrives"
    FAILS = "fails"  # the source sees an error, nothing is written
    DAMAGED = "damaged"  # sent whole, found damaged at the target, nothing is written


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkSpec:
    """A worker's port: bytes/s one way, and ns from the last byte's leaving to its landing."""

    bytes_per_s: float
    latency_ns: int


@dataclass(frozen=True, slots=True)
class Passage:
    """When a copy has left its source, when it has landed, and how it fared."""

    sent_ns: int
    landed_ns: int
    fate: Fate


class Links:
    """All ports of a world."""

    def __init__(self, seed: int) -> None:
        self._random = Random(f"links {seed}")
        self._specs: dict[WorkerId, LinkSpec] = {}
        self._out_free_ns: dict[WorkerId, int] = {}
        self._in_free_ns: dict[WorkerId, int] = {}
        self._slowdown: dict[WorkerId, float] = {}
        self._fail = 0.0
        self._damage = 0.0

    def attach(self, worker_id: WorkerId, spec: LinkSpec) -> None:
        """A worker's port exists, and is idle."""
        self._specs[worker_id] = spec
        self._out_free_ns[worker_id] = 0
        self._in_free_ns[worker_id] = 0

    def slow(self, worker_id: WorkerId, factor: float) -> None:
        """From now on copies that use this port take `factor` times as long."""
        self._slowdown[worker_id] = factor

    def trouble(self, fail: float, damage: float) -> None:
        """From now on copies fail, or arrive damaged, with these probabilities."""
        self._fail, self._damage = fail, damage

    def heal(self) -> None:
        """Every port is as at first; what is under way keeps its time."""
        self._slowdown.clear()
        self._fail = self._damage = 0.0

    def pass_ns(self, source: WorkerId, target: WorkerId, transfer_bytes: int) -> int:
        """Nanoseconds that `transfer_bytes` occupy both ports."""
        slowest = min(self._specs[source].bytes_per_s, self._specs[target].bytes_per_s)
        factor = max(self._slowdown.get(source, 1.0), self._slowdown.get(target, 1.0))
        return int(transfer_bytes * factor * NS_PER_S / slowest)

    def book(self, source: WorkerId, target: WorkerId, transfer_bytes: int, now_ns: int) -> Passage:
        """Put a copy in the queue of both ports, now."""
        start_ns = max(now_ns, self._out_free_ns[source], self._in_free_ns[target])
        sent_ns = start_ns + self.pass_ns(source, target, transfer_bytes)
        fate = self._draw_fate()
        if sent_ns > now_ns + TIMEOUT_NS:
            sent_ns, fate = now_ns + TIMEOUT_NS, Fate.FAILS
        self._out_free_ns[source] = self._in_free_ns[target] = sent_ns
        latency_ns = max(self._specs[source].latency_ns, self._specs[target].latency_ns)
        return Passage(sent_ns, sent_ns + latency_ns, fate)

    def _draw_fate(self) -> Fate:
        if not (self._fail or self._damage):
            return Fate.ARRIVES
        draw = self._random.random()
        if draw < self._fail:
            return Fate.FAILS
        return Fate.DAMAGED if draw < self._fail + self._damage else Fate.ARRIVES
