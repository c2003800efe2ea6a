"""An idle worker goes over its books, and ends a life whose books are wrong."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from parts import LIMITS
from solo import Solo, request_of
from splitweave.proto.cluster_events import WorkerViewed
from splitweave.proto.effects import EndProcess, EndReason
from splitweave.proto.timers import TimerFired
from splitweave.proto.views import Role
from splitweave.proto.worker_events import RoleAssigned, StreamAcked, WorkerStarted
from splitweave.workers.core import WorkerCore
from splitweave.workers.core.blocks import BlockPool
from splitweave.workers.core.integrity import Integrity
from splitweave.workers.core.membership import HEARTBEAT

MOVED = request_of("moved", range(200, 208))
PERIOD_NS = LIMITS.integrity_ns
Damage = Callable[[BlockPool], Any]

# What may go wrong in a pool, and what is then said.
DAMAGES: dict[str, tuple[Damage, str]] = {
    "a lost block": (lambda pool: pool._free.pop(), "free 29 + held 0 + cached 2"),
    "a block twice free": (lambda pool: pool._free.append(pool._free[0]), "= 33, total 32"),
    "a held block of nobody": (
        lambda pool: pool.allocate(1),
        "reference counts differ from holders",
    ),
    "a lease of nobody": (lambda pool: pool.lease(3), "lent blocks differ"),
    "a free block in the prefix cache": (
        lambda pool: pool._cached.update({pool._free.pop(): None}),
        "nameless cache",
    ),
    "a free block instead of another": (
        lambda pool: pool._free.__setitem__(0, pool._free[1]),
        "a block is in two places",
    ),
}


def beaten() -> Solo:
    """A worker that knows its role, has served a request, and is idle; two blocks are cached,
    and every other was taken and given back.
    """
    solo = Solo()
    solo.step(WorkerStarted())
    solo.step(RoleAssigned(role=Role.MIXED, draining=False))
    solo.assign("r", range(8), max_tokens=2)
    solo.iterate(2)
    solo.step(StreamAcked(request_id="r"))
    solo.fire("heartbeat")
    pool = pool_of(solo.core)
    pool.release(pool.allocate(pool.free))
    return solo


def beat(solo: Solo, after_ns: int = PERIOD_NS) -> list[Any]:
    """A heartbeat without `Solo`'s own look at the tables, which would come first."""
    solo.now_ns += after_ns
    return solo.core.step(TimerFired(HEARTBEAT), solo.now_ns)


def ends(effects: list[Any]) -> list[str]:
    """What is said by a life that ends because its books are wrong."""
    found = [effect for effect in effects if isinstance(effect, EndProcess)]
    assert all(effect.why is EndReason.INTEGRITY for effect in found)
    return [effect.detail for effect in found]


def beats(effects: list[Any]) -> int:
    return sum(isinstance(getattr(effect, "event", None), WorkerViewed) for effect in effects)


def pool_of(core: WorkerCore) -> BlockPool:
    return core._blocks


@pytest.mark.parametrize(("damage", "said"), DAMAGES.values(), ids=DAMAGES)
def test_an_idle_worker_whose_pool_is_damaged_ends_and_says_what_is_wrong(
    damage: Damage, said: str
) -> None:
    solo = beaten()
    damage(pool_of(solo.core))
    effects = beat(solo)
    (reason,) = ends(effects)
    assert said in reason
    assert len(effects) == 1, "a life that ends says nothing more"


def test_the_reason_has_the_whole_sum() -> None:
    solo = beaten()
    pool_of(solo.core)._free.pop()
    (reason,) = ends(beat(solo))
    assert reason.endswith(
        "; free 29 + held 0 + cached 2 + leased 0 + quarantined 0 = 31, total 32"
    )


def test_books_that_are_right_end_nothing_and_the_heart_beats_on() -> None:
    solo = beaten()
    for _ in range(20):
        effects = beat(solo)
        assert (ends(effects), beats(effects)) == ([], 1)


def test_a_worker_that_computes_does_not_look_and_looks_when_it_is_done() -> None:
    """Nor does it have to: what it gives away it takes by the same tables."""
    solo = beaten()
    solo.assign("s", range(100, 108), max_tokens=2)
    stolen = pool_of(solo.core)._free.pop(0)
    assert ends(beat(solo)) == []
    pool_of(solo.core)._free.insert(0, stolen)
    solo.iterate(2)
    pool_of(solo.core)._free.pop(0)
    assert len(ends(beat(solo))) == 1


def test_a_worker_with_an_open_lease_is_not_idle() -> None:
    solo = beaten()
    solo.ask_lease(MOVED, blocks=3)
    pool_of(solo.core)._free.pop(0)
    assert ends(beat(solo)) == []


def test_quarantined_blocks_are_part_of_the_sum_and_no_reason_to_wait() -> None:
    solo = beaten()
    solo.ask_lease(MOVED, blocks=3)
    solo.fire("target_move", "m1", after_ns=LIMITS.lease_ns + 1)
    assert solo.view.blocks_quarantined == 3
    assert ends(beat(solo)) == []
    pool_of(solo.core)._quarantined.popitem()
    (reason,) = ends(beat(solo))
    assert "quarantined 2 = 31, total 32" in reason


def test_it_looks_at_most_once_per_period() -> None:
    solo = beaten()
    pool_of(solo.core)._free.pop()
    within = PERIOD_NS // LIMITS.heartbeat_ns - 1
    for _ in range(within):
        assert ends(beat(solo, LIMITS.heartbeat_ns)) == []
    assert len(ends(beat(solo, LIMITS.heartbeat_ns))) == 1


def test_the_first_look_is_at_once_and_the_next_after_the_period() -> None:
    looks = []
    integrity = Integrity(lambda: f"look {looks.append(1) or len(looks)}", 10)
    said = [integrity.violation(now_ns) for now_ns in (0, 9, 10, 11, 25)]
    assert said == ["look 1", "", "look 2", "", "look 3"]


def test_a_shorter_period_looks_more_often() -> None:
    solo = Solo(limits=replace(LIMITS, integrity_ns=1))
    solo.step(WorkerStarted())
    solo.step(RoleAssigned(role=Role.MIXED, draining=False))
    solo.fire("heartbeat")
    pool_of(solo.core)._fresh += 1
    assert len(ends(beat(solo, LIMITS.heartbeat_ns))) == 1
