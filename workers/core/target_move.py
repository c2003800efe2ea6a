"""What the target knows of one move."""

from dataclasses import dataclass, field

from ...proto.ids import BlockId, MoveId, WorkerKey
from ...proto.move import Stage
from ...proto.requests import Request
from ...proto.worker_events import AbortAcked, HandoverOffered, MoveAborted
from .letters import Lease


@dataclass(slots=True, eq=False)
class TargetMove:
    """The target's half of one move. `hits + leased` is the block table."""

    lease: Lease
    request: Request
    hits: tuple[BlockId, ...]
    leased: tuple[BlockId, ...]
    progress_ns: int
    stage: Stage = Stage.RESERVE
    landed: dict[str, None] = field(default_factory=dict)
    offer: HandoverOffered | None = None

    @property
    def move_id(self) -> MoveId:
        return self.lease.move_id

    @property
    def source(self) -> WorkerKey:
        return self.lease.source

    @property
    def table(self) -> tuple[BlockId, ...]:
        return self.hits + self.leased

    @property
    def open(self) -> bool:
        return self.stage in (Stage.COPY, Stage.HANDOVER)

    def covered_by(self, event: MoveAborted | AbortAcked) -> bool:
        """Whether the source speaks of this lease: of it, or of a later one of the move."""
        return self.source == event.peer and self.lease.number <= event.lease

    @property
    def complete(self) -> bool:
        """Whether the source has stopped and every one of its copies is here."""
        offer = self.offer
        return offer is not None and all(copy_id in self.landed for copy_id in offer.copies)
