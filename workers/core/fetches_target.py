"""The target's half of a prefix fetch: a waiting request's cached blocks come from a peer.

    RESERVE   the source is asked, by timer again
    COPY      it holds the blocks; as many are leased here, and it may copy
    HANDOVER  something has landed; when every copy has, they are committed
    ABORTED   the lease is closed; its blocks are in quarantine until the source says
              that it has no copy in flight, or is dead

The request waits, fetch_ns at most, and then computes what it does not have. What
came is in the prefix cache; the request finds it there as if it had been computed.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from ...proto.effects import CloseLease, OpenLease
from ...proto.ids import BlockId, MoveId, PrefixHash, WorkerKey
from ...proto.move import FetchPlan, Stage, advance
from ...proto.timers import TimerKey
from ...proto.worker_events import (
    AbortAcked,
    BlocksLanded,
    CopyFailed,
    FetchAsked,
    FetchGranted,
    FetchOffered,
    FetchRefused,
    MoveAborted,
)
from .letters import Lease, TargetLetters
from .limits import WorkerLimits
from .memory import EndedMoves
from .outbox import Outbox
from .scheduler import Scheduler
from .sequence import Sequence

TIMER = "fetch"


@dataclass(slots=True, eq=False, kw_only=True)
class TargetFetch:
    """`hits` lie before what is fetched in the prefix, and outlast the fetch."""

    plan: FetchPlan
    sequence: Sequence
    hashes: tuple[PrefixHash, ...]
    hits: tuple[BlockId, ...]
    began_ns: int
    leased: tuple[BlockId, ...] = ()
    stage: Stage = Stage.RESERVE
    landed: dict[str, None] = field(default_factory=dict)
    offer: FetchOffered | None = None

    @property
    def lease(self) -> Lease:
        """Of what it has granted; number 0 before."""
        number = 0 if self.offer is None else self.offer.offer
        return Lease(self.plan.move_id, number, self.plan.source)

    @property
    def open(self) -> bool:
        return self.stage is not Stage.ABORTED

    @property
    def complete(self) -> bool:
        """Whether every copy that the source has named is here."""
        offer = self.offer
        return offer is not None and all(copy_id in self.landed for copy_id in offer.copies)


class TargetFetches:
    """All fetches to this worker."""

    def __init__(
        self,
        limits: WorkerLimits,
        key: WorkerKey,
        scheduler: Scheduler,
        ended: EndedMoves,
        out: Outbox,
    ) -> None:
        self._limits = limits
        self._key = key
        self._scheduler = scheduler
        self._blocks = scheduler.blocks
        self._ended = ended
        self._out = out
        self._letters = TargetLetters(key, out)
        self.fetches: dict[MoveId, TargetFetch] = {}

    def knows(self, move_id: MoveId) -> bool:
        return move_id in self.fetches

    def begin(self, sequence: Sequence, plan: FetchPlan, now_ns: int) -> None:
        """Asks for what is not here yet; without room for it nothing is fetched."""
        known = plan.move_id in self.fetches or plan.move_id in self._ended
        if known or plan.source == self._key or len(self.fetches) >= self._limits.moves_max:
            return
        wanted = min(plan.blocks, (sequence.known - 1) // sequence.block_tokens)
        hits = self._blocks.lookup(sequence.hashes, wanted)
        count = wanted - len(hits)
        if count <= 0 or not self._scheduler.lendable(count + self._blocks.unheld(hits)):
            return
        self._blocks.hold(hits)
        fetch = TargetFetch(
            plan=plan,
            sequence=sequence,
            hashes=tuple(sequence.hashes[len(hits) : wanted]),
            hits=hits,
            began_ns=now_ns,
        )
        self.fetches[plan.move_id] = fetch
        sequence.arriving = plan.move_id
        self._ask(fetch)
        self._set_timer(fetch, now_ns)

    # ---- what the source says

    def offered(self, event: FetchOffered, now_ns: int) -> None:
        """The source holds some of it: leases blocks for that, and grants them."""
        fetch = self._of(event.move_id, event.source)
        lease = Lease(event.move_id, event.offer, event.source)
        if fetch is None:
            self._repeat_end(lease)
        elif not fetch.open:
            self._letters.aborted(lease, "the lease is closed")
        elif fetch.offer is not None:
            if fetch.offer.offer == event.offer:
                self._grant(fetch, event)
        elif not self._scheduler.lendable(event.blocks):
            self._letters.aborted(lease, "no blocks are available")
            self._close(fetch, now_ns)
        else:
            fetch.offer = event
            fetch.leased = self._blocks.lease(event.blocks)
            fetch.stage = advance(fetch.stage, Stage.COPY)
            self._out.put(OpenLease(move_id=event.move_id, lease=event.offer))
            self._grant(fetch, event)

    def refused(self, event: FetchRefused, now_ns: int) -> None:
        """The source has nothing of it."""
        fetch = self._of(event.move_id, event.source)
        if fetch is not None and fetch.stage is Stage.RESERVE:
            self._close(fetch, now_ns)

    def aborted(self, event: MoveAborted, now_ns: int) -> None:
        """The source gives up."""
        fetch = self._of(event.move_id, event.peer)
        if fetch is not None:
            if fetch.lease.number <= event.lease:
                self._close(fetch, now_ns)
            self._letters.acked(Lease(event.move_id, event.lease, event.peer))

    def acked(self, event: AbortAcked, now_ns: int) -> None:
        """The source has no copy in flight and starts none: the blocks are ours again.

        Unless that was said of an earlier offer: what was granted since may fly.
        """
        fetch = self._of(event.move_id, event.peer)
        if fetch is not None and fetch.lease.number <= event.lease:
            self._close(fetch, now_ns)
            self._absolve(fetch)

    def peer_lost(self, key: WorkerKey, now_ns: int) -> None:
        """Nothing of a dead source can land any more."""
        for fetch in list(self.fetches.values()):
            if key.covers(fetch.plan.source):
                self._close(fetch, now_ns)
                self._absolve(fetch)

    # ---- what happens here

    def landed(self, event: BlocksLanded) -> None:
        """A copy is here, and perhaps all are."""
        fetch = self.fetches.get(event.move_id)
        if fetch is None or not fetch.open:
            return
        fetch.landed[event.copy_id] = None
        if fetch.stage is Stage.COPY:
            fetch.stage = advance(fetch.stage, Stage.HANDOVER)
        if fetch.complete:
            self._commit(fetch)

    def copy_failed(self, event: CopyFailed, now_ns: int) -> None:
        """A copy came damaged."""
        fetch = self.fetches[event.move_id]
        if fetch.open:
            self._close(fetch, now_ns)
            self._letters.aborted(fetch.lease, f"copy failed: {event.reason}")

    def tick(self, move_id: MoveId, now_ns: int) -> None:
        """Repeats what got no answer; gives up what takes too long, or is not wanted."""
        fetch = self.fetches.get(move_id)
        if fetch is None:
            return
        late = now_ns - fetch.began_ns >= self._limits.fetch_ns
        if fetch.open and (late or fetch.sequence.gone):
            self._close(fetch, now_ns)
        if not fetch.open:
            self._letters.aborted(fetch.lease, "given up by the target")
        elif fetch.offer is None:
            self._ask(fetch)
        else:
            self._grant(fetch, fetch.offer)
        if self.knows(move_id):
            self._set_timer(fetch, now_ns)

    def _ask(self, fetch: TargetFetch) -> None:
        request = fetch.sequence.request
        asked = FetchAsked(
            move_id=fetch.plan.move_id,
            target=self._key,
            request_id=request.request_id,
            gateway_id=request.gateway_id,
            epoch=fetch.sequence.epoch,
            hashes=fetch.hashes,
        )
        self._out.to_worker(fetch.plan.source, asked)

    def _grant(self, fetch: TargetFetch, offer: FetchOffered) -> None:
        granted = FetchGranted(
            move_id=offer.move_id, target=self._key, offer=offer.offer, blocks=fetch.leased
        )
        self._out.to_worker(fetch.plan.source, granted)

    def _commit(self, fetch: TargetFetch) -> None:
        fetch.stage = advance(fetch.stage, Stage.COMMITTED)
        self._blocks.commit(fetch.leased)
        for block, known in zip(fetch.leased, fetch.hashes, strict=False):
            self._blocks.publish(block, known)
        sequence = fetch.sequence
        sequence.peer_tokens = len(fetch.leased) * sequence.block_tokens
        sequence.arriving = ""
        self._blocks.release(fetch.hits)
        self._blocks.release(fetch.leased)
        self._close_lease(fetch)
        self._letters.committed(fetch.lease, sequence.epoch)
        self._end(fetch, committed=True)

    # ---- ends

    def _close(self, fetch: TargetFetch, now_ns: int) -> None:
        """Nothing may land from now on; the request computes what it does not have.

        Without a grant nothing was copied nor will be: the fetch is forgotten.
        """
        if not fetch.open:
            return
        if fetch.offer is not None:
            self._close_lease(fetch)
        fetch.stage = advance(fetch.stage, Stage.ABORTED)
        self._blocks.release(fetch.hits)
        self._blocks.quarantine(fetch.leased)
        fetch.sequence.arriving = ""
        if fetch.offer is None:
            self._end(fetch, committed=False)
        else:
            self._set_timer(fetch, now_ns)

    def _absolve(self, fetch: TargetFetch) -> None:
        """The writer has let go."""
        if self.knows(fetch.plan.move_id):
            self._blocks.absolve(fetch.leased)
            self._end(fetch, committed=False)

    def _end(self, fetch: TargetFetch, *, committed: bool) -> None:
        move_id = fetch.plan.move_id
        del self.fetches[move_id]
        self._ended.add(move_id, fetch.sequence.epoch if committed else None)
        self._out.clear_timer(TimerKey(TIMER, move_id))

    def _close_lease(self, fetch: TargetFetch) -> None:
        lease = fetch.lease
        self._out.put(CloseLease(move_id=lease.move_id, lease=lease.number))

    def _repeat_end(self, lease: Lease) -> None:
        epoch = self._ended.committed(lease.move_id)
        if epoch is not None:
            self._letters.committed(lease, epoch)
        else:
            self._ended.add(lease.move_id)
            self._letters.aborted(lease, "no such lease")

    def _of(self, move_id: MoveId, source: WorkerKey) -> TargetFetch | None:
        fetch = self.fetches.get(move_id)
        return fetch if fetch is not None and fetch.plan.source == source else None

    def _set_timer(self, fetch: TargetFetch, now_ns: int) -> None:
        key = TimerKey(TIMER, fetch.plan.move_id)
        self._out.set_timer(key, now_ns + self._limits.lease_ask_ns)

    # ---- integrity

    def shared_blocks(self) -> Iterator[BlockId]:
        """Blocks that open fetches hold in the prefix cache."""
        for fetch in self.fetches.values():
            if fetch.open:
                yield from fetch.hits

    def lent_blocks(self) -> Iterator[BlockId]:
        """Blocks that a source may write: leased or in quarantine."""
        for fetch in self.fetches.values():
            yield from fetch.leased

    def awaited(self) -> tuple[WorkerKey, ...]:
        """Sources that have not let go of a closed lease."""
        return tuple([fetch.plan.source for fetch in self.fetches.values() if not fetch.open])

    def check(self) -> None:
        """Integrity: whoever waits for an open fetch knows it."""
        for move_id, fetch in self.fetches.items():
            assert fetch.stage is not Stage.COMMITTED, f"{move_id} lingers"
            assert (fetch.sequence.arriving == move_id) == fetch.open, f"{move_id} has no request"
            assert not fetch.leased or fetch.offer is not None, f"{move_id}: lease without offer"
