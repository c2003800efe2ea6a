"""What the two sides of a move say to each other; who decides it is elsewhere."""

from dataclasses import replace
from typing import NamedTuple

from ...proto.ids import BlockId, Epoch, MoveId, WorkerKey
from ...proto.worker_events import (
    AbortAcked,
    FetchAsked,
    FetchGranted,
    FetchOffered,
    FetchRefused,
    HandoverOffered,
    LeaseAsked,
    LeaseOpened,
    LeaseRefused,
    MoveAborted,
    MoveCommitted,
    PeerEvent,
)
from .outbox import Outbox
from .source_move import SourceMove


class Lease(NamedTuple):
    """One lease of a move (of a fetch: one offer), and the move's source."""

    move_id: MoveId
    number: int
    source: WorkerKey


class SourceLetters:
    """A source's words to the targets of its moves."""

    def __init__(self, key: WorkerKey, out: Outbox) -> None:
        self._key = key
        self._out = out

    def ask(self, move: SourceMove) -> None:
        """For blocks that hold all known tokens and the next one."""
        sequence = move.sequence
        move.asks += 1
        move.asked_blocks = sequence.blocks_for(sequence.known + 1)
        emitted = tuple([token.token_id for token in sequence.outputs])
        asked = LeaseAsked(
            move_id=move.order.move_id,
            lease=move.lease,
            kind=move.order.kind,
            source=self._key,
            request=replace(sequence.request, emitted=emitted, epoch=sequence.epoch),
            hashes=tuple(sequence.hashes),
            blocks=move.asked_blocks,
        )
        self._out.to_worker(move.target, asked)

    def offer(self, move: SourceMove) -> None:
        """All that the target needs to go on, once every copy is there."""
        offered = HandoverOffered(
            move_id=move.order.move_id,
            lease=move.lease,
            source=self._key,
            emitted=tuple(move.sequence.outputs),
            computed=move.sequence.computed,
            copies=tuple(move.copies),
            cached_tokens=move.sequence.cached_tokens or 0,
        )
        self._out.to_worker(move.target, offered)

    def abort(self, move: SourceMove, reason: str) -> None:
        """The source gives up, or asks for the outcome after a handover."""
        aborted = MoveAborted(
            move_id=move.order.move_id, lease=move.lease, peer=self._key, reason=reason
        )
        self._out.to_worker(move.target, aborted)

    def ack(self, move_id: MoveId, lease: int, target: WorkerKey) -> None:
        """No copy for that lease is in flight, and none will start."""
        self._out.to_worker(target, AbortAcked(move_id=move_id, lease=lease, peer=self._key))

    def disown(self, opened: LeaseOpened) -> None:
        """A lease for a move, or for a life of one, that has ended here and copies nothing."""
        aborted = MoveAborted(
            move_id=opened.move_id,
            lease=opened.lease,
            peer=self._key,
            reason="ended at the source",
        )
        self._out.to_worker(opened.target, aborted)
        self.ack(opened.move_id, opened.lease, opened.target)


class TargetLetters:
    """A target's words to the sources of its moves."""

    def __init__(self, key: WorkerKey, out: Outbox) -> None:
        self._key = key
        self._out = out

    def opened(self, lease: Lease, blocks: tuple[BlockId, ...], present: int) -> None:
        """The block table of the lease as it is now."""
        opened = LeaseOpened(
            move_id=lease.move_id,
            lease=lease.number,
            target=self._key,
            blocks=blocks,
            present=present,
        )
        self._out.to_worker(lease.source, opened)

    def refused(self, lease: Lease, reason: str) -> None:
        """No lease, or no more of it."""
        refused = LeaseRefused(
            move_id=lease.move_id, lease=lease.number, target=self._key, reason=reason
        )
        self._out.to_worker(lease.source, refused)

    def delayed(self, lease: Lease, reason: str) -> None:
        """No lease yet."""
        refused = LeaseRefused(
            move_id=lease.move_id,
            lease=lease.number,
            target=self._key,
            reason=reason,
            delayed=True,
        )
        self._out.to_worker(lease.source, refused)

    def aborted(self, lease: Lease, reason: str) -> None:
        """The lease is closed; the source shall say when it has let go."""
        aborted = MoveAborted(
            move_id=lease.move_id, lease=lease.number, peer=self._key, reason=reason
        )
        self._out.to_worker(lease.source, aborted)

    def acked(self, lease: Lease) -> None:
        """The abort was heard, and nothing was committed."""
        acked = AbortAcked(move_id=lease.move_id, lease=lease.number, peer=self._key)
        self._out.to_worker(lease.source, acked)

    def committed(self, lease: Lease, epoch: Epoch) -> None:
        """The request runs here."""
        committed = MoveCommitted(
            move_id=lease.move_id, lease=lease.number, target=self._key, epoch=epoch
        )
        self._out.to_worker(lease.source, committed)


def sender(event: PeerEvent) -> WorkerKey:
    """Whose word it is."""
    match event:
        case LeaseAsked() | HandoverOffered():
            return event.source
        case LeaseOpened() | LeaseRefused() | MoveCommitted():
            return event.target
        case FetchAsked() | FetchGranted():
            return event.target
        case FetchOffered() | FetchRefused():
            return event.source
        case MoveAborted() | AbortAcked():
            return event.peer
