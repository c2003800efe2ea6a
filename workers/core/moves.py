"""Both halves of every move of this worker, and which half a word is for."""

from ...proto.ids import MoveId, WorkerKey
from ...proto.worker_events import (
    AbortAcked,
    BlocksLanded,
    CopyFailed,
    CopySent,
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
from . import moves_source, moves_target, unheard
from .halves import Half, OpenHalf, open_halves, over
from .memory import EndedMoves
from .moves_source import SourceMoves
from .moves_target import TargetMoves

MOVE_TIMERS = (moves_source.TIMER, moves_target.TIMER, unheard.TIMER)


class Moves:
    """Away from this worker and to it. No move has both of its sides at one worker."""

    def __init__(self, sources: SourceMoves, targets: TargetMoves, ended: EndedMoves) -> None:
        self._sources = sources
        self._targets = targets
        self._ended = ended

    def hear(self, event: PeerEvent, now_ns: int) -> None:
        """A peer speaks about a move."""
        sources, targets = self._sources, self._targets
        if isinstance(event, MoveAborted | AbortAcked | MoveCommitted):
            sources.unheard.heard(event)
        match event:
            case LeaseAsked():
                targets.asked(event, now_ns)
            case HandoverOffered():
                targets.offered(event, now_ns)
            case LeaseOpened():
                sources.opened(event, now_ns)
            case LeaseRefused():
                sources.refused(event, now_ns)
            case MoveCommitted():
                sources.committed(event, now_ns)
            case MoveAborted() if sources.knows(event.move_id):
                sources.aborted(event, now_ns)
            case MoveAborted():
                targets.aborted(event, now_ns)
            case AbortAcked() if sources.knows(event.move_id):
                sources.acked(event, now_ns)
            case AbortAcked():
                targets.acked(event, now_ns)
            case FetchAsked() | FetchOffered() | FetchGranted() | FetchRefused():
                raise AssertionError(f"a fetch's word was not taken: {event}")

    def copy_ended(self, event: CopySent | CopyFailed | BlocksLanded, now_ns: int) -> None:
        """A copy has left here, has landed here, or has come to nothing on one of the sides."""
        match event:
            case CopySent():
                self._sources.copy_sent(event.copy_id, event.transfer_bytes, now_ns)
            case CopyFailed() if self._targets.knows(event.move_id):
                self._targets.copy_failed(event, now_ns)
            case CopyFailed():
                self._sources.copy_failed(event.copy_id, event.reason, now_ns)
            case BlocksLanded():
                self._targets.landed(event, now_ns)

    def tick(self, kind: str, move_id: MoveId, now_ns: int) -> None:
        """One of `MOVE_TIMERS`."""
        if kind == moves_source.TIMER:
            self._sources.tick(move_id, now_ns)
        elif kind == moves_target.TIMER:
            self._targets.tick(move_id, now_ns)
        else:
            self._sources.unheard.tick(move_id, now_ns)

    def peer_lost(self, key: WorkerKey, now_ns: int) -> None:
        """That incarnation is dead."""
        self._sources.peer_lost(key, now_ns)
        self._targets.peer_lost(key, now_ns)

    def halves(self) -> dict[MoveId, OpenHalf]:
        """Its half of every move that is not over."""
        return open_halves(self._sources.moves.values(), self._targets.moves.values())

    def half(self, move_id: MoveId) -> Half:
        """Its half of one move, be it over or unknown."""
        known = self.halves().get(move_id)
        return over(move_id, self._ended) if known is None else known.half

    def check(self) -> None:
        """Integrity of both halves."""
        self._sources.check()
        self._targets.check()
        both = [move_id for move_id in self._sources.moves if move_id in self._targets.moves]
        assert not both, f"both sides of {both} are here"
