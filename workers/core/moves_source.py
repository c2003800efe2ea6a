"""The source's half of every move: it drives.

    RESERVE   asks for the lease, by timer again, at most lease_asks_max times
    COPY      copies what is computed, beside and after each iteration
    HANDOVER  has stopped the request, copied the rest, offers it until the commit
              comes; after handover_ns it runs on and asks for the outcome
              ("abandoned"): only the target knows whether it has committed

A move that ended stays until its copies in flight have ended, because only then
may the target's blocks be used for anything else.
"""

from ...proto.cluster_events import MoveEnded
from ...proto.gateway_events import MoveReported
from ...proto.ids import BlockId, Epoch, MoveId, RequestId, WorkerKey
from ...proto.move import Copy, MoveKind, MoveOrder, Stage, advance
from ...proto.timers import TimerKey
from ...proto.views import Phase
from ...proto.worker_events import (
    AbortAcked,
    LeaseOpened,
    LeaseRefused,
    MoveAborted,
    MoveCommitted,
)
from .copies import CopyDesk
from .holdings import Holdings
from .letters import SourceLetters
from .limits import WorkerLimits
from .memory import EndedMoves
from .outbox import Outbox
from .pace import Pace
from .scheduler import Entry
from .sequence import Sequence
from .source_move import SourceMove, refusal
from .unheard import UnheardAborts

TIMER = "source_move"
TargetWord = LeaseRefused | MoveCommitted | AbortAcked


