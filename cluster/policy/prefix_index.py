"""Which worker has which prefix blocks, as far as its views told.

Per hash a bit mask of workers: one walk along a prompt's hashes finds the hit
of every worker. Per worker its hashes in the order they were learned, so that
removing a worker costs its own hashes only, and its share is bounded: beyond
`hashes_max` the oldest is forgotten, which costs a recomputation, never
correctness.
"""

from collections.abc import Iterable, Sequence

from ...proto.ids import PrefixHash, WorkerKey


class PrefixIndex:
    """Hash to workers. A block counts as a hit only if all before it are hits."""

    def __init__(self, *, block_tokens: int, hashes_max: int) -> None:
        """`hashes_max` bounds one worker's hashes."""
        assert block_tokens > 0, block_tokens
        assert hashes_max > 0, hashes_max
        self._block_tokens = block_tokens
        self._hashes_max = hashes_max
        self._masks: dict[PrefixHash, int] = {}
        self._slots: dict[WorkerKey, int] = {}
        self._owned: list[dict[PrefixHash, None]] = []
        self._workers: list[WorkerKey | None] = []
        self._spare: list[int] = []

    def __len__(self) -> int:
        return len(self._masks)

    def insert(self, worker: WorkerKey, hashes: Iterable[PrefixHash]) -> None:
        """These blocks are cached there now."""
        slot = self._slot(worker)
        owned, masks, bit = self._owned[slot], self._masks, 1 << slot
        known = masks.get
        for block in hashes:
            if block not in owned:
                owned[block] = None
                masks[block] = known(block, 0) | bit
        while len(owned) > self._hashes_max:
            self._forget(slot, next(iter(owned)))

    def evict(self, worker: WorkerKey, hashes: Iterable[PrefixHash]) -> None:
        """These blocks are not cached there any more; unknown ones are no error."""
        slot = self._slots.get(worker)
        if slot is None:
            return
        owned = self._owned[slot]
        for block in hashes:
            if block in owned:
                self._forget(slot, block)

    def replace(self, worker: WorkerKey, hashes: Iterable[PrefixHash]) -> None:
        """Exactly these blocks are cached there."""
        self.remove(worker)
        self.insert(worker, hashes)

    def remove(self, worker: WorkerKey) -> None:
        """Nothing is cached there; its slot is free for another worker."""
        slot = self._slots.pop(worker, None)
        if slot is None:
            return
        for block in list(self._owned[slot]):
            self._forget(slot, block)
        self._workers[slot] = None
        self._spare.append(slot)

    def hits(self, hashes: Sequence[PrefixHash]) -> dict[WorkerKey, int]:
        """Hit tokens of every worker that has at least the first block."""
        tokens: dict[WorkerKey, int] = {}
        mask = self._masks.get(hashes[0], 0) if hashes else 0
        for index in range(1, len(hashes)):
            if not mask:
                return tokens
            both = mask & self._masks.get(hashes[index], 0)
            if both != mask:
                self._note(tokens, mask & ~both, index)
                mask = both
        self._note(tokens, mask, len(hashes))
        return tokens

    def hit_tokens(self, worker: WorkerKey, hashes: Sequence[PrefixHash]) -> int:
        """Tokens of the longest prefix that is cached on `worker`."""
        slot = self._slots.get(worker)
        if slot is None:
            return 0
        owned = self._owned[slot]
        blocks = 0
        for block in hashes:
            if block not in owned:
                break
            blocks += 1
        return blocks * self._block_tokens

    def has(self, worker: WorkerKey, block: PrefixHash) -> bool:
        """Whether this block is cached on `worker`."""
        slot = self._slots.get(worker)
        return slot is not None and block in self._owned[slot]

    def hashes(self, worker: WorkerKey) -> tuple[PrefixHash, ...]:
        """All that is cached on `worker`, in the order it was learned."""
        slot = self._slots.get(worker)
        return () if slot is None else tuple(self._owned[slot])

    def check(self) -> None:
        """Masks and per-worker tables say the same. For tests: costs all hashes."""
        for worker, slot in self._slots.items():
            assert self._workers[slot] == worker, (worker, slot)
            assert len(self._owned[slot]) <= self._hashes_max, worker
            for block in self._owned[slot]:
                assert self._masks[block] >> slot & 1, (worker, block)
        bits = sum(mask.bit_count() for mask in self._masks.values())
        assert bits == sum(len(owned) for owned in self._owned), bits

    def _slot(self, worker: WorkerKey) -> int:
        slot = self._slots.get(worker)
        if slot is not None:
            return slot
        if self._spare:
            slot = self._spare.pop()
            self._workers[slot] = worker
        else:
            slot = len(self._workers)
            self._workers.append(worker)
            self._owned.append({})
        self._slots[worker] = slot
        return slot

    def _forget(self, slot: int, block: PrefixHash) -> None:
        del self._owned[slot][block]
        mask = self._masks[block] & ~(1 << slot)
        if mask:
            self._masks[block] = mask
        else:
            del self._masks[block]

    def _note(self, tokens: dict[WorkerKey, int], mask: int, blocks: int) -> None:
        while mask:
            low = mask & -mask
            worker = self._workers[low.bit_length() - 1]
            assert worker is not None, low
            tokens[worker] = blocks * self._block_tokens
            mask ^= low
