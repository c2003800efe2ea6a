"""Both halves of every prefix fetch of this worker, and which half a word is for."""

from collections.abc import Iterator

from ...proto.ids import BlockId, MoveId, WorkerKey
from ...proto.move import FetchPlan
from ...proto.worker_events import (
    AbortAcked,
    BlocksLanded,
    CopyFailed,
    CopySent,
    FetchAsked,
    FetchGranted,
    FetchOffered,
    FetchRefused,
    MoveAborted,
    MoveCommitted,
    PeerEvent,
)
from . import fetches_source, fetches_target
from .copies import KvShape
from .fetches_source import SourceFetches
from .fetches_target import TargetFetches
from .halves import OpenHalf, fetch_halves
from .limits import WorkerLimits
from .memory import EndedMoves
from .outbox import Outbox
from .scheduler import Scheduler
from .sequence import Sequence

FETCH_TIMERS = (fetches_source.TIMER, fetches_target.TIMER)


class Fetches:
    """To this worker and from it. What is about no fetch is left to the moves."""

    def __init__(
        self,
        limits: WorkerLimits,
        key: WorkerKey,
        model: KvShape,
        scheduler: Scheduler,
        ended: EndedMoves,
        out: Outbox,
    ) -> None:
        self._sources = SourceFetches(limits, key, model, scheduler.blocks, ended, out)
        self._targets = TargetFetches(limits, key, scheduler, ended, out)

    def begin(self, sequence: Sequence, plan: FetchPlan, now_ns: int) -> None:
        """A request has come with a plan where its prefix is."""
        self._targets.begin(sequence, plan, now_ns)

    def hear(self, event: PeerEvent, now_ns: int) -> bool:
        """Whether a peer's word was about a fetch; it has been taken then."""
        sources, targets = self._sources, self._targets
        match event:
            case FetchAsked():
                sources.asked(event, now_ns)
            case FetchOffered():
                targets.offered(event, now_ns)
            case FetchGranted():
                sources.granted(event, now_ns)
            case FetchRefused():
                targets.refused(event, now_ns)
            case MoveCommitted() if sources.knows(event.move_id):
                sources.committed(event, now_ns)
            case MoveAborted() if sources.knows(event.move_id):
                sources.aborted(event, now_ns)
            case MoveAborted() if targets.knows(event.move_id):
                targets.aborted(event, now_ns)
            case AbortAcked() if targets.knows(event.move_id):
                targets.acked(event, now_ns)
            case _:
                return False
        return True

    def copy_ended(self, event: CopySent | CopyFailed | BlocksLanded, now_ns: int) -> bool:
        """Whether a copy's end was of a fetch; it has been taken then."""
        sources, targets = self._sources, self._targets
        match event:
            case CopySent() if sources.knows(event.move_id):
                sources.copy_sent(event, now_ns)
            case CopyFailed() if sources.knows(event.move_id):
                sources.copy_failed(event, now_ns)
            case CopyFailed() if targets.knows(event.move_id):
                targets.copy_failed(event, now_ns)
            case BlocksLanded() if targets.knows(event.move_id):
                targets.landed(event)
            case _:
                return False
        return True

    def tick(self, kind: str, move_id: MoveId, now_ns: int) -> None:
        """One of `FETCH_TIMERS`."""
        half = self._sources if kind == fetches_source.TIMER else self._targets
        half.tick(move_id, now_ns)

    def peer_lost(self, key: WorkerKey, now_ns: int) -> None:
        """That incarnation is dead."""
        self._sources.peer_lost(key, now_ns)
        self._targets.peer_lost(key, now_ns)

    def arriving(self, sequence: Sequence) -> bool:
        """Whether a fetch that is under way will end the request's wait."""
        return self._targets.knows(MoveId(sequence.arriving))

    @property
    def giving(self) -> bool:
        """Whether a peer fetches from here. One that takes has a request that waits."""
        return bool(self._sources.fetches)

    def halves(self) -> dict[MoveId, OpenHalf]:
        """Its half of every fetch that is not over."""
        return fetch_halves(self._sources.fetches.values(), self._targets.fetches.values())

    def held_blocks(self) -> Iterator[BlockId]:
        """Each block once per copy or open fetch that holds it."""
        yield from self._sources.held_blocks()
        yield from self._targets.shared_blocks()

    def lent_blocks(self) -> Iterator[BlockId]:
        """Blocks that a source may write."""
        return self._targets.lent_blocks()

    def awaited(self) -> tuple[WorkerKey, ...]:
        """Who may still write to blocks of fetches that were given up."""
        return self._targets.awaited()

    def check(self) -> None:
        """Integrity of both halves."""
        self._sources.check()
        self._targets.check()
