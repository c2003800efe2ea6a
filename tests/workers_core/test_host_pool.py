"""Host blocks: each in one state, none given out while a copy reads or writes it."""

from random import Random

import pytest
from splitweave.proto.ids import HostBlockId, PrefixHash
from splitweave.workers.core.host_pool import HostPool


def filled(total: int, *hashes: int) -> HostPool:
    pool = HostPool(total)
    pool.take([PrefixHash(h) for h in hashes])
    pool.filled([PrefixHash(h) for h in hashes])
    return pool


def test_a_block_is_found_only_when_its_spill_has_ended() -> None:
    pool = HostPool(2)
    assert pool.take([PrefixHash(7)]) == (0,)
    assert pool.find(PrefixHash(7)) is None
    assert PrefixHash(7) in pool
    pool.filled([PrefixHash(7)])
    assert pool.find(PrefixHash(7)) == 0


def test_a_failed_spill_leaves_nothing() -> None:
    pool = HostPool(1)
    pool.take([PrefixHash(7)])
    pool.unfilled([PrefixHash(7)])
    assert PrefixHash(7) not in pool
    assert pool.counts == (1, 0, 0, 0)


def test_the_least_recently_used_goes_first() -> None:
    pool = filled(3, 1, 2, 3)
    assert pool.touch([PrefixHash(1), PrefixHash(9)]) == 1
    pool.take([PrefixHash(4)])
    assert pool.find(PrefixHash(2)) is None
    assert pool.find(PrefixHash(1)) == 0
    assert pool.findable.take_changes() == ((1, 3), ())


def test_what_is_read_or_written_is_never_given_out() -> None:
    pool = filled(3, 1, 2)
    pool.hold([PrefixHash(1)])
    pool.take([PrefixHash(3)])
    assert pool.room == 1
    with pytest.raises(AssertionError, match="2 host blocks asked, room for 1"):
        pool.take([PrefixHash(4), PrefixHash(5)])


def test_a_block_is_held_once_for_each_reader() -> None:
    pool = filled(1, 1)
    blocks = pool.hold([PrefixHash(1)])
    pool.hold([PrefixHash(1)])
    pool.release(blocks)
    assert pool.counts == (0, 0, 0, 1)
    pool.release(blocks)
    assert pool.counts == (0, 0, 1, 0)


def test_what_could_not_be_read_is_forgotten_unless_another_reads_it() -> None:
    pool = filled(2, 1, 2)
    pool.hold([PrefixHash(2)])
    pool.forget([PrefixHash(1), PrefixHash(2), PrefixHash(3)])
    assert pool.find(PrefixHash(1)) is None
    assert pool.find(PrefixHash(2)) == 1
    pool.check([], [HostBlockId(1)])


@pytest.mark.parametrize("seed", range(20))
def test_any_order_of_calls_keeps_every_block_in_one_state(seed: int) -> None:
    random = Random(seed)
    pool = HostPool(random.randrange(1, 9))
    spills: list[list[PrefixHash]] = []
    reads: list[tuple[HostBlockId, ...]] = []
    mirror: set[int] = set()
    for _ in range(300):
        known = [PrefixHash(random.randrange(12)) for _ in range(random.randrange(1, 4))]
        fresh = [h for h in dict.fromkeys(known) if h not in pool][: pool.room]
        there = [h for h in dict.fromkeys(known) if pool.find(h) is not None]
        dice = random.random()
        if dice < 0.3:
            pool.take(fresh)
            spills.append(fresh)
        elif dice < 0.6 and spills:
            ended = spills.pop(random.randrange(len(spills)))
            (pool.filled if random.random() < 0.8 else pool.unfilled)(ended)
        elif dice < 0.8:
            reads.append(pool.hold(there))
        elif dice < 0.95 and reads:
            pool.release(reads.pop(random.randrange(len(reads))))
        else:
            pool.forget(there)
        writing = {h for hashes in spills for h in hashes}
        assert all(pool.find(h) is None for h in writing)
        pool.check(list(pool._filling.values()), [b for blocks in reads for b in blocks])
        cached, evicted = pool.findable.take_changes()
        mirror = (mirror | set(cached)) - set(evicted)
        assert mirror == set(pool.findable.all())
