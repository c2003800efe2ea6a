"""Which rank sends which heads: every target head once, from a rank that has it."""

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st
from splitweave.workers.core.head_ranges import Exchange, HeadRange, exchanges, heads_of

SEEDED = settings(derandomize=True, deadline=None, max_examples=300)
HEADS, RANKS = st.integers(1, 40), st.integers(1, 24)


def ranges(kv_heads: int, ranks: int) -> list[tuple[int, int]]:
    held = [heads_of(kv_heads, ranks, rank) for rank in range(ranks)]
    return [(heads.first, heads.last) for heads in held]


def plan(kv_heads: int, source_ranks: int, target_ranks: int) -> list[tuple[int, int, int, int]]:
    return [
        (each.source_rank, each.target_rank, each.heads.first, each.heads.last)
        for each in exchanges(kv_heads, source_ranks, target_ranks)
    ]


def test_uneven_heads_go_to_the_lower_ranks_and_replicas_are_neighbours() -> None:
    assert ranges(5, 2) == [(0, 3), (3, 5)]
    assert ranges(5, 4) == [(0, 2), (2, 3), (3, 4), (4, 5)]
    assert ranges(2, 4) == [(0, 1), (0, 1), (1, 2), (1, 2)]
    assert ranges(5, 8) == [(0, 1), (0, 1), (1, 2), (1, 2), (2, 3), (3, 4), (3, 4), (4, 5)]


def test_two_ranks_part_or_join_the_heads_of_one() -> None:
    assert plan(5, 2, 1) == [(0, 0, 0, 3), (1, 0, 3, 5)]
    assert plan(5, 1, 2) == [(0, 0, 0, 3), (0, 1, 3, 5)]
    assert plan(5, 2, 4) == [(0, 0, 0, 2), (0, 1, 2, 3), (1, 2, 3, 4), (1, 3, 4, 5)]


def test_replicas_send_in_turns() -> None:
    assert plan(2, 4, 2) == [(0, 0, 0, 1), (2, 1, 1, 2)]
    assert plan(1, 2, 4) == [(0, 0, 0, 1), (0, 2, 0, 1), (1, 1, 0, 1), (1, 3, 0, 1)]
    assert plan(1, 4, 2) == [(0, 0, 0, 1), (1, 1, 0, 1)]


@SEEDED
@given(kv_heads=HEADS, ranks=RANKS)
def test_a_group_holds_every_head_and_nobody_holds_more_than_one_above_another(
    kv_heads: int, ranks: int
) -> None:
    held = [heads_of(kv_heads, ranks, rank) for rank in range(ranks)]
    assert sorted({head for heads in held for head in heads}) == list(range(kv_heads))
    assert max(map(len, held)) - min(map(len, held)) <= 1
    assert [heads.first for heads in held] == sorted(heads.first for heads in held)
    if ranks <= kv_heads:
        assert sum(map(len, held)) == kv_heads
    else:
        copies = Counter(head for heads in held for head in heads)
        assert max(copies.values()) - min(copies.values()) <= 1


@SEEDED
@given(kv_heads=HEADS, source_ranks=RANKS, target_ranks=RANKS)
def test_every_head_of_every_target_rank_comes_once_from_a_rank_that_holds_it(
    kv_heads: int, source_ranks: int, target_ranks: int
) -> None:
    arriving: Counter[tuple[int, int]] = Counter()
    for each in exchanges(kv_heads, source_ranks, target_ranks):
        held = heads_of(kv_heads, source_ranks, each.source_rank)
        own = each.heads.within(held)
        assert 0 <= own.first < own.last <= len(held)
        arriving.update((each.target_rank, head) for head in each.heads)
    wanted = {
        (rank, head)
        for rank in range(target_ranks)
        for head in heads_of(kv_heads, target_ranks, rank)
    }
    assert arriving == Counter(wanted)


@SEEDED
@given(kv_heads=HEADS, source_ranks=RANKS, target_ranks=RANKS)
def test_replicas_of_a_head_differ_by_one_send_at_most(
    kv_heads: int, source_ranks: int, target_ranks: int
) -> None:
    plan = exchanges(kv_heads, source_ranks, target_ranks)
    for head in range(kv_heads):
        sends = [
            sum(1 for each in plan if each.source_rank == rank and head in each.heads)
            for rank in range(source_ranks)
            if head in heads_of(kv_heads, source_ranks, rank)
        ]
        assert max(sends) - min(sends) <= 1


@SEEDED
@given(kv_heads=HEADS, source_ranks=RANKS, target_ranks=RANKS)
def test_a_pair_of_ranks_exchanges_one_range_and_the_plan_is_in_order(
    kv_heads: int, source_ranks: int, target_ranks: int
) -> None:
    plan = exchanges(kv_heads, source_ranks, target_ranks)
    pairs = [(each.source_rank, each.target_rank) for each in plan]
    assert pairs == sorted(set(pairs))


@SEEDED
@given(kv_heads=HEADS, ranks=RANKS)
def test_groups_of_equal_size_exchange_rank_by_rank(kv_heads: int, ranks: int) -> None:
    assert exchanges(kv_heads, ranks, ranks) == tuple(
        Exchange(source_rank=rank, target_rank=rank, heads=heads_of(kv_heads, ranks, rank))
        for rank in range(ranks)
    )


def test_a_range_counts_from_where_its_holder_begins() -> None:
    heads = HeadRange(first=3, last=5)
    assert heads.within(HeadRange(first=2, last=6)) == HeadRange(first=1, last=3)
    assert list(heads) == [3, 4]
    assert 3 in heads
    assert 5 not in heads
