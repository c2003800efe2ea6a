"""Copies of migrations beside decoding: one at a time, then a rest in proportion."""

from dataclasses import replace

import pytest
from fleet import Fleet
from parts import LIMITS, MS
from solo import Solo, handoff_of
from splitweave.proto.effects import CopyBlocks, SetTimer
from splitweave.proto.move import MoveKind, Stage
from splitweave.proto.views import Role
from splitweave.proto.worker_events import (
    CopyFailed,
    CopySent,
    MoveOrdered,
    RoleAssigned,
)
from splitweave.workers.core.pace import TIMER

# 20 %: a copy of 1 ms is followed by 4 ms of rest. A block weighs 100 bytes.
PACED = replace(LIMITS, copy_percent=20, drain_copy_percent=50, paced_copy_bytes=250)


def moving(prompt: int = 30, names: str = "r") -> Solo:
    """Decoding requests whose migrations have their leases."""
    solo = Solo(PACED, blocks=64)
    for name in names:
        solo.assign(name, prompt, 40)
    while any(solo.held(name).output_tokens < 1 for name in names):
        solo.iterate()
    for name in names:
        solo.step(MoveOrdered(order=handoff_of(name, f"m-{name}", MoveKind.MIGRATION)))
    return solo


def sent(solo: Solo, after_ns: int = 1 * MS) -> None:
    """The one copy in flight ends, so long after the step before."""
    (copy,) = solo.copies
    event = CopySent(copy_id=copy.copy_id, move_id=copy.move_id, transfer_bytes=200)
    solo.step(event, after_ns)


def test_a_copy_is_of_whole_blocks_up_to_its_weight() -> None:
    solo = moving()
    solo.open_lease(16, move_id="m-r")
    assert [len(copy.source_blocks) for copy in solo.copies] == [2]


def test_after_a_copy_comes_a_rest_in_proportion_to_the_time_it_took() -> None:
    solo = moving()
    solo.open_lease(16, move_id="m-r")
    sent(solo)
    assert solo.ordered(CopyBlocks) == []
    assert SetTimer(TIMER, solo.now_ns + 4 * MS) in solo.effects
    solo.fire("pace", after_ns=4 * MS - 1)
    assert solo.ordered(CopyBlocks) == []
    solo.fire("pace", after_ns=1)
    assert len(solo.ordered(CopyBlocks)) == 1


def test_an_iteration_that_ends_within_the_rest_starts_no_copy() -> None:
    solo = moving()
    solo.open_lease(16, move_id="m-r")
    sent(solo)
    solo.iterate()
    assert solo.ordered(CopyBlocks) == []


def test_a_slow_copy_makes_the_rest_long() -> None:
    solo = moving()
    solo.open_lease(16, move_id="m-r")
    sent(solo, after_ns=30 * MS)
    assert SetTimer(TIMER, solo.now_ns + 120 * MS) in solo.effects


def test_a_failed_copy_is_followed_by_a_rest_as_well() -> None:
    solo = moving()
    solo.open_lease(16, move_id="m-r")
    (copy,) = solo.copies
    solo.step(CopyFailed(copy_id=copy.copy_id, move_id=copy.move_id, reason="cut"), 1 * MS)
    assert SetTimer(TIMER, solo.now_ns + 4 * MS) in solo.effects


def test_two_migrations_share_the_pace_in_turns() -> None:
    solo = moving(names="rs")
    solo.open_lease(16, move_id="m-r")
    (copy,) = solo.copies
    served = [copy]
    solo.open_lease(16, move_id="m-s", lease=2)
    assert solo.ordered(CopyBlocks) == []
    for _ in range(3):
        copy = served[-1]
        ended = CopySent(copy_id=copy.copy_id, move_id=copy.move_id, transfer_bytes=200)
        solo.step(ended, 1 * MS)
        solo.fire("pace", after_ns=5 * MS)
        served += solo.copies
    assert [copy.move_id for copy in served] == ["m-r", "m-s", "m-r", "m-s"]


def test_a_draining_worker_rests_less() -> None:
    solo = moving()
    solo.step(RoleAssigned(role=Role.DECODE, draining=True))
    solo.open_lease(16, move_id="m-r")
    sent(solo)
    assert SetTimer(TIMER, solo.now_ns + 1 * MS) in solo.effects


def test_without_decodes_nobody_needs_to_be_spared() -> None:
    """A request between two chunks of its prefill: its blocks go as flight allows."""
    solo = Solo(PACED)
    solo.assign("r", 40, 9)
    solo.iterate()
    solo.migrate("r")
    solo.open_lease(16)
    assert [len(copy.source_blocks) for copy in solo.copies] == [4]


@pytest.mark.parametrize("percent", [5, 30, 100])
@pytest.mark.parametrize("iteration_ns", [1 * MS, 20 * MS])
def test_a_paced_migration_ends_also_if_blocks_fill_faster_than_it_may_copy(
    percent: int, iteration_ns: int
) -> None:
    limits = replace(PACED, copy_percent=percent)
    fleet = Fleet("ab", limits, blocks=128)
    fleet.iteration_ns = iteration_ns
    fleet.network.copy_ns = 1 * MS
    fleet.ask("a", "r", list(range(80)), 300)
    fleet.run(20 * iteration_ns)
    fleet.migrate("r", "a", "b")
    fleet.run(until=lambda: bool(fleet.reports))
    (report,) = fleet.reports
    assert report.outcome is Stage.COMMITTED
    if iteration_ns == 20 * MS and percent < 100:
        assert report.flight_ns <= report.wall_ns * percent / 100 + 3 * MS
