"""What moves have taught about the link of each pair of workers.

Only time in which nothing but the link was waited for says something of it: a
migration's copying, and what a handoff sends after its prefill has ended.
"""

from dataclasses import dataclass, field

from ...proto.ids import WorkerId
from ...proto.move import MoveKind, MoveReport

NS_PER_S = 1_000_000_000
BYTES_MIN = 4096  # less says more about latency than about bandwidth


@dataclass(slots=True, kw_only=True)
class LinkEstimates:
    """Bytes per second per (source, target), smoothed; `default` where nothing is known."""

    default_bytes_per_s: float
    weight: float = 0.3  # of the newest move; 1 forgets all before, 0 never learns
    links_max: int = 65_536
    _learned: dict[tuple[WorkerId, WorkerId], float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.default_bytes_per_s <= 0:
            raise ValueError(f"default_bytes_per_s ({self.default_bytes_per_s}) must be above 0")
        if not 0 <= self.weight <= 1:
            raise ValueError(f"weight ({self.weight}) must lie in [0, 1]")

    def bytes_per_s(self, source: WorkerId, target: WorkerId) -> float:
        """The estimate for one direction of a pair."""
        return self._learned.get((source, target), self.default_bytes_per_s)

    def transfer_ns(self, source: WorkerId, target: WorkerId, transfer_bytes: float) -> float:
        """Nanoseconds that a copy of that size takes once it runs."""
        return transfer_bytes * NS_PER_S / self.bytes_per_s(source, target)

    def observe(self, report: MoveReport) -> None:
        """Learn from one ended move, committed or not."""
        if report.kind is MoveKind.HANDOFF:
            sent = report.transfer_bytes - report.hidden_bytes
            took_ns = report.handover_ns
        else:
            sent = report.transfer_bytes
            took_ns = report.copy_ns + report.handover_ns
        if sent < BYTES_MIN or took_ns <= 0:
            return
        pair = (report.source.worker_id, report.target.worker_id)
        measured = sent * NS_PER_S / took_ns
        before = self._learned.pop(pair, measured)
        self._learned[pair] = before + self.weight * (measured - before)
        while len(self._learned) > self.links_max:
            del self._learned[next(iter(self._learned))]
