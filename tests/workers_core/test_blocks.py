from random import Random

import pytest
from splitweave.proto.blocks import block_hashes
from splitweave.workers.core.blocks import BlockPool

HASHES = block_hashes(range(40), 4)


def filled(total: int, count: int) -> tuple[BlockPool, tuple[int, ...]]:
    """A pool with `count` blocks held and published."""
    pool = BlockPool(total)
    blocks = pool.allocate(count)
    for block, prefix_hash in zip(blocks, HASHES, strict=False):
        pool.publish(block, prefix_hash)
    return pool, blocks


def test_a_fresh_pool_is_free() -> None:
    pool = BlockPool(5)
    assert pool.counts == (5, 0, 0, 0, 0)
    assert pool.available == 5
    pool.check([], [])


def test_allocation_takes_low_ids_first() -> None:
    assert BlockPool(5).allocate(3) == (0, 1, 2)


def test_a_released_block_without_a_hash_is_free_again() -> None:
    pool = BlockPool(3)
    pool.release(pool.allocate(2))
    assert pool.counts.free == 3


def test_a_released_block_with_a_hash_is_cached_and_found() -> None:
    pool, blocks = filled(4, 2)
    pool.release(blocks)
    assert pool.counts == (2, 0, 2, 0, 0)
    assert pool.lookup(HASHES, 9) == blocks
    pool.check([], [])


def test_a_block_is_freed_with_its_last_holder_only() -> None:
    pool, blocks = filled(4, 2)
    pool.hold(blocks)
    pool.release(blocks)
    assert pool.counts.held == 2
    pool.check(blocks, [])
    pool.release(blocks)
    assert pool.counts.held == 0


def test_releasing_without_a_holder_is_a_bug() -> None:
    pool, blocks = filled(4, 1)
    pool.release(blocks)
    with pytest.raises(AssertionError, match="without a holder"):
        pool.release(blocks)


def test_lookup_stops_at_the_first_unknown_hash_and_at_the_limit() -> None:
    pool, blocks = filled(8, 3)
    assert pool.lookup(HASHES[:1] + HASHES[5:], 9) == blocks[:1]
    assert pool.lookup(HASHES[1:], 9) == blocks[1:]
    assert pool.lookup(HASHES, 2) == blocks[:2]
    assert pool.lookup((), 2) == ()


def test_eviction_takes_the_least_recently_used() -> None:
    pool, blocks = filled(3, 3)
    pool.release(blocks[2:])
    pool.release(blocks[:1])
    pool.release(blocks[1:2])
    assert [pool.allocate(1)[0] for _ in range(3)] == [blocks[2], blocks[0], blocks[1]]


def test_eviction_takes_the_tail_of_a_prefix_before_its_head() -> None:
    pool, blocks = filled(3, 3)
    pool.release(blocks)
    pool.allocate(1)
    assert pool.lookup(HASHES, 9) == blocks[:2]


def test_holding_a_cached_block_saves_it_from_eviction() -> None:
    pool, blocks = filled(3, 3)
    pool.release(blocks)
    pool.hold(blocks[2:])
    assert pool.unheld(blocks) == 2
    pool.allocate(2)
    assert pool.lookup(HASHES[2:], 9) == blocks[2:]
    assert pool.available == 0


def test_free_blocks_go_before_cached_ones() -> None:
    pool, blocks = filled(4, 2)
    pool.release(blocks)
    pool.allocate(2)
    assert pool.counts.cached == 2


def test_taking_more_than_there_is_is_a_bug() -> None:
    with pytest.raises(AssertionError, match="4 blocks asked, 3 available"):
        BlockPool(3).allocate(4)


def test_an_equal_block_published_later_stays_unnamed() -> None:
    pool, blocks = filled(4, 1)
    twin = pool.allocate(1)
    pool.publish(twin[0], HASHES[0])
    pool.release(twin)
    assert pool.lookup(HASHES, 9) == blocks
    assert pool.counts.free == 3


def test_a_block_published_twice_keeps_its_hash() -> None:
    pool, blocks = filled(4, 1)
    pool.publish(blocks[0], HASHES[0])
    pool.publish(blocks[0], HASHES[3])
    assert pool.findable() == HASHES[:1]


def test_a_lease_takes_blocks_out_of_reach() -> None:
    pool = BlockPool(4)
    leased = pool.lease(3)
    assert pool.counts == (1, 0, 0, 3, 0)
    assert pool.available == 1
    pool.check([], leased)


def test_a_committed_lease_is_held_once() -> None:
    pool = BlockPool(4)
    leased = pool.lease(3)
    pool.commit(leased)
    pool.check(leased, [])
    pool.release(leased)
    assert pool.counts.free == 4


def test_quarantined_blocks_are_nobodys_until_absolved() -> None:
    pool = BlockPool(4)
    leased = pool.lease(3)
    pool.quarantine(leased)
    assert pool.counts == (1, 0, 0, 0, 3)
    assert pool.available == 1
    pool.check([], leased)
    pool.absolve(leased)
    assert pool.counts.free == 4


