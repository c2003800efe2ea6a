"""What a report says of a move, from what was measured."""

from dataclasses import replace
from typing import Any

from control_plane import MS, order_of, report_of
from splitweave.proto.move import MoveKind, MoveReport, Stage


def report(**changes: Any) -> MoveReport:
    return report_of(order_of("r", "a", "b", MoveKind.MIGRATION), **changes)


def test_its_stages_and_its_wall_time_are_measured_apart() -> None:
    whole = report(reserve_ns=1, copy_ns=2, handover_ns=4)
    assert (whole.stages_ns, whole.wall_ns) == (7, 7)
    short = replace(whole, copy_ns=1)
    assert (short.stages_ns, short.wall_ns) == (6, 7)


def test_shares_and_bandwidth_of_nothing_are_zero() -> None:
    empty = report(transfer_bytes=0, hidden_bytes=0, outcome=Stage.ABORTED)
    assert (empty.hidden_share, empty.bytes_per_s) == (0.0, 0.0)


def test_bandwidth_is_per_second_of_flight() -> None:
    moved = report(transfer_bytes=3_000, hidden_bytes=1_500, flight_ns=2 * MS)
    assert (moved.hidden_share, moved.bytes_per_s) == (0.5, 1_500_000.0)
