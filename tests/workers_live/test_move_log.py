"""One line per ended move, of `key=value` pairs a program can split."""

import shlex

from control_plane import order_of, report_of
from splitweave.proto.move import MoveKind, Stage
from splitweave.workers.live.move_log import log_line

ORDER = order_of("r1", "p0", "d0", MoveKind.HANDOFF)


def test_the_line_has_all_of_the_report_and_its_stages_add_up() -> None:
    pairs = dict(word.split("=", 1) for word in shlex.split(log_line(report_of(ORDER))))
    assert (pairs["kind"], pairs["outcome"], pairs["reason"]) == ("handoff", "committed", "-")
    assert (pairs["bytes"], pairs["blocks"], pairs["hidden_share"]) == ("7000000", "7", "0.857")
    stages = [float(pairs[name]) for name in ("reserve_s", "copy_s", "handover_s")]
    assert sum(stages) == float(pairs["wall_s"])


def test_a_reason_with_spaces_is_one_value() -> None:
    line = log_line(report_of(ORDER, Stage.ABORTED, reason="no room at d0"))
    assert 'reason="no room at d0"' in line
    assert "\n" not in line
