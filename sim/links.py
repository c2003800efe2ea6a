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


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkTrouble:
    """What happens to copies for a while. Probabilities in [0, 1].

    `told_late_ns_max`: the source's process hears that late of a copy's leaving.
    With `source` and `target` only to copies from the one to the other.
    """

    fail: float = 0.0
    damage: float = 0.0
    told_late_ns_max: int = 0
    source: WorkerId | None = None
    target: WorkerId | None = None

    def meets(self, source: WorkerId, target: WorkerId) -> bool:
        """Whether such a copy is troubled."""
        return self.source in (None, source) and self.target in (None, target)


@dataclass(frozen=True, slots=True)
class Passage:
    """When a copy has left its source, when that is told, when it has landed, how it fared."""

    sent_ns: int
    told_ns: int
    landed_ns: int
    fate: Fate


class Links:
    """All ports of a world."""

    def __init__(self, seed: int) -> None:
        self._random = Random(f"links {seed}")
        self._specs: dict[WorkerId, LinkSpec] = {}
        self._out_free_ns: dict[WorkerId, int] = {}
        self._in_free_ns: dict[WorkerId, int] = {}
        # Overlapping ones are all in force: the slowest counts, and each trouble draws.
        self._slowdowns: dict[WorkerId, list[float]] = {}
        self._troubles: list[LinkTrouble] = []

    def attach(self, worker_id: WorkerId, spec: LinkSpec) -> None:
        """A worker's port exists, and is idle."""
        self._specs[worker_id] = spec
        self._out_free_ns[worker_id] = 0
        self._in_free_ns[worker_id] = 0

    def slow(self, worker_id: WorkerId, factor: float) -> None:
        """From now on copies that use this port take `factor` times as long."""
        self._slowdowns.setdefault(worker_id, []).append(factor)

    def quicken(self, worker_id: WorkerId, factor: float) -> None:
        """End one such slowness; none is no error."""
        factors = self._slowdowns.get(worker_id, [])
        if factor in factors:
            factors.remove(factor)

    def trouble(self, trouble: LinkTrouble) -> None:
        """Begin a trouble."""
        self._troubles.append(trouble)

    def ease(self, trouble: LinkTrouble) -> None:
        """End a trouble; one that has ended is no error."""
        if trouble in self._troubles:
            self._troubles.remove(trouble)

    def heal(self) -> None:
        """Every port is as at first; what is under way keeps its time."""
        self._slowdowns.clear()
        self._troubles.clear()

    def pass_ns(self, source: WorkerId, target: WorkerId, transfer_bytes: int) -> int:
        """Nanoseconds that `transfer_bytes` occupy both ports."""
        slowest = min(self._specs[source].bytes_per_s, self._specs[target].bytes_per_s)
        factor = max([1.0, *self._slowdowns.get(source, ()), *self._slowdowns.get(target, ())])
        return int(transfer_bytes * factor * NS_PER_S / slowest)

    def book(self, source: WorkerId, target: WorkerId, transfer_bytes: int, now_ns: int) -> Passage:
        """Put a copy in the queue of both ports, now."""
        start_ns = max(now_ns, self._out_free_ns[source], self._in_free_ns[target])
        sent_ns = start_ns + self.pass_ns(source, target, transfer_bytes)
        fate, told_late_ns = self._draw_fate(source, target)
        if sent_ns > now_ns + TIMEOUT_NS:
            sent_ns, fate = now_ns + TIMEOUT_NS, Fate.FAILS
        self._out_free_ns[source] = self._in_free_ns[target] = sent_ns
        latency_ns = max(self._specs[source].latency_ns, self._specs[target].latency_ns)
        return Passage(sent_ns, sent_ns + told_late_ns, sent_ns + latency_ns, fate)

    def _draw_fate(self, source: WorkerId, target: WorkerId) -> tuple[Fate, int]:
        """What becomes of a copy, and how late its source is told that it has left."""
        late_ns = 0
        for trouble in self._troubles:
            if not trouble.meets(source, target):
                continue
            draw = self._random.random()
            if draw < trouble.fail:
                return Fate.FAILS, 0
            if draw < trouble.fail + trouble.damage:
                return Fate.DAMAGED, 0
            late_ns += int(self._random.random() * trouble.told_late_ns_max)
        return Fate.ARRIVES, late_ns
