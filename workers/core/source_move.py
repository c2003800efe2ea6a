"""What the source knows of one move, and what it reports of it at the end.

Its blocks:  [ present )[ issued: sent or in flight )[ not yet copied )
Its time:    asked -reserve-> opened -copy-> stopped -handover-> ended
"""

from dataclasses import dataclass, field

from ...proto.ids import BlockId, Epoch, WorkerKey
from ...proto.move import Copy, MoveKind, MoveOrder, MoveReport, Stage, advance
from .sequence import Sequence


@dataclass(slots=True, eq=False)
class SourceMove:
    """The source's half of one move. A block is copied at most once in a move."""

    order: MoveOrder
    sequence: Sequence
    stage: Stage = Stage.RESERVE
    lease: int = 0  # its number; 0: the target has not been asked yet
    asks: int = 0  # sent without an answer since the last one
    asked_blocks: int = 0  # 0: the target has not been asked yet
    target_blocks: tuple[BlockId, ...] = ()
    present: int = 0
    issued: int = 0
    copies: list[str] = field(default_factory=list)
    in_flight: dict[str, Copy] = field(default_factory=dict)
    abandoned: str = ""  # why the source runs on though the target may have committed
    reason: str = ""
    committed_epoch: Epoch | None = None
    transfer_bytes: int = 0
    hidden_bytes: int = 0
    repeats: int = 0  # letters said again because no answer came
    flight_ns: int = 0  # time with a copy in flight, up to the last end of one
    flown_ns: int = 0  # since when a copy is in flight, or its time is counted
    progress_ns: int = 0
    served: int = 0  # paced copies so far
    left: int | None = None  # blocks to copy when it was last served
    losing: bool = False  # paced, it would never end
    delayed_ns: int | None = None  # when the target said that it has no room yet
    drew_ns: int | None = None  # its first token, while it had no lease
    pulled: bool = False  # the lease was opened, when there was room, after that
    rides: bool = False  # copies of it wait for the iteration in flight
    asked_ns: int | None = None
    opened_ns: int | None = None
    stopped_ns: int | None = None
    ended_ns: int = 0

    @property
    def target(self) -> WorkerKey:
        return self.order.target

    @property
    def ended(self) -> bool:
        return self.stage in (Stage.COMMITTED, Stage.ABORTED)

    @property
    def computed_blocks(self) -> int:
        """Blocks with any KV in them, the last perhaps unfinished."""
        return self.sequence.blocks_for(self.sequence.computed)

    def open(self, blocks: tuple[BlockId, ...], present: int, now_ns: int) -> None:
        """The lease is there, or has been raised."""
        if self.stage is Stage.RESERVE:
            self.stage = advance(self.stage, Stage.COPY)
            self.present = self.issued = present
            self.opened_ns = self.progress_ns = now_ns
            self.pulled = self.drew_ns is not None
            self.delayed_ns = self.drew_ns = None
        if len(blocks) > len(self.target_blocks):
            self.target_blocks = blocks
            self.asks = 0

    def count_sent(self, sent_bytes: int, now_ns: int) -> None:
        """A copy has left; it was hidden if the source still computed the request (of a
        handoff: its prompt).
        """
        self.transfer_bytes += sent_bytes
        if self.stage is Stage.COPY and not self.pulled:
            self.hidden_bytes += sent_bytes
        self.progress_ns = now_ns

    def lost_ground(self) -> bool:
        """Whether more is left to copy than when it was served last."""
        left = self.computed_blocks - self.issued
        self.losing = self.left is not None and left > max(self.left, 1)
        self.left = left
        return self.losing

    def mark_start(self, now_ns: int) -> None:
        """The copy deadline, and the time in flight, count from the first copy in flight."""
        if not self.in_flight:
            self.progress_ns = self.flown_ns = now_ns

    def count_flight(self, now_ns: int) -> None:
        """A copy has ended, either way: something was in flight until now."""
        self.flight_ns += now_ns - self.flown_ns
        self.flown_ns = now_ns

    def handover_due(self, blocks_max: int) -> bool:
        """Whether to stop now: so little is left that the gap is short.

        A handoff stops with its first token, whose copies are under way by then.
        """
        sequence = self.sequence
        if self.stage is not Stage.COPY or sequence.in_flight:
            return False
        if len(self.target_blocks) < sequence.blocks_for(sequence.known):
            return False
        if self.order.kind is MoveKind.HANDOFF and sequence.drawn <= 1:
            return sequence.drawn == 1
        under_way = sum(len(copy.source_blocks) for copy in self.in_flight.values())
        return self.computed_blocks - self.issued + under_way <= blocks_max

    def end(self, stage: Stage, reason: str, now_ns: int) -> None:
        """Committed or aborted, for good."""
        self.stage = advance(self.stage, stage)
        self.reason = reason
        self.ended_ns = now_ns

    def report(self) -> MoveReport:
        """The account of an ended move; its epoch is the request's after it."""
        ended = self.ended_ns
        asked = ended if self.asked_ns is None else self.asked_ns
        opened = ended if self.opened_ns is None else self.opened_ns
        stopped = ended if self.stopped_ns is None else self.stopped_ns
        return MoveReport(
            move_id=self.order.move_id,
            kind=self.order.kind,
            request_id=self.order.request_id,
            epoch=self.committed_epoch or self.sequence.epoch,
            source=self.order.source,
            target=self.order.target,
            outcome=self.stage,
            reason=self.reason,
            blocks=self.issued - self.present,
            transfer_bytes=self.transfer_bytes,
            hidden_bytes=self.hidden_bytes,
            reserve_ns=opened - asked,
            copy_ns=stopped - opened,
            handover_ns=ended - stopped,
            asked_ns=asked,
            ended_ns=ended,
            flight_ns=self.flight_ns,
            copies=len(self.copies),
            repeats=self.repeats,
            pulled=self.pulled,
        )


def refusal(order: MoveOrder, epoch: Epoch, reason: str) -> MoveReport:
    """The report of a move that never began."""
    return MoveReport(
        move_id=order.move_id,
        kind=order.kind,
        request_id=order.request_id,
        epoch=epoch,
        source=order.source,
        target=order.target,
        outcome=Stage.ABORTED,
        reason=reason,
        blocks=0,
        transfer_bytes=0,
        hidden_bytes=0,
        reserve_ns=0,
        copy_ns=0,
        handover_ns=0,
        asked_ns=0,
        ended_ns=0,
    )
