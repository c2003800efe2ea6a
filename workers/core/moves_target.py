"""The target's half of every move: it lends blocks, and commits when all has landed.

    COPY      the lease is open; landings extend it; lease_ns without one ends it
    HANDOVER  the source has stopped; the last landing commits
    ABORTED   the lease is closed at once, but its blocks are in quarantine until the
              source says that it has no copy in flight, or is dead

What the prefix cache had is shared, not leased: nobody writes there.
"""

from collections.abc import Iterator
from dataclasses import replace

from ...proto.effects import CloseLease, OpenLease
from ...proto.ids import BlockId, Epoch, GatewayId, MoveId, RequestId, WorkerKey
from ...proto.move import MoveKind, Stage, advance
from ...proto.requests import Request
from ...proto.timers import TimerKey
from ...proto.worker_events import (
    AbortAcked,
    BlocksLanded,
    CopyFailed,
    HandoverOffered,
    LeaseAsked,
    ListenerChanged,
    MoveAborted,
)
from .holdings import Holdings
from .lease_queue import LeaseQueue
from .letters import Lease, TargetLetters
from .limits import WorkerLimits
from .memory import EndedMoves
from .outbox import Outbox
from .requests import Requests
from .scheduler import Scheduler
from .sequence import Sequence
from .target_move import TargetMove

TIMER = "target_move"


