"""Device and host memory of every worker, as far as its views told."""

from random import Random

import pytest
from control_plane import key
from splitweave.cluster.policy.tiered_index import Hit, TieredIndex
from splitweave.proto.ids import PrefixHash

A, B = key("a"), key("b")


def hashes(*given: int) -> tuple[PrefixHash, ...]:
    return tuple(PrefixHash(one) for one in given)


def index() -> TieredIndex:
    return TieredIndex(block_tokens=16, hashes_max=100)


def test_a_prefix_may_lie_partly_on_the_device_and_partly_in_host_memory() -> None:
    tiers = index()
    tiers.replace(A, hashes(1), hashes(2, 3))
    tiers.replace(B, hashes(1, 2), ())
    assert tiers.hits(hashes(1, 2, 3, 4)) == {A: Hit(16, 32), B: Hit(32, 0)}


def test_a_prefix_in_host_memory_alone_is_a_hit() -> None:
    tiers = index()
    tiers.host_inserted(A, hashes(1, 2))
    assert tiers.hits(hashes(1, 2)) == {A: Hit(0, 32)}


def test_what_leaves_the_device_is_still_found_in_host_memory() -> None:
    tiers = index()
    tiers.replace(A, hashes(1, 2), hashes(2))
    tiers.evicted(A, hashes(1, 2))
    assert tiers.hits(hashes(1, 2)) == {}
    tiers.inserted(A, hashes(1))
    assert tiers.hits(hashes(1, 2)) == {A: Hit(16, 16)}
    tiers.host_evicted(A, hashes(2))
    assert tiers.hits(hashes(1, 2)) == {A: Hit(16, 0)}


def test_a_registration_replaces_all_and_a_death_removes_all() -> None:
    tiers = index()
    tiers.replace(A, hashes(1), hashes(2))
    tiers.replace(A, hashes(5), ())
    assert tiers.hits(hashes(1, 2)) == {}
    assert tiers.hits(hashes(5)) == {A: Hit(16, 0)}
    tiers.remove(A)
    assert tiers.hits(hashes(5)) == {}


def test_hashes_of_host_memory_are_bounded_too() -> None:
    tiers = TieredIndex(block_tokens=16, hashes_max=3)
    tiers.host_inserted(A, hashes(1, 2, 3, 4, 5))
    assert tiers.hits(hashes(1)) == {}
    assert tiers.hits(hashes(3, 4, 5)) == {A: Hit(0, 48)}


@pytest.mark.parametrize("seed", range(20))
def test_any_order_of_changes_gives_what_the_workers_have(seed: int) -> None:
    random, tiers = Random(seed), index()
    device: dict[object, set[int]] = {A: set(), B: set()}
    host: dict[object, set[int]] = {A: set(), B: set()}
    for _ in range(200):
        worker = random.choice([A, B])
        some = hashes(*random.sample(range(8), random.randrange(4)))
        match random.randrange(5):
            case 0:
                tiers.inserted(worker, some)
                device[worker] |= set(some)
            case 1:
                tiers.evicted(worker, some)
                device[worker] -= set(some)
            case 2:
                tiers.host_inserted(worker, some)
                host[worker] |= set(some)
            case 3:
                tiers.host_evicted(worker, some)
                host[worker] -= set(some)
            case _ if random.random() < 0.1:
                tiers.remove(worker)
                device[worker], host[worker] = set(), set()
        tiers.check()
        found = tiers.hits(hashes(*range(8)))
        for one in (A, B):
            reach = next((n for n in range(8) if n not in device[one] | host[one]), 8)
            assert found.get(one, Hit()).tokens == 16 * reach
