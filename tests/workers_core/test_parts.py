"""A copy between groups of ranks ends once, and only as all of its parts say."""

import random

import pytest
from splitweave.proto.ids import BlockId, Incarnation, MoveId, WorkerId, WorkerKey
from splitweave.proto.move import Copy
from splitweave.proto.worker_events import BlocksLanded, CopyFailed, CopySent
from splitweave.workers.core.head_ranges import exchanges
from splitweave.workers.core.parts import (
    LandingParts,
    PartsFull,
    SendingParts,
    exchange_of,
    part_of,
)

PLAN = exchanges(5, 2, 4)  # 0-0, 0-1, 1-2, 1-3


def copy_of(name: str) -> Copy:
    return Copy(
        copy_id=name,
        move_id=MoveId("m#1"),
        lease=1,  # ids of others may hold any character
        target=WorkerKey(WorkerId("b"), Incarnation(1)),
        first_layer=0,
        last_layer=2,
        source_blocks=(BlockId(1),),
        target_blocks=(BlockId(2),),
    )


def landed(part: Copy, transfer_bytes: int = 10) -> BlocksLanded:
    return BlocksLanded(copy_id=part.copy_id, move_id=part.move_id, transfer_bytes=transfer_bytes)


def sent(part: Copy, transfer_bytes: int = 10) -> CopySent:
    return CopySent(copy_id=part.copy_id, move_id=part.move_id, transfer_bytes=transfer_bytes)


def failed(part: Copy, reason: str) -> CopyFailed:
    return CopyFailed(copy_id=part.copy_id, move_id=part.move_id, reason=reason)


def test_a_copy_has_landed_with_its_last_part_in_any_order() -> None:
    for seed in range(20):
        landing = LandingParts(copies_max=4)
        copy = copy_of("move/0#x")
        parts = list(landing.open(copy, PLAN))
        random.Random(seed).shuffle(parts)
        *others, last = parts
        assert [landing.ended(landed(part)) for part in others] == [None] * 3
        assert landing.ended(landed(last)) == landed(copy, 40)
        assert len(landing) == 0


def test_a_part_that_lands_twice_counts_once() -> None:
    landing = LandingParts(copies_max=4)
    first, second, third, fourth = landing.open(copy_of("c"), PLAN)
    for part in (first, first, second, second, third, third):
        assert landing.ended(landed(part)) is None
    assert landing.ended(landed(fourth)) == landed(copy_of("c"), 40)
    assert landing.ended(landed(fourth)) is None


def test_one_failed_part_fails_the_landing_at_once_and_the_rest_is_ignored() -> None:
    landing = LandingParts(copies_max=4)
    first, second, third, fourth = landing.open(copy_of("c"), PLAN)
    assert landing.ended(landed(first)) is None
    assert landing.ended(failed(second, "peer died")) == failed(copy_of("c"), "peer died")
    assert [landing.ended(landed(part)) for part in (third, fourth)] == [None, None]
    assert len(landing) == 0


def test_a_failed_source_waits_for_its_last_part_and_keeps_the_first_reason() -> None:
    sending = SendingParts(copies_max=4)
    first, second, third, fourth = sending.open(copy_of("c"), PLAN)
    assert sending.ended(failed(first, "cut")) is None
    assert sending.ended(sent(second)) is None
    assert sending.ended(failed(third, "also cut")) is None
    assert sending.ended(sent(fourth)) == failed(copy_of("c"), "cut")


def test_a_source_has_sent_with_its_last_part() -> None:
    sending = SendingParts(copies_max=4)
    *others, last = sending.open(copy_of("c"), PLAN)
    assert [sending.ended(sent(part)) for part in others] == [None] * 3
    assert sending.ended(sent(last)) == sent(copy_of("c"), 40)


def test_a_lost_rank_fails_the_copies_that_wait_for_it_and_no_others() -> None:
    landing = LandingParts(copies_max=4)
    landing.open(copy_of("c"), PLAN)
    done = landing.open(copy_of("d"), PLAN)
    landing.ended(landed(done[2]))
    assert landing.rank_lost(2) == [failed(copy_of("c"), "rank 2 is lost")]
    assert len(landing) == 1
    assert landing.rank_lost(7) == []


def test_a_lost_source_rank_ends_only_its_own_parts() -> None:
    sending = SendingParts(copies_max=4)
    first, second, _, _ = sending.open(copy_of("c"), PLAN)
    assert sending.rank_lost(1) == []  # rank 0 still writes
    assert sending.ended(sent(first)) is None
    assert sending.ended(sent(second)) == failed(copy_of("c"), "rank 1 is lost")


@pytest.mark.parametrize("kind", [LandingParts, SendingParts])
def test_more_copies_than_may_be_open_are_refused(kind: type[LandingParts | SendingParts]) -> None:
    parts = kind(copies_max=1)
    parts.open(copy_of("c"), PLAN)
    with pytest.raises(PartsFull, match=r"copies_max \(1\)"):
        parts.open(copy_of("d"), PLAN)


def test_ends_of_unknown_parts_change_nothing() -> None:
    landing = LandingParts(copies_max=1)
    landing.open(copy_of("c"), PLAN)
    for name in ("c", "c#9-9", "d#0-0", ""):
        assert landing.ended(landed(copy_of(name))) is None
    assert len(landing) == 1


def test_a_part_names_its_exchange() -> None:
    assert [exchange_of(part_of(copy_of("c#0-1"), each), PLAN) for each in PLAN] == list(PLAN)
    assert exchange_of(copy_of("c#1-0"), PLAN) is None
