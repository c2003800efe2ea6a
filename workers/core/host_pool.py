r"""Which prefix blocks lie in this worker's host memory.

    free --take--> filling --filled--> cached --hold--> held --release--> cached
                      \--unfilled--> free   \--evicted, forgotten--> free

free + filling + cached + held = total, always. A block is filling while a spill
writes it, held while restores read it: neither is given out again before the
copy's end is known.
"""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ...proto.ids import HostBlockId, PrefixHash
from .findable import Findable


class HostCounts(NamedTuple):
    """How many host blocks are in each state; they sum to the total."""

    free: int
    filling: int
    cached: int
    held: int


class HostPool:
    """Host blocks 0..total-1 by prefix hash, the least recently used evicted first."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.findable = Findable[HostBlockId]()
        self._free = [HostBlockId(block) for block in range(total - 1, -1, -1)]
        self._filling: dict[PrefixHash, HostBlockId] = {}
        self._cached: OrderedDict[HostBlockId, PrefixHash] = OrderedDict()
        self._held: dict[HostBlockId, tuple[PrefixHash, int]] = {}  # and how often

    @property
    def room(self) -> int:
        """Blocks that `take` could give out now, evictions included."""
        return len(self._free) + len(self._cached)

    @property
    def counts(self) -> HostCounts:
        return HostCounts(len(self._free), len(self._filling), len(self._cached), len(self._held))

    def __contains__(self, prefix_hash: PrefixHash) -> bool:
        """Whether it is here, or will be."""
        return prefix_hash in self._filling or self.find(prefix_hash) is not None

    def find(self, prefix_hash: PrefixHash) -> HostBlockId | None:
        """The block that can be read now."""
        return self.findable.get(prefix_hash)

    def touch(self, hashes: Iterable[PrefixHash]) -> int:
        """These are evicted after all others; how many of them could be."""
        found = [self.findable.get(prefix_hash) for prefix_hash in hashes]
        cached = [block for block in found if block is not None and block in self._cached]
        for block in cached:
            self._cached.move_to_end(block)
        return len(cached)

    def take(self, hashes: Sequence[PrefixHash]) -> tuple[HostBlockId, ...]:
        """A block for each of `hashes`, none of which is here; a spill fills them."""
        assert len(hashes) <= self.room, f"{len(hashes)} host blocks asked, room for {self.room}"
        for prefix_hash in hashes:
            assert prefix_hash not in self, f"{prefix_hash} is in host memory already"
            self._filling[prefix_hash] = self._free.pop() if self._free else self._evict()
        return tuple([self._filling[prefix_hash] for prefix_hash in hashes])

    def filled(self, hashes: Iterable[PrefixHash]) -> None:
        """A spill has ended: its blocks are findable."""
        for prefix_hash in hashes:
            block = self._filling.pop(prefix_hash)
            self._cached[block] = prefix_hash
            self.findable.add(prefix_hash, block)

    def unfilled(self, hashes: Iterable[PrefixHash]) -> None:
        """A spill has failed: its blocks hold nothing."""
        for prefix_hash in hashes:
            self._free.append(self._filling.pop(prefix_hash))

    def hold(self, hashes: Iterable[PrefixHash]) -> tuple[HostBlockId, ...]:
        """The blocks of `hashes`, which a restore reads from now on."""
        blocks = []
        for prefix_hash in hashes:
            block = self.find(prefix_hash)
            assert block is not None, f"{prefix_hash} is not in host memory"
            self._cached.pop(block, None)
            _, readers = self._held.get(block, (prefix_hash, 0))
            self._held[block] = (prefix_hash, readers + 1)
            blocks.append(block)
        return tuple(blocks)

    def release(self, blocks: Sequence[HostBlockId]) -> None:
        """A restore reads them no longer. The prefix's tail becomes evictable before its head."""
        for block in reversed(blocks):
            prefix_hash, readers = self._held.pop(block)
            if readers > 1:
                self._held[block] = (prefix_hash, readers - 1)
            else:
                self._cached[block] = prefix_hash

    def forget(self, hashes: Iterable[PrefixHash]) -> None:
        """These could not be read: whatever of them nobody reads now is given up."""
        for prefix_hash in hashes:
            block = self.find(prefix_hash)
            if block is not None and block in self._cached:
                del self._cached[block]
                self.findable.remove(prefix_hash)
                self._free.append(block)

    def _evict(self) -> HostBlockId:
        block, prefix_hash = self._cached.popitem(last=False)
        self.findable.remove(prefix_hash)
        return block

    def check(self, filling: Iterable[HostBlockId], read: Iterable[HostBlockId]) -> None:
        """Integrity: `filling` are the targets of the spills in flight, `read` names
        each block once per restore that reads it. O(total).
        """
        counts = self.counts
        assert sum(counts) == self.total, f"{counts} is not {self.total} host blocks"
        assert sorted(filling) == sorted(self._filling.values()), "spills differ from the filling"
        readers = [block for block, (_, count) in self._held.items() for _ in range(count)]
        assert sorted(read) == sorted(readers), "restores differ from the held"
        places = [*self._free, *self._filling.values(), *self._cached, *self._held]
        assert len(places) == len(dict.fromkeys(places)), "a host block is in two places"
        named = dict(self._cached)
        named.update((block, prefix_hash) for block, (prefix_hash, _) in self._held.items())
        self.findable.check(named.get, len(named))
