"""Counters of moves: names with units, few labels, and sums that equal the reports."""

import pytest
from control_plane import MS, order_of, report_of
from prometheus_client.parser import text_string_to_metric_families
from splitweave.cluster.live.move_metrics import MoveMetrics, reason_class
from splitweave.proto.move import MoveKind, Stage

HANDOFF = order_of("r1", "p0", "d0", MoveKind.HANDOFF)


def samples(metrics: MoveMetrics) -> dict[tuple[str, ...], float]:
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(metrics.text())
        for sample in family.samples
    }


def test_bytes_and_seconds_are_those_of_the_reports() -> None:
    metrics = MoveMetrics()
    for _ in range(2):
        metrics.observe(report_of(HANDOFF, handover_ns=2 * MS))
    found = samples(metrics)
    assert found["splitweave_moves_total", "handoff", "committed", ""] == 2
    assert found["splitweave_move_bytes_total", "handoff"] == 14_000_000
    assert found["splitweave_move_hidden_bytes_total", "handoff"] == 12_000_000
    total = found["splitweave_move_stage_seconds_sum", "handoff", "handover"]
    assert total == pytest.approx(0.004)
    assert found["splitweave_move_stage_seconds_count", "handoff", "copy"] == 2


def test_an_abort_is_counted_under_its_class_of_reason() -> None:
    metrics = MoveMetrics()
    metrics.observe(report_of(HANDOFF, Stage.ABORTED, reason="9 blocks are not available"))
    assert samples(metrics)["splitweave_moves_total", "handoff", "aborted", "target_full"] == 1


@pytest.mark.parametrize(
    ("reason", "name"),
    [
        ("", ""),
        ("no copy ended for 2000 ns", "copy_timeout"),
        ("no answer to 10 asks for a lease", "lease_unanswered"),
        ("target d0#3 is dead", "target_dead"),
        ("something new", "other"),
    ],
)
def test_ids_and_numbers_of_a_reason_make_no_series_of_their_own(reason: str, name: str) -> None:
    assert reason_class(reason) == name