def test_a_lease_may_evict() -> None:
    pool, blocks = filled(3, 3)
    pool.release(blocks)
    assert len(pool.lease(3)) == 3
    assert pool.findable() == ()


def test_changes_name_what_became_findable_and_what_was_lost() -> None:
    pool, blocks = filled(2, 2)
    assert pool.take_changes() == (HASHES[:2], ())
    pool.release(blocks)
    pool.allocate(1)
    assert pool.take_changes() == ((), (HASHES[1],))
    assert pool.take_changes() == ((), ())


def test_what_came_and_went_between_two_looks_is_no_change() -> None:
    pool, blocks = filled(2, 2)
    pool.release(blocks)
    pool.allocate(2)
    assert pool.take_changes() == ((), ())


def test_what_went_and_came_back_between_two_looks_is_no_change() -> None:
    pool, blocks = filled(2, 2)
    pool.take_changes()
    pool.release(blocks)
    again = pool.allocate(2)
    pool.publish(again[0], HASHES[0])
    assert pool.take_changes() == ((), (HASHES[1],))


def test_check_finds_a_wrong_reference_count() -> None:
    pool, blocks = filled(4, 2)
    with pytest.raises(AssertionError, match="reference counts"):
        pool.check(blocks[:1], [])
    with pytest.raises(AssertionError, match="reference counts"):
        pool.check([*blocks, blocks[0]], [])


def test_check_finds_a_lost_lease() -> None:
    pool = BlockPool(4)
    pool.lease(2)
    with pytest.raises(AssertionError, match="lent blocks"):
        pool.check([], [])


def test_check_finds_a_block_in_two_places() -> None:
    pool = BlockPool(4)
    leased = pool.lease(1)
    pool.release(pool.allocate(1))
    pool._free.pop()
    pool._free.append(leased[0])
    with pytest.raises(AssertionError, match="two places"):
        pool.check([], leased)


class Disorder:
    """Random legal calls on a pool, and what must be true of it."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.pool = BlockPool(self.random.randrange(4, 20))
        self.tables: list[tuple[int, ...]] = []
        self.leases: list[tuple[int, ...]] = []
        self.jailed: list[tuple[int, ...]] = []
        self.calls = [self.allocate, self.lease, self.release, self.hold, self.publish]
        self.calls += [self.commit, self.quarantine, self.absolve, self.find]

    def act(self) -> None:
        self.random.choice(self.calls)()
        self.pool.check(
            [block for table in self.tables for block in table],
            [block for lent in self.leases + self.jailed for block in lent],
        )

    def allocate(self) -> None:
        self.tables.append(self.pool.allocate(self.some()))

    def lease(self) -> None:
        self.leases.append(self.pool.lease(self.some()))

    def release(self) -> None:
        if self.tables:
            self.pool.release(self.tables.pop(self.random.randrange(len(self.tables))))

    def hold(self) -> None:
        if self.tables:
            self.tables.append(self.random.choice(self.tables))
            self.pool.hold(self.tables[-1])

    def publish(self) -> None:
        blocks = [block for table in self.tables for block in table]
        if blocks:
            self.pool.publish(self.random.choice(blocks), self.random.choice(HASHES))

    def commit(self) -> None:
        if self.leases:
            self.tables.append(self.leases.pop())
            self.pool.commit(self.tables[-1])

    def quarantine(self) -> None:
        if self.leases:
            self.jailed.append(self.leases.pop())
            self.pool.quarantine(self.jailed[-1])

    def absolve(self) -> None:
        if self.jailed:
            self.pool.absolve(self.jailed.pop())

    def find(self) -> None:
        self.tables.append(self.pool.lookup([self.random.choice(HASHES)], 1))
        self.pool.hold(self.tables[-1])

    def some(self) -> int:
        return min(self.pool.available, self.random.randrange(1, 4))


@pytest.mark.parametrize("seed", range(40))
def test_any_order_of_calls_keeps_the_sum_and_the_change_log(seed: int) -> None:
    disorder = Disorder(seed)
    mirror: set[int] = set()
    for number in range(200):
        disorder.act()
        if number % 10 == 0:
            cached, evicted = disorder.pool.take_changes()
            assert mirror.isdisjoint(cached)
            assert mirror.issuperset(evicted)
            mirror = mirror.union(cached).difference(evicted)
            assert mirror == set(disorder.pool.findable())


def test_what_was_given_back_last_is_taken_first_and_what_was_never_taken_before_the_cached() -> (
    None
):
    pool = BlockPool(6)
    first = pool.allocate(3)
    pool.publish(first[0], HASHES[0])
    pool.release(first)
    assert pool.allocate(4) == (1, 2, 3, 4)
    assert pool.allocate(2) == (5, 0), "evicted last"
    assert pool.find(HASHES[0]) is None


def test_a_pool_costs_memory_for_blocks_that_were_taken_only() -> None:
    pool = BlockPool(1 << 40)
    blocks = pool.allocate(3)
    pool.check(blocks, [])
    assert (pool.available, pool.counts.free) == ((1 << 40) - 3, (1 << 40) - 3)
    assert "free 1099511627772 + held 4" in pool.problem([*blocks, pool.allocate(1)[0] + 1], [])
