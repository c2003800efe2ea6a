"""The source's half of a prefix fetch: it lends a peer the sight of its cached blocks.

    RESERVE   the blocks are held by reference, and offered
    COPY      the target has granted blocks; copies set out as flight allows
    HANDOVER  every copy has left; the target says what became of them

No request runs here. Nothing is copied without a grant for this very offer: a late
double of an ask makes a new one. A fetch that ended stays until its copies in
flight have ended, because only then may the target use its blocks for anything else.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from ...proto.cluster_events import MoveEnded
from ...proto.effects import CopyBlocks
from ...proto.gateway_events import MoveReported
from ...proto.ids import BlockId, MoveId, WorkerKey
from ...proto.move import Copy, MoveKind, MoveReport, Stage, advance
from ...proto.timers import TimerKey
from ...proto.worker_events import (
    AbortAcked,
    CopyFailed,
    CopySent,
    FetchAsked,
    FetchGranted,
    FetchOffered,
    FetchRefused,
    MoveAborted,
    MoveCommitted,
)
from .blocks import BlockPool
from .copies import KvShape
from .limits import WorkerLimits
from .memory import EndedMoves
from .outbox import Outbox

TIMER = "fetch_source"


@dataclass(slots=True, eq=False, kw_only=True)
class SourceFetch:
    """Its copies in order: [ sent or in flight: issued )[ not yet )."""

    asked: FetchAsked
    offer: FetchOffered
    blocks: tuple[BlockId, ...]
    began_ns: int
    copies: tuple[Copy, ...] = ()  # once granted
    issued: int = 0
    in_flight: dict[str, Copy] = field(default_factory=dict)
    stage: Stage = Stage.RESERVE
    reason: str = ""
    waived: bool = False  # what was not copied by then has been let go
    transfer_bytes: int = 0
    repeats: int = 0
    granted_ns: int | None = None
    sent_ns: int | None = None
    ended_ns: int = 0

    @property
    def waiting(self) -> tuple[BlockId, ...]:
        """Blocks that are held and whose copies have not set out."""
        if self.waived:
            return ()
        if not self.copies:
            return self.blocks
        return tuple(block for copy in self.copies[self.issued :] for block in copy.source_blocks)

    @property
    def lease(self) -> int:
        """The number of what it has offered: a grant, and each copy, is for that."""
        return self.offer.offer

    @property
    def ended(self) -> bool:
        return self.stage in (Stage.COMMITTED, Stage.ABORTED)


class SourceFetches:
    """All fetches from this worker."""

    def __init__(
        self,
        limits: WorkerLimits,
        key: WorkerKey,
        model: KvShape,
        blocks: BlockPool,
        ended: EndedMoves,
        out: Outbox,
    ) -> None:
        self._limits = limits
        self._key = key
        self._model = model
        self._blocks = blocks
        self._ended = ended
        self._out = out
        self._offers = 0
        self.fetches: dict[MoveId, SourceFetch] = {}

    def knows(self, move_id: MoveId) -> bool:
        return move_id in self.fetches

    # ---- what the target says

    def asked(self, event: FetchAsked, now_ns: int) -> None:
        """Offers what is still cached of it; a double is answered as before."""
        fetch = self.fetches.get(event.move_id)
        if fetch is not None:
            if fetch.ended:
                self._abort(fetch, fetch.reason)
            else:
                self._out.to_worker(event.target, fetch.offer)
        elif event.move_id in self._ended:
            # Whatever was offered so far: none of it is copied.
            self._disown(event.move_id, self._offers, event.target)
        else:
            self._begin(event, now_ns)

    def granted(self, event: FetchGranted, now_ns: int) -> None:
        """Blocks are leased there: copies them. A grant for no offer of now is refused."""
        fetch = self._of(event.move_id, event.target)
        if fetch is None:
            self._disown(event.move_id, event.offer, event.target)
        elif fetch.stage is Stage.RESERVE and fetch.offer.offer == event.offer:
            fetch.stage = advance(fetch.stage, Stage.COPY)
            fetch.granted_ns = now_ns
            fetch.copies = self._copies(fetch, event.blocks)
            self._issue(fetch)

    def committed(self, event: MoveCommitted, now_ns: int) -> None:
        """The target has it all."""
        fetch = self._of(event.move_id, event.target)
        if fetch is None or fetch.lease != event.lease:
            return
        if fetch.stage in (Stage.COPY, Stage.HANDOVER):
            self._finish(fetch, Stage.COMMITTED, "", now_ns)

    def aborted(self, event: MoveAborted, now_ns: int) -> None:
        """The target has given up."""
        fetch = self._of(event.move_id, event.peer)
        if fetch is None:
            return
        if fetch.lease != event.lease:  # an earlier life of the fetch: it copies nothing any more
            self._ack(event.move_id, event.lease, event.peer)
        elif not fetch.ended:
            self._finish(fetch, Stage.ABORTED, event.reason, now_ns)

    def peer_lost(self, key: WorkerKey, now_ns: int) -> None:
        """Fetches to a dead target end."""
        for fetch in list(self.fetches.values()):
            if key.covers(fetch.asked.target) and not fetch.ended:
                self._finish(fetch, Stage.ABORTED, f"target {key} is dead", now_ns)

    # ---- what happens here

    def copy_sent(self, event: CopySent, now_ns: int) -> None:
        """A copy has left."""
        fetch = self.fetches[event.move_id]
        if not self._end_copy(fetch, event.copy_id):
            return
        fetch.transfer_bytes += event.transfer_bytes
        if fetch.ended:
            self._settle(fetch)
            return
        self._issue(fetch)
        if not fetch.in_flight:
            fetch.stage = advance(fetch.stage, Stage.HANDOVER)
            fetch.sent_ns = now_ns

    def copy_failed(self, event: CopyFailed, now_ns: int) -> None:
        """A copy did not make it: nor will the fetch."""
        fetch = self.fetches[event.move_id]
        if not self._end_copy(fetch, event.copy_id):
            return
        if fetch.ended:
            self._settle(fetch)
        else:
            reason = f"copy failed: {event.reason}"
            self._abort(fetch, reason)
            self._finish(fetch, Stage.ABORTED, reason, now_ns)

    def tick(self, move_id: MoveId, now_ns: int) -> None:
        """Repeats the offer; a target that never answers has given up, or has it all."""
        fetch = self.fetches.get(move_id)
        if fetch is None or fetch.ended:
            return
        if now_ns - fetch.began_ns >= 2 * self._limits.fetch_ns:
            self._abort(fetch, "no answer")
            self._finish(fetch, Stage.ABORTED, "no answer", now_ns)
            return
        fetch.repeats += 1
        self._out.to_worker(fetch.asked.target, fetch.offer)
        self._set_timer(fetch, now_ns)

    def _begin(self, event: FetchAsked, now_ns: int) -> None:
        blocks = self._blocks.lookup(event.hashes, len(event.hashes))
        busy = len(self.fetches) >= self._limits.moves_max
        if busy or not blocks:
            reason = f"{len(self.fetches)} fetches already" if busy else "not cached any more"
            self._ended.add(event.move_id)
            refused = FetchRefused(move_id=event.move_id, source=self._key, reason=reason)
            self._out.to_worker(event.target, refused)
            return
        self._blocks.hold(blocks)
        self._offers += 1
        count = -(-len(blocks) // self._limits.copy_blocks_max)
        offer = FetchOffered(
            move_id=event.move_id,
            source=self._key,
            offer=self._offers,
            blocks=len(blocks),
            copies=tuple([f"{event.move_id}/{self._offers}.{n}" for n in range(count)]),
        )
        fetch = SourceFetch(asked=event, offer=offer, blocks=blocks, began_ns=now_ns)
        self.fetches[event.move_id] = fetch
        self._out.to_worker(event.target, offer)
        self._set_timer(fetch, now_ns)

    def _copies(self, fetch: SourceFetch, there: tuple[BlockId, ...]) -> tuple[Copy, ...]:
        step = self._limits.copy_blocks_max
        return tuple(
            Copy(
                copy_id=copy_id,
                move_id=fetch.asked.move_id,
                lease=fetch.lease,
                target=fetch.asked.target,
                first_layer=0,
                last_layer=self._model.layers,
                source_blocks=fetch.blocks[number * step : (number + 1) * step],
                target_blocks=there[number * step : (number + 1) * step],
            )
            for number, copy_id in enumerate(fetch.offer.copies)
        )

    def _issue(self, fetch: SourceFetch) -> None:
        limit = self._limits.copies_in_flight_max
        while fetch.issued < len(fetch.copies) and len(fetch.in_flight) < limit:
            copy = fetch.copies[fetch.issued]
            fetch.issued += 1
            fetch.in_flight[copy.copy_id] = copy
            self._out.put(CopyBlocks(copy=copy))

    def _end_copy(self, fetch: SourceFetch, copy_id: str) -> bool:
        copy = fetch.in_flight.pop(copy_id, None)
        if copy is None:
            return False
        self._blocks.release(copy.source_blocks)
        return True

    # ---- letters

    def _abort(self, fetch: SourceFetch, reason: str) -> None:
        move_id, target = fetch.asked.move_id, fetch.asked.target
        aborted = MoveAborted(move_id=move_id, lease=fetch.lease, peer=self._key, reason=reason)
        self._out.to_worker(target, aborted)

    def _disown(self, move_id: MoveId, lease: int, target: WorkerKey) -> None:
        reason = "ended at the source"
        aborted = MoveAborted(move_id=move_id, lease=lease, peer=self._key, reason=reason)
        self._out.to_worker(target, aborted)
        self._ack(move_id, lease, target)

    def _ack(self, move_id: MoveId, lease: int, target: WorkerKey) -> None:
        self._out.to_worker(target, AbortAcked(move_id=move_id, lease=lease, peer=self._key))

    # ---- ends

    def _finish(self, fetch: SourceFetch, stage: Stage, reason: str, now_ns: int) -> None:
        if stage is Stage.COMMITTED and fetch.stage is Stage.COPY:
            fetch.stage = advance(fetch.stage, Stage.HANDOVER)  # landed before it was told sent
        fetch.stage = advance(fetch.stage, stage)
        fetch.reason, fetch.ended_ns = reason, now_ns
        self._blocks.release(fetch.waiting)
        fetch.waived = True
        self._out.clear_timer(TimerKey(TIMER, fetch.asked.move_id))
        self._settle(fetch)

    def _settle(self, fetch: SourceFetch) -> None:
        """Forgets an ended fetch once nothing of it is in flight, and reports it."""
        if fetch.in_flight:
            return
        del self.fetches[fetch.asked.move_id]
        self._ended.add(fetch.asked.move_id)
        if fetch.stage is Stage.ABORTED:
            self._ack(fetch.asked.move_id, fetch.lease, fetch.asked.target)
        report = self._report(fetch)
        self._out.to_controller(MoveEnded(report=report))
        self._out.to_gateway(fetch.asked.gateway_id, MoveReported(report=report))

    def _report(self, fetch: SourceFetch) -> MoveReport:
        asked = fetch.asked
        granted_ns = fetch.ended_ns if fetch.granted_ns is None else fetch.granted_ns
        sent_ns = fetch.ended_ns if fetch.sent_ns is None else fetch.sent_ns
        whole_bytes = len(fetch.blocks) * self._model.block_bytes
        committed = fetch.stage is Stage.COMMITTED  # and so all of it has crossed
        return MoveReport(
            move_id=asked.move_id,
            kind=MoveKind.FETCH,
            request_id=asked.request_id,
            epoch=asked.epoch,
            source=self._key,
            target=asked.target,
            outcome=fetch.stage,
            reason=fetch.reason,
            blocks=len(fetch.blocks),
            transfer_bytes=whole_bytes if committed else fetch.transfer_bytes,
            hidden_bytes=0,
            reserve_ns=granted_ns - fetch.began_ns,
            copy_ns=sent_ns - granted_ns,
            handover_ns=fetch.ended_ns - sent_ns,
            asked_ns=fetch.began_ns,
            ended_ns=fetch.ended_ns,
            flight_ns=sent_ns - granted_ns,
            copies=fetch.issued,
            repeats=fetch.repeats,
        )

    def _of(self, move_id: MoveId, target: WorkerKey) -> SourceFetch | None:
        fetch = self.fetches.get(move_id)
        return fetch if fetch is not None and fetch.asked.target == target else None

    def _set_timer(self, fetch: SourceFetch, now_ns: int) -> None:
        key = TimerKey(TIMER, fetch.asked.move_id)
        self._out.set_timer(key, now_ns + self._limits.lease_ask_ns)

    # ---- integrity

    def held_blocks(self) -> Iterator[BlockId]:
        """Each block once per copy that has not ended."""
        for fetch in self.fetches.values():
            for copy in fetch.in_flight.values():
                yield from copy.source_blocks
            yield from fetch.waiting

    def check(self) -> None:
        """Integrity: what has ended is there only for its copies in flight."""
        for move_id, fetch in self.fetches.items():
            assert fetch.in_flight or not fetch.ended, f"{move_id} ended and was not forgotten"
            done = fetch.stage is Stage.HANDOVER
            assert not done or not fetch.in_flight, f"{move_id} copies in its handover"
