"""The KV blocks of one worker and who may write them.

    free --allocate--> held --release--> cached (findable by hash) or free
    free --lease--> leased --commit--> held
                    leased --quarantine--> quarantined --absolve--> free

free + held + cached + leased + quarantined = total, always. A block is held
while its reference count is above 0; a holder is a sequence, a copy in flight (to
a peer, to host memory or back), or a lease that found it in the prefix cache.
"""

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from ...proto.ids import BlockId, PrefixHash
from .findable import Findable


class BlockCounts(NamedTuple):
    """How many blocks are in each state; they sum to the total."""

    free: int
    held: int
    cached: int
    leased: int
    quarantined: int


class BlockPool:
    """Blocks 0..total-1. All calls take and give block ids; asserts are caller's bugs."""

    def __init__(self, total: int) -> None:
        self.total = total
        self._free = [BlockId(block) for block in range(total - 1, -1, -1)]
        self._references = [0] * total
        self._held = 0
        self._hashes: list[PrefixHash | None] = [None] * total
        self._findable = Findable[BlockId]()
        self._cached: OrderedDict[BlockId, None] = OrderedDict()
        self._leased: dict[BlockId, None] = {}
        self._quarantined: dict[BlockId, None] = {}

    @property
    def available(self) -> int:
        """Blocks that `allocate` or `lease` could give out now, evictions included."""
        return len(self._free) + len(self._cached)

    @property
    def counts(self) -> BlockCounts:
        return BlockCounts(
            len(self._free),
            self._held,
            len(self._cached),
            len(self._leased),
            len(self._quarantined),
        )

    def allocate(self, count: int) -> tuple[BlockId, ...]:
        """`count` blocks, each held once by the caller. Evicts the least recently used."""
        taken = self._take(count)
        for block in taken:
            self._references[block] = 1
        self._held += count
        return taken

    def hold(self, blocks: Iterable[BlockId]) -> None:
        """One more holder for each of `blocks`, which are held or cached."""
        for block in blocks:
            if self._references[block] == 0:
                del self._cached[block]
                self._held += 1
            self._references[block] += 1

    def release(self, blocks: Sequence[BlockId]) -> None:
        """One holder less. The table's tail becomes evictable before its head."""
        for block in reversed(blocks):
            left = self._references[block] - 1
            assert left >= 0, f"block {block} released without a holder"
            self._references[block] = left
            if left == 0:
                self._held -= 1
                if self._hashes[block] is None:
                    self._free.append(block)
                else:
                    self._cached[block] = None

    def release_oldest(self, blocks: Sequence[BlockId]) -> None:
        """One holder less; those that nobody else holds are evicted before all others."""
        self.release(blocks)
        for block in blocks:
            if block in self._cached:
                self._cached.move_to_end(block, last=False)

    def find(self, prefix_hash: PrefixHash) -> BlockId | None:
        """The block of a prefix hash, held or cached."""
        return self._findable.get(prefix_hash)

    def hash_of(self, block: BlockId) -> PrefixHash | None:
        """The hash by which a block is found, if it is."""
        return self._hashes[block]

    def oldest(self) -> Iterator[tuple[BlockId, PrefixHash]]:
        """The cached blocks, the next to be evicted first."""
        for block in self._cached:
            prefix_hash = self._hashes[block]
            assert prefix_hash is not None, f"cached block {block} has no hash"
            yield block, prefix_hash

    @property
    def free(self) -> int:
        """Blocks that hold nothing anybody could find."""
        return len(self._free)

    def lookup(self, hashes: Sequence[PrefixHash], limit: int) -> tuple[BlockId, ...]:
        """The blocks of the longest known prefix of `hashes`, at most `limit`."""
        found: list[BlockId] = []
        for prefix_hash in hashes[:limit]:
            block = self._findable.get(prefix_hash)
            if block is None:
                break
            found.append(block)
        return tuple(found)

    def unheld(self, blocks: Iterable[BlockId]) -> int:
        """How many of `blocks` are cached without a holder."""
        return sum(1 for block in blocks if self._references[block] == 0)

    def held_once(self, block: BlockId) -> bool:
        """Whether there is exactly one holder."""
        return self._references[block] == 1

    def publish(self, block: BlockId, prefix_hash: PrefixHash) -> None:
        """Makes a held, full block findable; an equal one published before stays the one."""
        assert self._references[block] > 0, f"block {block} published without a holder"
        if prefix_hash in self._findable or self._hashes[block] is not None:
            return
        self._hashes[block] = prefix_hash
        self._findable.add(prefix_hash, block)

    def lease(self, count: int) -> tuple[BlockId, ...]:
        """`count` blocks that only the writer of one move may touch."""
        taken = self._take(count)
        self._leased.update(dict.fromkeys(taken))
        return taken

    def commit(self, blocks: Iterable[BlockId]) -> None:
        """Leased blocks become held by one sequence."""
        for block in blocks:
            del self._leased[block]
            self._references[block] = 1
            self._held += 1

    def quarantine(self, blocks: Iterable[BlockId]) -> None:
        """The move is off, but its writer may still write."""
        for block in blocks:
            del self._leased[block]
            self._quarantined[block] = None

    def absolve(self, blocks: Iterable[BlockId]) -> None:
        """The writer has let go, or is dead."""
        for block in blocks:
            del self._quarantined[block]
            self._free.append(block)

    def findable(self) -> tuple[PrefixHash, ...]:
        """All hashes that `lookup` would find, oldest first."""
        return self._findable.all()

    def take_changes(self) -> tuple[tuple[PrefixHash, ...], tuple[PrefixHash, ...]]:
        """Hashes that became findable, and that were lost, since the last call."""
        return self._findable.take_changes()

    def _take(self, count: int) -> tuple[BlockId, ...]:
        assert count <= self.available, f"{count} blocks asked, {self.available} available"
        return tuple(self._free.pop() if self._free else self._evict() for _ in range(count))

    def _evict(self) -> BlockId:
        block, _ = self._cached.popitem(last=False)
        prefix_hash = self._hashes[block]
        assert prefix_hash is not None, f"cached block {block} has no hash"
        self._hashes[block] = None
        self._findable.remove(prefix_hash)
        return block

    def problem(self, holders: Iterable[BlockId], lent: Iterable[BlockId]) -> str:
        """Which rule is broken, with the sum; empty if none is. `holders` names each block
        once per holder, `lent` each block under a lease or in quarantine. O(total).
        """
        counts = self.counts
        expected = [0] * self.total
        for block in holders:
            expected[block] += 1
        places = [*self._free, *self._cached, *self._leased, *self._quarantined]
        hash_of = self._hashes.__getitem__
        rules = {
            "blocks are lost or double": sum(counts) == self.total,
            "reference counts differ from holders": expected == self._references,
            "held count is off": self._held == self.total - expected.count(0),
            "a block is in two places": len(places) == len(dict.fromkeys(places)),
            "a block in use is also unheld": not any(map(expected.__getitem__, places)),
            "lent blocks differ": sorted(lent) == sorted([*self._leased, *self._quarantined]),
            "nameless cache": None not in map(hash_of, self._cached),
        }
        broken = next((rule for rule, holds in rules.items() if not holds), "")
        if not broken:
            return ""
        parts = " + ".join(f"{name} {count}" for name, count in counts._asdict().items())
        return f"{broken}; {parts} = {sum(counts)}, total {self.total}"

    def check(self, holders: Iterable[BlockId], lent: Iterable[BlockId]) -> None:
        """Integrity: there is no `problem`, and what is findable has its block. O(total)."""
        problem = self.problem(holders, lent)
        assert not problem, problem
        self._findable.check(self._hashes.__getitem__, self.total - self._hashes.count(None))
