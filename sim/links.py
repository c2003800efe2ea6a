"""KV copies over links: how long each takes, and what a bad link does to it.

A copy leaves through its source's port and arrives through its target's. Copies of one
pair go one after the other, as over one connection; the pairs that use a port share its
bandwidth, max-min fair (`fair_share.py`), and a port that is slow holds up only what uses
it. After the last byte comes the latency. Two workers of one node whose pools name an
NVLink copy over that, beside their network cards.

    send      a pair that was idle joins its two ports: those that share with it slow down
    last byte its next copy goes on at the same rate; with none the pair leaves, and
              those that shared with it speed up

A pair alone on its ports is scheduled once per copy; only those that share are looked at
when one comes or goes.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from random import Random
from typing import Any

from ..proto.ids import WorkerId
from .clock import NS_PER_S, Scheduler
from .fair_share import fair_rates

TIMEOUT_NS = 10 * NS_PER_S  # a copy that has not left by then fails, as transports do


class Fate(Enum):
    """What becomes of a copy."""

    ARRIVES = "arrives"
    FAILS = "fails"  # the source sees an error, nothing is written
    DAMAGED = "damaged"  # sent whole, found damaged at the target, nothing is written


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkSpec:
    """A worker's port: bytes/s one way, and ns from the last byte's leaving to its landing.

    `local_*`: the same to workers of the same `node`, where both name one.
    """

    bytes_per_s: float
    latency_ns: int
    node: str = ""
    local_bytes_per_s: float | None = None
    local_latency_ns: int = 0


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


Ended = Callable[[tuple[Any, Passage]], None]


@dataclass(frozen=True, slots=True)
class _Sending:
    """A copy in its pair's queue."""

    transfer_bytes: int
    fate: Fate
    told_late_ns: int
    deadline_ns: int
    ended: Ended
    argument: Any


@dataclass(slots=True, eq=False)
class _Port:
    """One direction of one worker, of its network card or of its NVLink."""

    bytes_per_s: float
    factor: float = 1.0
    pairs: list["_Pair"] = field(default_factory=list)  # those that send, in order of coming

    @property
    def capacity(self) -> float:
        return self.bytes_per_s / self.factor


@dataclass(slots=True, eq=False)
class _Pair:
    """Copies from one worker to another. `left_bytes` of the first, as of `since_ns`."""

    ports: tuple[_Port, _Port]
    latency_ns: int
    queue: deque[_Sending] = field(default_factory=deque)
    left_bytes: float = 0.0
    rate: float = 0.0
    since_ns: int = 0
    due_ns: int = 0  # when it is looked at
    look: int = 0  # the number of that look: earlier ones are void

    def left_ns(self) -> int:
        """When the first copy has left, at this rate."""
        return self.since_ns + int(self.left_bytes * NS_PER_S / self.rate)

    def end_ns(self) -> int:
        """When it has left, or has had its time."""
        return min(self.left_ns(), self.queue[0].deadline_ns)

    def settle(self, now_ns: int) -> None:
        """What has left by now."""
        gone = self.rate * (now_ns - self.since_ns) / NS_PER_S
        self.left_bytes = max(0.0, self.left_bytes - gone)
        self.since_ns = now_ns


