"""No block is written from two sides: every way in, and every exemption."""

from typing import Any

import pytest
from sim_worlds import batch, chunk, key
from splitweave.proto.ids import BlockId, MoveId
from splitweave.proto.move import Copy
from splitweave.proto.views import Role, Speed, WorkerInfo
from splitweave.proto.worker_events import LeaseOpened
from splitweave.sim.errors import InvariantBroken
from splitweave.sim.inbound import Inbound, LeaseName

MOVE = MoveId("m")
OPEN, CLOSED = {(MOVE, 1)}, set[LeaseName]()
SOURCE = key("a")
INFO = WorkerInfo(
    key=key("b"), role=Role.DECODE, pool="p", node="n", pid=1, host="h", port=1, blocks_total=16,
    block_tokens=4, block_bytes=64, context_tokens_max=64,
    speed=Speed(iteration_ns=1.0, token_ns=1.0),
)  # fmt: skip


def _inbound(*, alive: bool = True) -> Inbound:
    return Inbound(INFO, lambda _: alive)


def _copy(*target_blocks: int, copy_id: str = "m/0") -> Copy:
    blocks = tuple(BlockId(b) for b in target_blocks)
    return Copy(
        copy_id=copy_id, move_id=MOVE, lease=1, target=INFO.key, first_layer=0, last_layer=1,
        source_blocks=blocks, target_blocks=blocks,
    )  # fmt: skip


def _writes(start: int, count: int, *table: int) -> Any:
    return batch(chunk((1,) * count, start, table))


@pytest.mark.parametrize("leases", [OPEN, CLOSED])
def test_an_iteration_may_not_write_where_a_copy_is_to_land(leases: set[LeaseName]) -> None:
    inbound = _inbound()
    inbound.expect(_copy(3), SOURCE, leases)
    with pytest.raises(InvariantBroken, match="block 3 while copy m/0 of move m from a#1"):
        inbound.begin_writes(_writes(0, 4, 3), leases)


@pytest.mark.parametrize(("start", "count"), [(0, 4), (3, 1), (8, 4)])
def test_reading_a_block_or_writing_another_is_no_harm(start: int, count: int) -> None:
    inbound = _inbound()
    inbound.expect(_copy(3), SOURCE, OPEN)
    inbound.begin_writes(_writes(start, count, 0, 3, 2), OPEN)


@pytest.mark.parametrize(("start", "count"), [(4, 1), (7, 1), (0, 5), (7, 5), (0, 12)])
def test_one_token_in_the_block_is_a_write(start: int, count: int) -> None:
    inbound = _inbound()
    inbound.expect(_copy(3), SOURCE, OPEN)
    with pytest.raises(InvariantBroken, match="writes block 3"):
        inbound.begin_writes(_writes(start, count, 0, 3, 2), OPEN)


def test_a_copy_may_not_set_out_for_a_block_under_computation() -> None:
    inbound = _inbound()
    inbound.begin_writes(_writes(0, 4, 3), OPEN)
    with pytest.raises(InvariantBroken, match="writes block 3"):
        inbound.expect(_copy(3), SOURCE, OPEN)


def test_a_copy_of_a_closed_lease_may_set_out_for_it_writes_nothing() -> None:
    inbound = _inbound()
    inbound.begin_writes(_writes(0, 4, 3), CLOSED)
    inbound.expect(_copy(3), SOURCE, CLOSED)


def test_blocks_are_free_again_when_the_copy_or_the_iteration_has_ended() -> None:
    inbound, copy = _inbound(), _copy(3)
    inbound.expect(copy, SOURCE, OPEN)
    inbound.forget(copy)
    inbound.forget(copy)
    inbound.begin_writes(_writes(0, 4, 3), OPEN)
    inbound.end_writes()
    inbound.expect(copy, SOURCE, OPEN)


def test_an_old_copys_end_does_not_free_what_a_newer_one_writes() -> None:
    inbound, older = _inbound(), _copy(3, 4)
    inbound.expect(older, SOURCE, OPEN)
    inbound.expect(_copy(4, copy_id="m/1"), SOURCE, OPEN)
    inbound.forget(older)
    inbound.begin_writes(_writes(0, 4, 3), OPEN)
    with pytest.raises(InvariantBroken, match="block 4 while copy m/1"):
        inbound.begin_writes(_writes(0, 4, 4), OPEN)


@pytest.mark.parametrize(
    ("alive", "fenced", "leases", "harmless"),
    [
        (True, False, CLOSED, False),  # it may still write
        (True, True, CLOSED, True),  # fenced: its writes go nowhere
        (True, True, OPEN, False),  # fenced, but the lease lets it in
        (False, False, OPEN, True),  # nobody is there to write
        (False, False, CLOSED, True),
    ],
)
def test_a_writer_is_harmless_only_dead_or_fenced_with_its_lease_closed(
    alive: bool, fenced: bool, leases: set[LeaseName], harmless: bool
) -> None:
    inbound = _inbound(alive=alive)
    inbound.expect(_copy(3), SOURCE, leases)
    if fenced:
        inbound.fence(SOURCE)
    try:
        inbound.begin_writes(_writes(0, 4, 3), leases)
    except InvariantBroken:
        assert not harmless
    else:
        assert harmless


def test_a_fence_is_for_one_life() -> None:
    inbound = _inbound()
    inbound.fence(SOURCE)
    inbound.expect(_copy(3), key("a", 2), CLOSED)
    with pytest.raises(InvariantBroken, match="from a#2"):
        inbound.begin_writes(_writes(0, 4, 3), CLOSED)


@pytest.mark.parametrize(("present", "breaks"), [(0, True), (1, True), (2, False)])
def test_only_the_blocks_that_a_lease_adds_must_be_idle(present: int, breaks: bool) -> None:
    inbound = _inbound()
    inbound.begin_writes(_writes(0, 4, 3), OPEN)
    blocks = (BlockId(9), BlockId(3), BlockId(5))
    lease = LeaseOpened(move_id=MOVE, lease=1, target=INFO.key, blocks=blocks, present=present)
    if breaks:
        with pytest.raises(InvariantBroken, match="block 3 is lent to move m"):
            inbound.check_lease(lease)
    else:
        inbound.check_lease(lease)


@pytest.mark.parametrize(("leases", "harmless"), [(CLOSED, True), (OPEN, False)])
def test_a_copy_on_the_wire_is_harmless_only_once_all_of_it_has_left_and_its_lease_is_closed(
    leases: set[LeaseName], harmless: bool
) -> None:
    inbound, copy = _inbound(), _copy(3)
    inbound.expect(copy, SOURCE, leases)
    inbound.left(copy)
    if harmless:
        inbound.begin_writes(_writes(0, 4, 3), leases)
    else:
        with pytest.raises(InvariantBroken, match="writes block 3"):
            inbound.begin_writes(_writes(0, 4, 3), leases)