class SourceMoves:
    """All moves away from this worker."""

    def __init__(
        self,
        limits: WorkerLimits,
        key: WorkerKey,
        holdings: Holdings,
        copies: CopyDesk,
        ended: EndedMoves,
        out: Outbox,
    ) -> None:
        self._limits = limits
        self._key = key
        self._holdings = holdings
        self._copies = copies
        self._ended = ended
        self._out = out
        self._letters = SourceLetters(key, out)
        self.unheard = UnheardAborts(limits, self._letters, out)
        self.pace = Pace(limits, holdings, copies, out)
        self.moves: dict[MoveId, SourceMove] = {}
        self._leases = 0

    # ---- beginnings

    def expect(self, sequence: Sequence, order: MoveOrder) -> None:
        """A handoff that begins when the request does; see `ask`."""
        sequence.move_id = order.move_id
        self.moves[order.move_id] = SourceMove(order=order, sequence=sequence)

    def order(self, order: MoveOrder, now_ns: int) -> None:
        """A move of a request that is here, at once. What cannot be is reported."""
        if order.move_id in self.moves or order.move_id in self._ended:
            return
        sequence = self._holdings.held.get(order.request_id)
        reason = self._unmovable(order, sequence)
        if sequence is None or reason:
            epoch = Epoch(0) if sequence is None else sequence.epoch
            self._out.to_controller(MoveEnded(report=refusal(order, epoch, reason)))
            return
        self.expect(sequence, order)
        self.ask(sequence, now_ns)

    def _unmovable(self, order: MoveOrder, sequence: Sequence | None) -> str:
        if order.source != self._key or order.target == self._key:
            return f"{self._key} is not a source for {order.target}"
        if sequence is None:
            return "unknown request"
        if sequence.phase is Phase.FINISHED:
            return "finished"
        if sequence.move_id is not None:
            return f"already in move {sequence.move_id}"
        migrations = sum(move.order.kind is MoveKind.MIGRATION for move in self.moves.values())
        if migrations >= self._limits.moves_max:
            return f"{migrations} migrations already"
        return ""

    def ask(self, sequence: Sequence, now_ns: int) -> None:
        """Asks for the lease of a sequence's move, if that was not done yet."""
        if sequence.move_id is None:
            return
        move = self.moves[sequence.move_id]
        if move.asked_ns is None:
            move.asked_ns = now_ns
            self._leases += 1
            move.lease = self._leases
            self._letters.ask(move)
            self._set_timer(move, now_ns)

    # ---- what the target says

    def opened(self, event: LeaseOpened, now_ns: int) -> None:
        """The lease is open, or raised."""
        move = self.moves.get(event.move_id)
        if move is None or move.lease != event.lease:
            self._letters.disown(event)
        elif move.target == event.target:
            if move.ended or move.abandoned:
                self._letters.abort(move, move.reason or move.abandoned)
            else:
                move.open(event.blocks, event.present, now_ns)
                self._progress(move, now_ns)
                self.next_paced(now_ns)

    def refused(self, event: LeaseRefused, now_ns: int) -> None:
        """No lease, or not yet, or no more of it. One overtaken by the handover means nothing."""
        move = self._of(event, event.target)
        if move is None:
            return
        if event.delayed:
            move.asks, move.delayed_ns = 0, now_ns
        elif move.stage in (Stage.RESERVE, Stage.COPY):
            self._abort(move, event.reason, now_ns)

    def committed(self, event: MoveCommitted, now_ns: int) -> None:
        """The target runs the request: it is dropped here, whether it ran on or not."""
        move = self._of(event, event.target)
        if move is None or move.stage is not Stage.HANDOVER:
            return
        move.end(Stage.COMMITTED, "", now_ns)
        # One that has finished here, after it was abandoned, waits for its ack as any other.
        if not move.sequence.gone and move.sequence.phase is not Phase.FINISHED:
            self._holdings.remove(move.sequence)
        move.committed_epoch = event.epoch
        self._out.clear_timer(_timer(move))
        self._settle(move)

    def aborted(self, event: MoveAborted, now_ns: int) -> None:
        """The target has given up, and has not committed."""
        move = self.moves[event.move_id]
        if move.target != event.peer:
            return
        if move.lease != event.lease:  # an earlier life of the move: it copies nothing any more
            self._letters.ack(event.move_id, event.lease, event.peer)
        elif not move.ended:
            self._end_aborted(move, event.reason, now_ns)
        elif not move.in_flight:
            self._ack(move)

    def acked(self, event: AbortAcked, now_ns: int) -> None:
        """The target has heard of the abort, and has not committed."""
        move = self._of(event, event.peer)
        if move is not None and move.abandoned and not move.ended:
            self._end_aborted(move, move.abandoned, now_ns)

    def peer_lost(self, key: WorkerKey, now_ns: int) -> None:
        """Moves to a dead target end."""
        for move in list(self.moves.values()):
            if key.covers(move.target) and not move.ended:
                self._end_aborted(move, move.abandoned or f"target {key} is dead", now_ns)
        self.unheard.peer_lost(key)

    def knows(self, move_id: MoveId) -> bool:
        return move_id in self.moves

    # ---- what happens here

    def progress(self, now_ns: int) -> None:
        """After an iteration: raise leases, copy what is new, hand over what is ready."""
        for move in list(self.moves.values()):
            if move.rides:  # what rode on the iteration may still be on its way
                move.rides, move.progress_ns = False, now_ns
            self._progress(move, now_ns)
        self.next_paced(now_ns)

    def next_paced(self, now_ns: int) -> None:
        """The next copy of a migration, if it may go out now."""
        self.pace.next(self.moves.values(), now_ns)

    def attach(self, entries: list[Entry], now_ns: int) -> tuple[Copy, ...]:
        """The copies that the next iteration starts as its layers are stored."""
        if not self.moves:
            return ()
        ordered: list[Copy] = []
        for entry in entries:
            move_id = entry.sequence.move_id
            if move_id is None or entry.sequence.phase is not Phase.PREFILL:
                continue
            move = self.moves[move_id]
            if move.stage is Stage.COPY:
                move.mark_start(now_ns)
                last = entry.draws and move.order.kind is MoveKind.HANDOFF
                riding = self._copies.during(move, entry, with_tail=last)
                move.rides = move.rides or bool(riding)
                ordered += riding
        return tuple(ordered)

    def copy_sent(self, copy_id: str, transfer_bytes: int, now_ns: int) -> None:
        """A copy has left."""
        move = self._copies.end(copy_id)
        if move is not None:
            move.count_flight(now_ns)
            move.count_sent(transfer_bytes, now_ns)
            self._after_copy(move, copy_id, now_ns)

    def copy_failed(self, copy_id: str, reason: str, now_ns: int) -> None:
        """A copy did not make it: nor will the move.

        Unless the target has committed: then it had arrived, whatever the source saw.
        """
        transfer_bytes = self._copies.bytes_of(copy_id)
        move = self._copies.end(copy_id)
        if move is None:
            return
        move.count_flight(now_ns)
        if move.stage is Stage.COMMITTED:
            move.count_sent(transfer_bytes, now_ns)
        elif not move.ended:
            self._abort(move, f"copy failed: {reason}", now_ns)
        self._after_copy(move, copy_id, now_ns)

    def leave(self, sequence: Sequence, reason: str, now_ns: int) -> None:
        """The request is preempted, finished or dropped: its move is off."""
        if sequence.move_id is not None:
            self._abort(self.moves[sequence.move_id], reason, now_ns)

    def tick(self, move_id: MoveId, now_ns: int) -> None:
        """The move's timer: repeats what got no answer, gives up what takes too long."""
        move = self.moves.get(move_id)
        if move is None or move.ended or move.asked_ns is None:
            return
        match move.stage:
            case Stage.RESERVE:
                self._ask_again(move, now_ns)
            case Stage.COPY:
                self._watch_copies(move, now_ns)
            case _:
                self._watch_handover(move, now_ns)
        if not move.ended:
            self._set_timer(move, now_ns)

    # ---- stages

    def _progress(self, move: SourceMove, now_ns: int) -> None:
        if move.delayed_ns is not None and move.drew_ns is None and move.sequence.drawn:
            move.drew_ns = now_ns
        if move.stage is not Stage.COPY:
            return
        sequence = move.sequence
        if sequence.blocks_for(sequence.known + 1) > max(
            move.asked_blocks, len(move.target_blocks)
        ):
            self._letters.ask(move)
        move.mark_start(now_ns)
        if not self.pace.governs(move):
            self._copies.ahead(move)
        if move.handover_due(self._limits.handover_blocks_max):
            self._hand_over(move, now_ns)

    def _hand_over(self, move: SourceMove, now_ns: int) -> None:
        move.stage = advance(move.stage, Stage.HANDOVER)
        move.stopped_ns = now_ns
        self._holdings.stop(move.sequence)
        self._copies.rest(move)
        self._letters.offer(move)
        self._set_timer(move, now_ns)

    def _ask_again(self, move: SourceMove, now_ns: int) -> None:
        limits = self._limits
        if move.drew_ns is not None and now_ns - move.drew_ns >= limits.pull_wait_ns:
            self._abort(move, f"no room for {limits.pull_wait_ns} ns after the prefill", now_ns)
        elif move.delayed_ns is not None and now_ns - move.delayed_ns < limits.lease_ns // 2:
            pass  # it has its place at the target
        elif move.asks >= self._limits.lease_asks_max:
            self._abort(move, f"no answer to {move.asks} asks for a lease", now_ns)
        else:
            move.repeats += 1
            self._letters.ask(move)

    def _watch_copies(self, move: SourceMove, now_ns: int) -> None:
        waits = move.in_flight and not move.rides
        if waits and now_ns - move.progress_ns >= self._limits.copy_ns:
            self._abort(move, f"no copy ended for {self._limits.copy_ns} ns", now_ns)
        elif move.asked_blocks > len(move.target_blocks):
            self._ask_again(move, now_ns)

    def _watch_handover(self, move: SourceMove, now_ns: int) -> None:
        if move.abandoned:
            move.repeats += 1
            self._letters.abort(move, move.abandoned)
            if move.sequence.gone or move.sequence.phase is Phase.FINISHED:
                # Nobody here runs it: what became of the move changes nothing.
                self._end_aborted(move, move.abandoned, now_ns)
                self.unheard.add(move, now_ns)
        elif now_ns - (move.stopped_ns or now_ns) >= self._limits.handover_ns:
            self._abort(move, f"no commit for {self._limits.handover_ns} ns", now_ns)
        else:
            move.repeats += 1
            self._letters.offer(move)

    # ---- ends

    def _abort(self, move: SourceMove, reason: str, now_ns: int) -> None:
        """Gives up. From HANDOVER the outcome is the target's to tell: see the module."""
        if move.abandoned or move.ended:
            return
        if move.asked_ns is not None:
            self._letters.abort(move, reason)
        if move.stage is Stage.HANDOVER:
            move.abandoned = reason
            self._holdings.resume(move.sequence)
            return
        self._end_aborted(move, reason, now_ns)
        if move.asked_ns is not None:
            self.unheard.add(move, now_ns)

    def _end_aborted(self, move: SourceMove, reason: str, now_ns: int) -> None:
        if move.sequence.phase is Phase.HANDOVER and not move.sequence.gone:
            self._holdings.resume(move.sequence)
        move.end(Stage.ABORTED, reason, now_ns)
        if move.asked_ns is not None:
            self._out.clear_timer(_timer(move))
        self._report(move)
        self._settle(move)

    def _after_copy(self, move: SourceMove, copy_id: str, now_ns: int) -> None:
        self.pace.ended(copy_id, now_ns)
        if move.ended:
            self._settle(move)
        else:
            self._progress(move, now_ns)

    def _settle(self, move: SourceMove) -> None:
        """Forgets an ended move once nothing of it is in flight."""
        if move.in_flight or self.moves.pop(move.order.move_id, None) is None:
            return
        self._ended.add(move.order.move_id)
        if move.stage is Stage.COMMITTED:
            self._report(move)
        elif move.asked_ns is not None:
            self._ack(move)

    def _report(self, move: SourceMove) -> None:
        sequence = move.sequence
        if sequence.move_id == move.order.move_id:
            sequence.move_id = None
        report = move.report()
        self._out.to_controller(MoveEnded(report=report))
        self._out.to_gateway(sequence.request.gateway_id, MoveReported(report=report))

    def _ack(self, move: SourceMove) -> None:
        self._letters.ack(move.order.move_id, move.lease, move.target)

    def _of(self, event: TargetWord, target: WorkerKey) -> SourceMove | None:
        """The move that a word is about; None if it is over, or in another life of its own."""
        move = self.moves.get(event.move_id)
        meant = move is not None and (move.target, move.lease) == (target, event.lease)
        return move if meant else None

    def _set_timer(self, move: SourceMove, now_ns: int) -> None:
        self._out.set_timer(_timer(move), now_ns + self._limits.lease_ask_ns)

    def check(self) -> None:
        """Integrity: stages fit phases, and every sequence's move is here."""
        stopped: dict[RequestId, MoveId] = {}
        for move_id, move in self.moves.items():
            sequence = move.sequence
            assert move.in_flight or not move.ended, f"{move_id} ended and was not forgotten"
            attached = sequence.move_id == move_id
            assert attached == (not move.ended) or sequence.gone, f"{move_id} is not attached"
            if move.stage is Stage.HANDOVER and not move.abandoned:
                assert sequence.phase is Phase.HANDOVER, f"{move_id}: {sequence.phase}"
                stopped[sequence.request.request_id] = move_id
        for request_id, sequence in self._holdings.held.items():
            known = sequence.move_id is None or sequence.move_id in self.moves
            assert known, f"{request_id}: move {sequence.move_id} is unknown"
            if sequence.phase is Phase.HANDOVER:
                assert request_id in stopped, f"{request_id} is stopped without a move"
        self._copies.check()
        self.unheard.check()

    def blocks_in_flight(self) -> list[BlockId]:
        return list(self._copies.all_blocks())


def _timer(move: SourceMove) -> TimerKey:
    return TimerKey(TIMER, move.order.move_id)
