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
        self._free: list[BlockId] = []  # given back, the next to be taken last
        self._fresh = 0  # from here on never taken yet: they come after those given back
        self._references: list[int] = []  # of each block below `_fresh`
        self._held = 0
        self._hashes: list[PrefixHash | None] = []
        self._findable = Findable[BlockId]()
        self._cached: OrderedDict[BlockId, None] = OrderedDict()
        self._leased: dict[BlockId, None] = {}
        self._quarantined: dict[BlockId, None] = {}

    @property
    def available(self) -> int:
        """Blocks that `allocate` or `lease` could give out now, evictions included."""
        return len(self._free) + self.total - self._fresh + len(self._cached)

    @property
    def counts(self) -> BlockCounts:
        return BlockCounts(
            self.free,
            self._held,
            len(self._cached),
            len(self._leased),
            len(self._quarantined),
        )

    def allocate(self, count: int) -> tuple[BlockId, ...]:
        """`count` blocks, each held once by the caller. Evicts the least recently used."""
        taken, references = self._take(count), self._references
        for block in taken:
            references[block] = 1
        self._held += count
        return taken

    def hold(self, blocks: Iterable[BlockId]) -> None:
        """One more holder for each of `blocks`, which are held or cached."""
        references = self._references
        for block in blocks:
            if references[block] == 0:
                del self._cached[block]
                self._held += 1
            references[block] += 1

    def release(self, blocks: Sequence[BlockId]) -> None:
        """One holder less. The table's tail becomes evictable before its head."""
        references, hashes = self._references, self._hashes
        for block in reversed(blocks):
            left = references[block] - 1
            assert left >= 0, f"block {block} released without a holder"
            references[block] = left
            if left == 0:
                self._held -= 1
                if hashes[block] is None:
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
        return len(self._free) + self.total - self._fresh

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
        self.publish_all((block,), (prefix_hash,))

    def publish_all(self, blocks: Iterable[BlockId], hashes: Iterable[PrefixHash]) -> None:
        """`publish` for each block and its hash, in order."""
        references, known = self._references, self._hashes
        for block, prefix_hash in zip(blocks, hashes, strict=True):
            assert references[block] > 0, f"block {block} published without a holder"
            if known[block] is None and self._findable.add(prefix_hash, block):
                known[block] = prefix_hash

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
        """Of what was given back the latest, then what was never taken, then what is cached."""
        assert count <= self.available, f"{count} blocks asked, {self.available} available"
        free = self._free
        kept = max(0, len(free) - count)
        taken = free[kept:]
        del free[kept:]
        taken.reverse()
        first, last = self._fresh, min(self.total, self._fresh + count - len(taken))
        taken.extend(map(BlockId, range(first, last)))
        self._fresh = last
        self._references += [0] * (last - first)
        self._hashes += [None] * (last - first)
        taken.extend(self._evict() for _ in range(count - len(taken)))
        return tuple(taken)

    def _evict(self) -> BlockId:
        block, _ = self._cached.popitem(last=False)
        prefix_hash = self._hashes[block]
        assert prefix_hash is not None, f"cached block {block} has no hash"
        self._hashes[block] = None
        self._findable.remove(prefix_hash)
        return block

    def problem(self, holders: Iterable[BlockId], lent: Iterable[BlockId]) -> str:
        """Which rule is broken, with the sum; empty if none is. `holders` names each block
        once per holder, `lent` each block under a lease or in quarantine. O(blocks ever taken).
        """
        counts, held = self.counts, list(holders)
        places = [*self._free, *self._cached, *self._leased, *self._quarantined]
        size = 1 + max([self._fresh - 1, *held, *places])
        expected = [0] * size
        for block in held:
            expected[block] += 1
        hash_of = self._hashes.__getitem__
        rules = {
            "blocks are lost or double": sum(counts) == self.total,
            "reference counts differ from holders": expected == self._references,
            "held count is off": self._held == size - expected.count(0),
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
        """Integrity: there is no `problem`, and what is findable has its block. Costs the same."""
        problem = self.problem(holders, lent)
        assert not problem, problem
        self._findable.check(self._hashes.__getitem__, self._fresh - self._hashes.count(None))