class TargetMoves:
    """All moves to this worker."""

    def __init__(
        self,
        limits: WorkerLimits,
        key: WorkerKey,
        block_tokens: int,
        scheduler: Scheduler,
        requests: Requests,
        out: Outbox,
    ) -> None:
        self._limits = limits
        self._block_tokens = block_tokens
        self._scheduler = scheduler
        self._requests = requests
        self._holdings: Holdings = requests.holdings
        self._blocks = requests.holdings.blocks
        self._ended: EndedMoves = requests.ended
        self._out = out
        self._letters = TargetLetters(key, out)
        self.moves: dict[MoveId, TargetMove] = {}
        self._delayed = LeaseQueue(limits)
        self.draining = False

    def knows(self, move_id: MoveId) -> bool:
        return move_id in self.moves

    # ---- what the source says

    def asked(self, event: LeaseAsked, now_ns: int) -> None:
        """Opens or raises a lease, or says again what became of it."""
        move = self._meant(event, now_ns)
        lease = _lease_of(event)
        if move is None and event.move_id in self._ended:
            self._repeat_end(lease)
        elif move is None:
            self._open(event, now_ns)
        elif move.lease != lease:
            return
        elif not move.open:
            self._letters.aborted(lease, "the lease is closed")
        else:
            self._raise(move, event.blocks, now_ns)

    def offered(self, event: HandoverOffered, now_ns: int) -> None:
        """The source has stopped; commits if every copy is here."""
        move = self._meant(event, now_ns)
        lease = _lease_of(event)
        if move is None:
            self._repeat_end(lease)
        elif move.lease != lease:
            return
        elif not move.open:
            self._letters.aborted(lease, "the lease is closed")
        else:
            if move.stage is Stage.COPY:
                move.stage = advance(move.stage, Stage.HANDOVER)
                move.offer = event
                move.progress_ns = now_ns
            self._try_commit(move, now_ns)

    def aborted(self, event: MoveAborted, now_ns: int) -> None:
        """The source gives up (or does not know the move)."""
        move = self.moves.get(event.move_id)
        lease = Lease(event.move_id, event.lease, event.peer)
        epoch = self._ended.committed(event.move_id)
        if epoch is not None:
            self._letters.committed(lease, epoch)
            return
        if move is None:
            self._delayed.drop(event.move_id)
            self._ended.add(event.move_id)
        elif move.open and move.covered_by(event):
            self._close(move, now_ns)
        self._letters.acked(lease)

    def acked(self, event: AbortAcked, now_ns: int) -> None:
        """The source has no copy in flight and starts none: the blocks are ours again.

        Unless that was said of an earlier life of the move: this one's copies may fly.
        """
        move = self.moves.get(event.move_id)
        if move is None:
            self._delayed.drop(event.move_id)
            self._ended.add(event.move_id)
        elif move.covered_by(event):
            self._let_go(move, now_ns)

    def peer_lost(self, key: WorkerKey, now_ns: int) -> None:
        """Nothing of a dead source can land any more."""
        self._delayed.drop_source(key)
        for move in list(self.moves.values()):
            if key.covers(move.source):
                self._let_go(move, now_ns)

    # ---- what happens here

    def landed(self, event: BlocksLanded, now_ns: int) -> None:
        """A copy is here: the lease lives on, and perhaps all is complete."""
        move = self.moves.get(event.move_id)
        if move is not None and move.open:
            move.landed[event.copy_id] = None
            move.progress_ns = now_ns
            self._try_commit(move, now_ns)

    def wants_more(self, event: BlocksLanded | HandoverOffered) -> bool:
        """Whether an open move is not complete with what `event` says."""
        move = self.moves.get(event.move_id)
        if move is None or not move.open:
            return False
        if isinstance(event, BlocksLanded):
            return move.offer is None
        return not all(copy_id in move.landed for copy_id in event.copies)

    def copy_failed(self, event: CopyFailed, now_ns: int) -> None:
        """A copy came damaged, or not whole: it will not come again, so nor will the move."""
        move = self.moves[event.move_id]
        if event.copy_id not in move.landed:
            self._abort(move, f"copy failed: {event.reason}", now_ns)

    def cancel(self, request_id: RequestId, epoch: Epoch | None, now_ns: int) -> None:
        """The request is not wanted: its leases close."""
        self._delayed.drop_request(request_id)
        for move in list(self.moves.values()):
            request = move.request
            if request.request_id == request_id and (epoch is None or request.epoch <= epoch):
                self._abort(move, "cancelled", now_ns)

    def listen(self, event: ListenerChanged) -> None:
        """What is on its way here emits to another gateway once it has come."""
        self._delayed.listen(event.request_id, event.gateway_id)
        for move in self.moves.values():
            if move.request.request_id == event.request_id:
                move.request = replace(move.request, gateway_id=event.gateway_id)

    def gateway_lost(self, gateway_id: GatewayId, now_ns: int) -> None:
        """Nobody listens to these requests."""
        self._delayed.drop_gateway(gateway_id)
        for move in list(self.moves.values()):
            if move.request.gateway_id == gateway_id:
                self._abort(move, f"gateway {gateway_id} is gone", now_ns)

    def tick(self, move_id: MoveId, now_ns: int) -> None:
        """The lease has expired, or the source has not let go yet."""
        move = self.moves.get(move_id)
        if move is None:
            return
        expires_ns = move.progress_ns + self._limits.lease_ns
        if not move.open:
            self._letters.aborted(move.lease, "the lease is closed")
            self._set_timer(move, now_ns + self._limits.lease_ask_ns)
        elif now_ns < expires_ns:
            self._set_timer(move, expires_ns)
        else:
            self._abort(move, f"no progress for {self._limits.lease_ns} ns", now_ns)

    @property
    def delayed(self) -> int:
        """How many wait for room."""
        return len(self._delayed)

    def open_delayed(self, now_ns: int) -> None:
        """Opens the leases of those that wait for room, in turn, as far as there is some."""
        while (event := self._delayed.first(now_ns)) is not None:
            before = len(self._delayed)
            hits = self._hits(event)
            if not self._refusal(event.request) and self._lack(event, hits):
                return
            self._open(event, now_ns)
            assert len(self._delayed) < before, f"{event.move_id} waits again"

    # ---- stages

    def _hits(self, event: LeaseAsked) -> tuple[BlockId, ...]:
        """What is cached here of the request, but for the block of its last known token."""
        spare = (event.request.known_tokens - 1) // self._block_tokens
        return self._blocks.lookup(event.hashes, min(spare, event.blocks))

    def _open(self, event: LeaseAsked, now_ns: int) -> None:
        request, hits = event.request, self._hits(event)
        reason = self._refusal(request)
        lack = self._lack(event, hits)
        if self._delayed.ahead_of(event) and event.kind is MoveKind.HANDOFF:
            lack = lack or "others wait for room before it"
        if reason or lack:
            waits = event.kind is MoveKind.HANDOFF and not reason
            if waits and self._delayed.keep(event, now_ns):
                self._letters.delayed(_lease_of(event), lack)
            else:
                self._delayed.drop(event.move_id)
                self._letters.refused(_lease_of(event), reason or lack)
            return
        self._delayed.drop(event.move_id)
        fresh = event.blocks - len(hits)
        self._blocks.hold(hits)
        move = TargetMove(
            lease=_lease_of(event),
            request=request,
            hits=hits,
            leased=self._blocks.lease(fresh),
            progress_ns=now_ns,
        )
        move.stage = advance(move.stage, Stage.COPY)
        self.moves[event.move_id] = move
        self._holdings.leases += 1
        self._out.put(OpenLease(move_id=event.move_id, lease=event.lease))
        self._set_timer(move, now_ns + self._limits.lease_ns)
        self._letters.opened(move.lease, move.table, len(move.hits))

    def _refusal(self, request: Request) -> str:
        """Why not at all, if so."""
        held = self._holdings.held.get(request.request_id)
        if self.draining:
            return "draining"
        if held is not None and held.epoch.attempt >= request.epoch.attempt:
            return "the request is here already"
        return ""

    def _lack(self, event: LeaseAsked, hits: tuple[BlockId, ...]) -> str:
        """What there is no room for now, if so."""
        blocks = event.blocks - len(hits) + self._blocks.unheld(hits)
        if self._holdings.leases >= self._limits.moves_max:
            return f"{self._holdings.leases} leases already"
        if self._holdings.slots_free <= 0:
            return "no slot for another sequence"
        if not self._scheduler.lendable(blocks):
            return f"{blocks} blocks are not available"
        return ""

    def _raise(self, move: TargetMove, blocks: int, now_ns: int) -> None:
        more = blocks - len(move.hits) - len(move.leased)
        if more > 0:
            if not self._scheduler.lendable(more):
                reason = f"{more} more blocks are not available"
                self._letters.refused(move.lease, reason)
                return
            move.leased += self._blocks.lease(more)
            move.progress_ns = now_ns
        self._letters.opened(move.lease, move.table, len(move.hits))

    def _try_commit(self, move: TargetMove, now_ns: int) -> None:
        if move.offer is None or not move.complete:
            return
        request = move.request
        held = self._holdings.held.get(request.request_id)
        if held is not None:
            if held.epoch.attempt >= request.epoch.attempt:
                self._abort(move, "a newer attempt is here", now_ns)
                return
            self._requests.drop(held, "replaced by a newer attempt", now_ns)
        self._commit(move, move.offer)

    def _commit(self, move: TargetMove, offer: HandoverOffered) -> None:
        request = move.request
        epoch = Epoch(request.epoch.attempt, request.epoch.hop + 1)
        move.stage = advance(move.stage, Stage.COMMITTED)
        self._blocks.commit(move.leased)
        computed = max(offer.computed, len(move.hits) * self._block_tokens)
        sequence = Sequence(request, offer.emitted, epoch, self._block_tokens)
        sequence.cached_tokens = offer.cached_tokens
        self._holdings.adopt(sequence, move.table, computed)
        self._end(move, epoch)
        self._out.put(CloseLease(move_id=move.move_id, lease=move.lease.number))
        self._holdings.leases -= 1
        self._letters.committed(move.lease, epoch)

    # ---- ends

    def _abort(self, move: TargetMove, reason: str, now_ns: int) -> None:
        if move.open:
            self._close(move, now_ns)
            self._letters.aborted(move.lease, reason)

    def _close(self, move: TargetMove, now_ns: int) -> None:
        """Nothing may land from now on; what is on its way lands in quarantine."""
        move.stage = advance(move.stage, Stage.ABORTED)
        self._holdings.leases -= 1
        self._blocks.release(move.hits)
        self._blocks.quarantine(move.leased)
        self._out.put(CloseLease(move_id=move.move_id, lease=move.lease.number))
        self._set_timer(move, now_ns + self._limits.lease_ask_ns)

    def _let_go(self, move: TargetMove, now_ns: int) -> None:
        """The writer has let go, be the lease closed yet or not."""
        if move.open:
            self._close(move, now_ns)
        self._blocks.absolve(move.leased)
        self._end(move, None)

    def _end(self, move: TargetMove, committed: Epoch | None) -> None:
        del self.moves[move.move_id]
        self._ended.add(move.move_id, committed)
        self._out.clear_timer(TimerKey(TIMER, move.move_id))

    def _repeat_end(self, lease: Lease) -> None:
        """What became of a move that is over here, or was never known."""
        epoch = self._ended.committed(lease.move_id)
        if epoch is not None:
            self._letters.committed(lease, epoch)
            return
        self._ended.add(lease.move_id)
        self._letters.aborted(lease, "no such lease")

    def _meant(self, event: LeaseAsked | HandoverOffered, now_ns: int) -> TargetMove | None:
        """The move, if it is here. A later lease of it is proof that the earlier one is over."""
        move = self.moves.get(event.move_id)
        later = move is not None and move.source == event.source
        if move is None or not later or event.lease <= move.lease.number:
            return move
        self._let_go(move, now_ns)
        return None

    def _set_timer(self, move: TargetMove, at_ns: int) -> None:
        self._out.set_timer(TimerKey(TIMER, move.move_id), at_ns)

    def shared_blocks(self) -> Iterator[BlockId]:
        """Blocks held by open leases because the prefix cache had them."""
        for move in self.moves.values():
            if move.open:
                yield from move.hits

    def awaited(self) -> tuple[WorkerKey, ...]:
        """Sources that have not let go of a closed lease, each once."""
        closed = (move.source for move in self.moves.values() if not move.open)
        return tuple(dict.fromkeys(closed))

    def lent_blocks(self) -> Iterator[BlockId]:
        """Blocks that a writer may touch: leased or in quarantine."""
        for move in self.moves.values():
            yield from move.leased

    def check(self) -> None:
        """Integrity: nothing committed lingers, and slots are counted."""
        self._delayed.check()
        stages = (Stage.COPY, Stage.HANDOVER, Stage.ABORTED)
        for move_id, move in self.moves.items():
            assert move.stage in stages, f"{move_id} lingers in {move.stage}"
            assert (move.offer is not None) == (move.stage is Stage.HANDOVER) or not move.open
        assert self._holdings.leases == sum(move.open for move in self.moves.values())


def _lease_of(event: LeaseAsked | HandoverOffered) -> Lease:
    return Lease(event.move_id, event.lease, event.source)
