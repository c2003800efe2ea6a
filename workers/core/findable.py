"""Prefix hash to block, and what has changed since it was last told."""

from collections.abc import Callable
from operator import eq
from typing import Generic, TypeVar

from ...proto.ids import PrefixHash

Block = TypeVar("Block", bound=int)


class Findable(Generic[Block]):
    """One block per hash. `take_changes` gives the net change since the last call."""

    def __init__(self) -> None:
        self._by_hash: dict[PrefixHash, Block] = {}
        self._changes: dict[PrefixHash, bool] = {}  # True found, False lost

    def __len__(self) -> int:
        return len(self._by_hash)

    def __contains__(self, prefix_hash: PrefixHash) -> bool:
        return prefix_hash in self._by_hash

    def get(self, prefix_hash: PrefixHash) -> Block | None:
        return self._by_hash.get(prefix_hash)

    def add(self, prefix_hash: PrefixHash, block: Block) -> bool:
        """False if there is a block for `prefix_hash`: it stays the one."""
        if self._by_hash.setdefault(prefix_hash, block) != block:
            return False
        if self._changes.pop(prefix_hash, None) is None:
            self._changes[prefix_hash] = True
        return True

    def remove(self, prefix_hash: PrefixHash) -> None:
        """`prefix_hash` was there."""
        del self._by_hash[prefix_hash]
        if self._changes.pop(prefix_hash, None) is None:
            self._changes[prefix_hash] = False

    def all(self) -> tuple[PrefixHash, ...]:
        """Oldest first."""
        return tuple(self._by_hash)

    def take_changes(self) -> tuple[tuple[PrefixHash, ...], tuple[PrefixHash, ...]]:
        """Hashes that became findable, and that were lost, since the last call."""
        changes, self._changes = self._changes, {}
        cached = tuple(prefix_hash for prefix_hash, found in changes.items() if found)
        return cached, tuple(prefix_hash for prefix_hash, found in changes.items() if not found)

    def check(self, hash_of: Callable[[Block], PrefixHash | None], named: int) -> None:
        """Integrity: as many blocks are found as are `named`, each by its own hash."""
        assert len(self._by_hash) == named, f"{len(self._by_hash)} are found, {named} named"
        hashes = map(hash_of, self._by_hash.values())
        assert all(map(eq, self._by_hash, hashes)), "wrongly named"
