"""Counters of KV moves, in Prometheus' text format.

Names carry their units. `reason` is a class of reasons, not the text: ids in it
would make a series each.
"""

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from ...proto.move import MoveReport

SECONDS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
# The first that is found in a report's reason names its class.
REASONS = {
    "no copy ended": "copy_timeout",
    "copy failed": "copy_failed",
    "no commit": "handover_timeout",
    "no progress": "lease_expired",
    "no answer": "lease_unanswered",
    "not available": "target_full",
    "slot": "target_full",
    "leases already": "target_full",
    "draining": "target_draining",
    "is dead": "target_dead",
    "finished": "request_ended",
    "stream has ended": "request_ended",
    "cancelled": "request_ended",
    "preempted": "preempted",
    "unknown request": "unknown_request",
}


class MoveMetrics:
    """One process's counters of moves: every process has its own registry."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        labels = ("kind", "outcome", "reason")
        self._moves = Counter(
            "splitweave_moves", "KV moves that ended.", labels, registry=self.registry
        )
        self._bytes = Counter(
            "splitweave_move_bytes", "KV bytes sent by moves.", ("kind",), registry=self.registry
        )
        self._hidden = Counter(
            "splitweave_move_hidden_bytes",
            "KV bytes sent while the source still computed the request.",
            ("kind",),
            registry=self.registry,
        )
        self._repeats = Counter(
            "splitweave_move_repeats",
            "Asks, offers and aborts said again because no answer came.",
            ("kind",),
            registry=self.registry,
        )
        self._seconds = Histogram(
            "splitweave_move_stage_seconds",
            "Seconds in each stage of a move.",
            ("kind", "stage"),
            buckets=SECONDS,
            registry=self.registry,
        )

    def observe(self, report: MoveReport) -> None:
        """A move has ended."""
        kind = str(report.kind)
        self._moves.labels(kind, str(report.outcome), reason_class(report.reason)).inc()
        self._bytes.labels(kind).inc(report.transfer_bytes)
        self._hidden.labels(kind).inc(report.hidden_bytes)
        self._repeats.labels(kind).inc(report.repeats)
        for stage in ("reserve", "copy", "handover"):
            seconds = getattr(report, f"{stage}_ns") / 1e9
            self._seconds.labels(kind, stage).observe(seconds)

    def text(self) -> str:
        """All of it, as a scrape wants it."""
        return generate_latest(self.registry).decode()


def reason_class(reason: str) -> str:
    """Which of the known reasons it is; empty for a commit."""
    found = (name for text, name in REASONS.items() if text in reason)
    return next(found, "other") if reason else ""
