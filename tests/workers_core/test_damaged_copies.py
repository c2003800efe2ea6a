"""A copy that arrives damaged ends its move at once, by the target's word, and costs no token."""

from collections.abc import Callable

import pytest
from fleet import Fleet
from parts import LIMITS, MS, Network
from solo import Solo
from splitweave.proto.effects import CloseLease
from splitweave.proto.move import Stage
from splitweave.proto.worker_events import CopyFailed, MoveAborted
from target_stages import ABORTED, ACKED, M1, committed, land, leasing, lent, offered, peer_words


def damage(solo: Solo, copy_id: str = "m1/1.1") -> None:
    solo.step(CopyFailed(copy_id=copy_id, move_id=M1, reason="marker: wrong checksum"))


@pytest.mark.parametrize("stage", [leasing, offered])
def test_the_target_closes_its_lease_at_once_and_says_why(stage: Callable[[], Solo]) -> None:
    solo = stage()
    damage(solo)
    words = solo.sent(MoveAborted)
    assert [word.reason for word in words] == ["copy failed: marker: wrong checksum"]
    assert solo.ordered(CloseLease) == [CloseLease(move_id=M1, lease=1)]


@pytest.mark.parametrize("stage", [leasing, offered])
def test_the_blocks_stay_in_quarantine_until_the_source_lets_go(stage: Callable[[], Solo]) -> None:
    """The damaged copy has ended; others may still be under way."""
    solo = stage()
    damage(solo)
    assert lent(solo) == (0, 5)
    solo.fire("target_move", M1, LIMITS.lease_ask_ns)
    assert peer_words(solo) == ["MoveAborted"]
    solo.step(ACKED)
    assert lent(solo) == (0, 0)


def test_a_damaged_copy_of_a_closed_lease_changes_nothing() -> None:
    solo = leasing()
    solo.step(ABORTED)
    damage(solo)
    assert solo.effects == []
    assert lent(solo) == (0, 5)


def test_a_late_double_of_the_end_of_a_landed_copy_changes_nothing() -> None:
    solo = leasing()
    land(solo, "m1/1.0")
    damage(solo, "m1/1.0")
    assert solo.effects == []
    assert lent(solo) == (5, 0)


def test_after_the_commit_no_copy_fails() -> None:
    solo = committed()
    damage(solo)
    assert solo.effects == []
    assert solo.phase("r") == "decode"


@pytest.mark.parametrize("damaged", range(6))
@pytest.mark.parametrize("kind", ["handoff", "migration"])
def test_the_source_goes_on_long_before_any_timer(kind: str, damaged: int) -> None:
    fleet = Fleet("ab", network=Network(damaged=(f"m1/1.{damaged}",)))
    fleet.run(10 * MS)
    began_ns = fleet.now_ns
    fleet.ask("a", "r", list(range(38)), 24, handoff="b" if kind == "handoff" else None)
    if kind == "migration":
        fleet.run(6 * MS)
        began_ns = fleet.now_ns
        fleet.migrate("r", "a", "b")
    fleet.run(until=lambda: bool(fleet.reports))
    report = fleet.reports[0]
    if report.copies <= damaged:  # it has ended without that copy
        assert report.outcome is Stage.COMMITTED
        return
    assert (report.outcome, report.reason) == (
        Stage.ABORTED,
        "copy failed: marker: wrong checksum",
    )
    assert fleet.now_ns - began_ns < LIMITS.lease_ask_ns // 4
    assert report.handover_ns < LIMITS.lease_ask_ns // 4
    fleet.run_until_done()
    stream = fleet.streams["r"]
    assert stream.text == stream.expected
    fleet.run(20 * MS)
    fleet.assert_empty()
