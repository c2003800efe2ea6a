"""Which heads go from which source rank to which target rank.

Two groups of tensor-parallel ranks may differ in size. A group that is not
larger than the number of KV heads parts them; a larger one replicates them.
Each head that a target rank holds comes from exactly one source rank.

    5 heads   2 ranks  [0 1 2 | 3 4]
              4 ranks  [0 1 | 2 | 3 | 4]
              8 ranks  [0 | 0 | 1 | 1 | 2 | 3 | 3 | 4]      replicas send in turns
"""

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class HeadRange:
    """KV heads [first, last)."""

    first: int
    last: int

    def __len__(self) -> int:
        return self.last - self.first

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.first, self.last))

    def __contains__(self, head: int) -> bool:
        return self.first <= head < self.last

    def within(self, held: "HeadRange") -> "HeadRange":
        """The same heads, counted from the first one that a rank holds."""
        assert held.first <= self.first <= self.last <= held.last, (self, held)
        return HeadRange(first=self.first - held.first, last=self.last - held.first)


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Exchange:
    """`source_rank` sends `heads` (of the whole model) to `target_rank`."""

    source_rank: int
    target_rank: int
    heads: HeadRange


def heads_of(kv_heads: int, ranks: int, rank: int) -> HeadRange:
    """The heads that one rank of a group holds.

    Up to `kv_heads` ranks share them evenly, the lower ranks taking what is
    left over; beyond that every rank holds one, neighbours the same.
    """
    assert kv_heads >= 1, kv_heads
    assert 0 <= rank < ranks, (rank, ranks)
    if ranks > kv_heads:
        head = rank * kv_heads // ranks
        return HeadRange(first=head, last=head + 1)
    each, over = divmod(kv_heads, ranks)
    first = rank * each + min(rank, over)
    return HeadRange(first=first, last=first + each + (rank < over))


def exchanges(kv_heads: int, source_ranks: int, target_ranks: int) -> tuple[Exchange, ...]:
    """All rank pairs of one move with the heads each carries, in order.

    No pair occurs twice. Of a head's source replicas, the i-th target rank that
    wants it asks number i mod replicas: their loads differ by one head at most,
    and groups of equal size exchange rank by rank.
    """
    source = [heads_of(kv_heads, source_ranks, rank) for rank in range(source_ranks)]
    target = [heads_of(kv_heads, target_ranks, rank) for rank in range(target_ranks)]
    found = (
        Exchange(source_rank=owner, target_rank=rank, heads=HeadRange(first=head, last=head + 1))
        for head in range(kv_heads)
        for owner, rank in _in_turns(_holders(source, head), _holders(target, head))
    )
    return tuple(_joined(sorted(found)))


def _holders(held: list[HeadRange], head: int) -> list[int]:
    return [rank for rank, heads in enumerate(held) if head in heads]


def _in_turns(owners: list[int], takers: list[int]) -> Iterator[tuple[int, int]]:
    return ((owners[turn % len(owners)], rank) for turn, rank in enumerate(takers))


def _joined(single: list[Exchange]) -> Iterator[Exchange]:
    """One exchange per pair of ranks: the heads of two ranges overlap in a range."""
    by_pair: dict[tuple[int, int], HeadRange] = {}
    for each in single:
        pair = (each.source_rank, each.target_rank)
        held = by_pair.get(pair, HeadRange(first=each.heads.first, last=each.heads.first))
        assert held.last == each.heads.first, (pair, held, each)
        by_pair[pair] = HeadRange(first=held.first, last=each.heads.last)
    for (source_rank, target_rank), heads in by_pair.items():
        yield Exchange(source_rank=source_rank, target_rank=target_rank, heads=heads)