class Links:
    """All ports of a world."""

    def __init__(self, seed: int, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._random = Random(f"links {seed}")
        self._specs: dict[WorkerId, LinkSpec] = {}
        self._ports: dict[WorkerId, list[_Port]] = {}  # out, in, local out, local in
        self._pairs: dict[tuple[WorkerId, WorkerId], _Pair] = {}
        # Overlapping ones are all in force: the slowest counts, and each trouble draws.
        self._slowdowns: dict[WorkerId, list[float]] = {}
        self._troubles: list[LinkTrouble] = []

    def attach(self, worker_id: WorkerId, spec: LinkSpec) -> None:
        """A worker's port exists, and is idle."""
        self._specs[worker_id] = spec
        local = spec.local_bytes_per_s or spec.bytes_per_s
        speeds = (spec.bytes_per_s, spec.bytes_per_s, local, local)
        self._ports[worker_id] = [_Port(speed) for speed in speeds]

    def slow(self, worker_id: WorkerId, factor: float) -> None:
        """From now on this port has 1 / `factor` of its bandwidth."""
        self._slowdowns.setdefault(worker_id, []).append(factor)
        self._refit(worker_id)

    def quicken(self, worker_id: WorkerId, factor: float) -> None:
        """End one such slowness; none is no error."""
        factors = self._slowdowns.get(worker_id, [])
        if factor in factors:
            factors.remove(factor)
            self._refit(worker_id)

    def trouble(self, trouble: LinkTrouble) -> None:
        """Begin a trouble."""
        self._troubles.append(trouble)

    def ease(self, trouble: LinkTrouble) -> None:
        """End a trouble; one that has ended is no error."""
        if trouble in self._troubles:
            self._troubles.remove(trouble)

    def heal(self) -> None:
        """Every port is as at first; copies under way keep their fate."""
        slowed = list(self._slowdowns)
        self._slowdowns.clear()
        self._troubles.clear()
        for worker_id in slowed:
            self._refit(worker_id)

    def pass_ns(self, source: WorkerId, target: WorkerId, transfer_bytes: int) -> int:
        """Nanoseconds of a copy that shares its ports with nobody, as they are now."""
        flow = self._pairs.get((source, target)) or self._open((source, target))
        return int(transfer_bytes * NS_PER_S / min(port.capacity for port in flow.ports))

    def send(
        self, pair: tuple[WorkerId, WorkerId], transfer_bytes: int, ended: Ended, argument: Any
    ) -> None:
        """A copy from `pair[0]` to `pair[1]`: `ended((argument, passage))` as its last byte leaves.

        Or as it fails; or when it has not left within TIMEOUT_NS.
        """
        now_ns = self._scheduler.now_ns
        fate, told_late_ns = self._draw_fate(*pair)
        flow = self._pairs.get(pair) or self._open(pair)
        deadline_ns = now_ns + TIMEOUT_NS
        flow.queue.append(
            _Sending(transfer_bytes, fate, told_late_ns, deadline_ns, ended, argument)
        )
        if len(flow.queue) > 1:
            return
        flow.left_bytes, flow.since_ns, flow.due_ns = float(transfer_bytes), now_ns, 0
        for port in flow.ports:
            port.pairs.append(flow)
        self._share(flow.ports)

    def _open(self, pair: tuple[WorkerId, WorkerId]) -> _Pair:
        source, target = (self._specs[worker_id] for worker_id in pair)
        both = (source, target)
        local = source.node == target.node != "" and all(spec.local_bytes_per_s for spec in both)
        first, latencies = 0, [spec.latency_ns for spec in both]
        if local:
            first, latencies = 2, [spec.local_latency_ns for spec in both]
        ports = (self._ports[pair[0]][first], self._ports[pair[1]][first + 1])
        self._pairs[pair] = flow = _Pair(ports, max(latencies))
        return flow

    def _refit(self, worker_id: WorkerId) -> None:
        ports = self._ports.get(worker_id, [])
        for port in ports:
            port.factor = max([1.0, *self._slowdowns.get(worker_id, ())])
        self._share(ports)

    def _share(self, ports: "tuple[_Port, ...] | list[_Port]") -> None:
        """New rates for all that share with those who use these ports."""
        if all(len(port.pairs) < 2 for port in ports):
            for pair in dict.fromkeys(pair for port in ports for pair in port.pairs):
                if all(len(port.pairs) == 1 for port in pair.ports):
                    self._go(pair, min(port.capacity for port in pair.ports))
                    continue
                self._share_all(pair.ports)
            return
        self._share_all(ports)

    def _share_all(self, ports: "tuple[_Port, ...] | list[_Port]") -> None:
        touched = dict.fromkeys(ports)
        pairs: dict[_Pair, None] = {}
        waiting = list(touched)
        while waiting:
            for pair in waiting.pop().pairs:
                if pair not in pairs:
                    pairs[pair] = None
                    waiting += [port for port in pair.ports if port not in touched]
                    touched.update(dict.fromkeys(pair.ports))
        rates = fair_rates(
            [pair.ports for pair in pairs], {port: port.capacity for port in touched}
        )
        for pair, rate in zip(pairs, rates, strict=True):
            self._go(pair, rate)

    def _go(self, pair: _Pair, rate: float) -> None:
        """From now on at this rate. A look that would come too early is left: it looks again."""
        pair.settle(self._scheduler.now_ns)
        pair.rate = rate
        end_ns = pair.end_ns()
        if not pair.due_ns or end_ns < pair.due_ns:
            self._look_at(pair, end_ns)

    def _look_at(self, pair: _Pair, due_ns: int) -> None:
        pair.due_ns = due_ns
        pair.look += 1
        self._scheduler.at(due_ns, self._look, (pair, pair.look))

    def _look(self, what: tuple[_Pair, int]) -> None:
        pair, look = what
        if look != pair.look:
            return
        now_ns, end_ns = self._scheduler.now_ns, pair.end_ns()
        if now_ns < end_ns:
            self._look_at(pair, end_ns)
            return
        late = pair.left_ns() > now_ns
        sent = pair.queue.popleft()
        if pair.queue:
            pair.left_bytes, pair.since_ns = float(pair.queue[0].transfer_bytes), now_ns
            self._look_at(pair, pair.end_ns())
        else:
            self._leave(pair)
        fate = Fate.FAILS if late else sent.fate
        passage = Passage(now_ns, now_ns + sent.told_late_ns, now_ns + pair.latency_ns, fate)
        sent.ended((sent.argument, passage))

    def _leave(self, pair: _Pair) -> None:
        pair.due_ns = 0
        for port in pair.ports:
            port.pairs.remove(pair)
        self._share(pair.ports)

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
