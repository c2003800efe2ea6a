"""Which worker has which prefix blocks, on its device or in its host memory.

A worker without host memory costs what it costs in one `PrefixIndex`. For the
others a second index holds what is in either memory, because a prefix may lie
partly in one and partly in the other.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ...proto.ids import PrefixHash, WorkerKey
from .prefix_index import PrefixIndex


@dataclass(frozen=True, slots=True)
class Hit:
    """Tokens of a prefix that a worker has: on its device, and behind those in host memory."""

    device_tokens: int = 0
    host_tokens: int = 0

    @property
    def tokens(self) -> int:
        return self.device_tokens + self.host_tokens


NO_HIT = Hit()


class TieredIndex:
    """Both tiers of all workers."""

    def __init__(self, *, block_tokens: int, hashes_max: int) -> None:
        """`hashes_max` bounds one worker's hashes in one tier."""
        self.device = PrefixIndex(block_tokens=block_tokens, hashes_max=hashes_max)
        self._either = PrefixIndex(block_tokens=block_tokens, hashes_max=2 * hashes_max)
        self._host: dict[WorkerKey, dict[PrefixHash, None]] = {}
        self._hashes_max = hashes_max

    def replace(
        self, worker: WorkerKey, cached: Iterable[PrefixHash], host_cached: Iterable[PrefixHash]
    ) -> None:
        """Exactly these blocks are there."""
        self.remove(worker)
        self.device.insert(worker, cached)
        self.host_inserted(worker, host_cached)

    def remove(self, worker: WorkerKey) -> None:
        """Nothing is there."""
        self.device.remove(worker)
        self._either.remove(worker)
        self._host.pop(worker, None)

    def evicted(self, worker: WorkerKey, hashes: Sequence[PrefixHash]) -> None:
        """These are on the device no more."""
        self.device.evict(worker, hashes)
        host = self._host.get(worker)
        if host is not None:
            self._either.evict(worker, [known for known in hashes if known not in host])

    def inserted(self, worker: WorkerKey, hashes: Sequence[PrefixHash]) -> None:
        """These are on the device now."""
        self.device.insert(worker, hashes)
        if worker in self._host:
            self._either.insert(worker, hashes)

    def host_evicted(self, worker: WorkerKey, hashes: Sequence[PrefixHash]) -> None:
        """These are in host memory no more."""
        host = self._host.get(worker, {})
        gone = [known for known in hashes if known in host]
        for known in gone:
            del host[known]
        self._either.evict(worker, [h for h in gone if not self.device.has(worker, h)])

    def host_inserted(self, worker: WorkerKey, hashes: Iterable[PrefixHash]) -> None:
        """These are in host memory now."""
        added = dict.fromkeys(hashes)
        if not added:
            return
        if worker not in self._host:
            self._host[worker] = {}
            self._either.insert(worker, self.device.hashes(worker))
        host = self._host[worker]
        host.update(added)
        self._either.insert(worker, added)
        if len(host) > self._hashes_max:
            self.host_evicted(worker, list(host)[: len(host) - self._hashes_max])

    def hits(self, hashes: Sequence[PrefixHash]) -> dict[WorkerKey, Hit]:
        """The hit of every worker that has at least the first block."""
        device = self.device.hits(hashes)
        found = {worker: Hit(tokens) for worker, tokens in device.items()}
        if self._host:
            for worker, tokens in self._either.hits(hashes).items():
                on_device = device.get(worker, 0)
                found[worker] = Hit(on_device, max(0, tokens - on_device))
        return found

    def check(self) -> None:
        """The second index is what the two tiers say. For tests: costs all hashes."""
        self.device.check()
        self._either.check()
        for worker, host in self._host.items():
            both = {*host, *self.device.hashes(worker)}
            assert both == set(self._either.hashes(worker)), worker
