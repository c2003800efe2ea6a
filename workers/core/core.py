"""The worker's whole behaviour: `step(event, now_ns) -> effects`.

After every event, if no iteration is in flight and there is something to
compute, the next one starts: at most one is in flight. Nothing here waits,
draws or does I/O; a shell performs the effects.
"""

from itertools import islice
from typing import NamedTuple

from ...proto.batch import Batch
from ...proto.effects import EndProcess, EndReason, RunIteration, WorkerEffect
from ...proto.ids import BlockId, MoveId, RequestId, WorkerKey
from ...proto.requests import FinishReason, SampledToken
from ...proto.timers import TimerFired
from ...proto.views import Phase, WorkerInfo, WorkerView
from ...proto.worker_events import (
    BlocksLanded,
    BlocksRestored,
    BlocksSpilled,
    CopyFailed,
    CopySent,
    GatewayLost,
    HostCopyFailed,
    IterationDone,
    ListenerChanged,
    MoveAborted,
    MoveOrdered,
    PeerEvent,
    PeerLost,
    RequestAssigned,
    RequestCancelled,
    ResendAsked,
    RoleAssigned,
    StreamAcked,
    TransportStuck,
    ViewAsked,
    WorkerEvent,
    WorkerStarted,
)
from . import moves_source, moves_target, requests
from .blocks import BlockPool
from .copies import CopyDesk, KvShape
from .fetches import FETCH_TIMERS, Fetches
from .halves import Half, OpenHalf
from .holdings import Holdings
from .host_pool import HostPool
from .host_tier import HostTier
from .integrity import Integrity
from .letters import sender
from .limits import WorkerLimits
from .membership import HEARTBEAT, REGISTER, Membership, Witness
from .memory import DeadPeers, EndedMoves
from .moves import MOVE_TIMERS, Moves
from .outbox import Outbox
from .pace import TIMER as PACE
from .scheduler import Entry, Scheduler, to_batch
from .sequence import Sequence
from .speed import SpeedMeter

ListenerEvent = RequestCancelled | StreamAcked | ListenerChanged | ResendAsked | GatewayLost
OwnEvent = IterationDone | CopySent | CopyFailed | BlocksLanded | TransportStuck | TimerFired


class Flight(NamedTuple):
    """The iteration that the engine is running."""

    iteration: int
    started_ns: int
    tokens: int
    entries: list[Entry]


class Occupancy(NamedTuple):
    """Requests that wait and run; blocks that could not be given out now, and cached ones;
    preemptions so far.
    """

    waiting: int
    running: int
    blocks_used: int
    blocks_cached: int
    preemptions: int


class WorkerCore:
    """One life of one worker. `layers` of its model are copied in groups; `seed`
    spreads the heartbeats of workers that start together.
    """

    def __init__(self, info: WorkerInfo, limits: WorkerLimits, layers: int, seed: int = 0) -> None:
        self.info = info
        self.limits = limits
        self._out = Outbox()
        self._blocks = pool = BlockPool(info.blocks_total)
        host_blocks = HostPool(info.host_blocks)
        self._holdings = Holdings(limits, self._blocks, host_blocks)
        self._speed = SpeedMeter(info.speed)
        self._host = HostTier(limits, self._blocks, host_blocks, self._speed, self._out)
        self._scheduler = Scheduler(limits, self._holdings, self._host)
        self._dead = DeadPeers(limits.peers_max)
        ended = EndedMoves(limits.ended_moves_max)
        model = KvShape(layers, info.block_bytes)
        copies = CopyDesk(limits, model, self._blocks, self._out)
        self._sources = moves_source.SourceMoves(
            limits, info.key, self._holdings, copies, ended, self._out
        )
        self._requests = requests.Requests(
            limits, info.key, self._holdings, self._sources, ended, self._out
        )
        self._targets = moves_target.TargetMoves(
            limits, info.key, info.block_tokens, self._scheduler, self._requests, self._out
        )
        self._moves = Moves(self._sources, self._targets, ended)
        self._fetches = Fetches(limits, info.key, model, self._scheduler, ended, self._out)
        witness = Witness(
            speed=lambda: self._speed.speed, awaited=self._awaited, lost=self._dead.all
        )
        self._membership = Membership(info, limits, self._holdings, witness, seed, self._out)
        self._integrity = Integrity(lambda: pool.problem(*self._owners()), limits.integrity_ns)
        self._iterations = 0
        self._flight: Flight | None = None

    def step(self, event: WorkerEvent, now_ns: int) -> list[WorkerEffect]:
        """What follows from one fact."""
        self._take(event, now_ns)
        return self._follow(now_ns)

    def _follow(self, now_ns: int) -> list[WorkerEffect]:
        """After every fact: what can begin, begins."""
        self._scheduler.restore_ahead(now_ns)
        self._start_iteration(now_ns)
        self._ask_ahead(now_ns)
        self._targets.open_delayed(now_ns)
        self._host.spill_ahead(now_ns)
        return self._told()

    def _told(self) -> list[WorkerEffect]:
        self._requests.flush()
        return self._out.take()

    def view(self, now_ns: int) -> WorkerView:
        """The worker as a heartbeat sent now would show it."""
        return self._membership.view(now_ns)

    @property
    def occupancy(self) -> Occupancy:
        """What it holds now, in counts. O(1)."""
        holdings = self._holdings
        return Occupancy(
            waiting=len(holdings.waiting),
            running=len(holdings.running),
            blocks_used=self._blocks.total - self._blocks.available,
            blocks_cached=self._blocks.counts.cached,
            preemptions=holdings.preemptions,
        )

    def phase(self, request_id: RequestId) -> Phase | None:
        """Where a request stands here; None if it is not held."""
        sequence = self._holdings.held.get(request_id)
        return None if sequence is None else sequence.phase

    def halves(self) -> dict[MoveId, OpenHalf]:
        """Its half of every move that is not over."""
        return self._moves.halves() | self._fetches.halves()

    def half(self, move_id: MoveId) -> Half:
        """Its half of one move, be it over or unknown."""
        return self._moves.half(move_id)

    def check(self) -> None:
        """Integrity of everything; an AssertionError is a bug of this package. O(blocks)."""
        self._holdings.check()
        self._moves.check()
        self._requests.check()
        self._host.check()
        self._fetches.check()
        for sequence in self._holdings.waiting.values():
            known = self._host.arriving(sequence) or self._fetches.arriving(sequence)
            assert not sequence.arriving or known, f"nothing arrives: {sequence.arriving}"
        for entry in self._flight.entries if self._flight else ():
            assert entry.sequence.in_flight, f"{entry.sequence.request.request_id} not in flight"
        self._blocks.check(*self._owners())

    def _owners(self) -> tuple[list[BlockId], list[BlockId]]:
        """Each block once per holder, and each that is leased or in quarantine."""
        flying = [entry.sequence for entry in self._flight.entries] if self._flight else []
        holders = [
            *self._holdings.all_blocks(), *self._sources.blocks_in_flight(),
            *self._targets.shared_blocks(), *self._host.held_blocks(),
            *self._fetches.held_blocks(), *(b for s in flying if s.gone for b in s.blocks),
        ]  # fmt: skip
        return holders, [*self._targets.lent_blocks(), *self._fetches.lent_blocks()]

    def _awaited(self) -> tuple[WorkerKey, ...]:
        return tuple(dict.fromkeys([*self._targets.awaited(), *self._fetches.awaited()]))

    def _take(self, event: WorkerEvent, now_ns: int) -> None:
        match event:
            case WorkerStarted() | ViewAsked():
                self._membership.register(now_ns)
            case RoleAssigned(role=role, draining=draining):
                self._membership.assigned(role, now_ns, draining=draining)
                self._targets.draining = self._sources.pace.draining = draining
            case RequestAssigned():
                self._assign(event, now_ns)
            case MoveOrdered(order=order):
                self._sources.order(order, now_ns)
            case (
                RequestCancelled()
                | StreamAcked()
                | ListenerChanged()
                | ResendAsked()
                | GatewayLost()
            ):
                self._heed(event, now_ns)
            case PeerLost(key=key):
                self._bury(key, now_ns)
            case (
                IterationDone() | CopySent() | CopyFailed() | BlocksLanded() | TransportStuck()
                | TimerFired()
            ):  # fmt: skip
                self._end(event, now_ns)
            case BlocksSpilled() | BlocksRestored() | HostCopyFailed():
                self._host.take(event, now_ns)
            case _:
                self._hear(event, now_ns)

    def _heed(self, event: ListenerEvent, now_ns: int) -> None:
        """What concerns a request's listener, from a gateway or for one."""
        match event:
            case RequestCancelled(request_id=request_id, epoch=epoch):
                if self._requests.heeds(request_id, event.gateway_id):
                    self._requests.cancel(request_id, epoch, now_ns)
                    self._targets.cancel(request_id, epoch, now_ns)
            case StreamAcked(request_id=request_id):
                if self._requests.heeds(request_id, event.gateway_id):
                    self._requests.acked(request_id, now_ns)
            case ListenerChanged():
                self._requests.listen(event)
                self._targets.listen(event)
            case ResendAsked(request_id=request_id, from_index=from_index):
                self._requests.resend(request_id, from_index)
            case GatewayLost(gateway_id=gateway_id):
                self._requests.gateway_lost(gateway_id, now_ns)
                self._targets.gateway_lost(gateway_id, now_ns)

    def _end(self, event: OwnEvent, now_ns: int) -> None:
        """Something that this worker ordered has come to its end."""
        match event:
            case IterationDone():
                self._finish_iteration(event, now_ns)
            case TimerFired():
                self._tick(event, now_ns)
            case TransportStuck(reason=reason):
                self._out.put(EndProcess(why=EndReason.STUCK, detail=reason))
            case _ if self._fetches.copy_ended(event, now_ns):
                pass
            case CopySent() | CopyFailed() | BlocksLanded():
                self._moves.copy_ended(event, now_ns)

    def _hear(self, event: PeerEvent, now_ns: int) -> None:
        """A peer speaks about a fetch or a move."""
        # A fenced one that still lives may give it up: the ack frees its blocks.
        if sender(event) in self._dead and not isinstance(event, MoveAborted):
            return
        if not self._fetches.hear(event, now_ns):
            self._moves.hear(event, now_ns)

    def _tick(self, event: TimerFired, now_ns: int) -> None:
        kind, subject = event.key.kind, event.key.subject
        if kind in MOVE_TIMERS:
            self._moves.tick(kind, MoveId(subject), now_ns)
        elif event.key == PACE:
            self._sources.next_paced(now_ns)
        elif kind == requests.TIMER:
            self._requests.tick(RequestId(subject), now_ns)
        elif kind in FETCH_TIMERS:
            self._fetches.tick(kind, MoveId(subject), now_ns)
        elif event.key == HEARTBEAT:
            self._beat(now_ns)
        elif event.key == REGISTER:
            self._membership.register_again(now_ns)

    def _beat(self, now_ns: int) -> None:
        """A heartbeat says that all is well: not if the engine hangs, or the books are wrong."""
        flight, limit_ns = self._flight, self.limits.iteration_ns_max
        violation = self._integrity.violation(now_ns) if self._idle else ""
        if flight is not None and now_ns - flight.started_ns > limit_ns:
            self._out.put(EndProcess(why=EndReason.HUNG))
        elif violation:
            self._out.put(EndProcess(why=EndReason.INTEGRITY, detail=violation))
        else:
            self._membership.beat(now_ns)

    @property
    def _idle(self) -> bool:
        """Nothing is computed, copied or awaited but what others owe: acks, quarantines."""
        holdings = self._holdings
        busy = self._flight or holdings.running or holdings.waiting or holdings.leases
        return not (busy or self._sources.moves or self._fetches.giving or self._host.copying)

    def _assign(self, event: RequestAssigned, now_ns: int) -> None:
        request = event.request
        emitted = [SampledToken(token_id=token_id) for token_id in request.emitted]
        sequence = Sequence(request, emitted, request.epoch, self.info.block_tokens)
        self._requests.assign(event, sequence, now_ns)
        if self._holdings.held.get(request.request_id) is not sequence:
            return
        reason = sequence.finish_reason(self.info.context_tokens_max)
        if sequence.known == 0:
            reason = FinishReason.ERROR
        if reason is not None:
            self._requests.finish(sequence, reason, now_ns)
        elif event.fetch is not None and event.fetch.source not in self._dead:
            self._fetches.begin(sequence, event.fetch, now_ns)

    def _bury(self, key: WorkerKey, now_ns: int) -> None:
        """That incarnation is dead: its moves end, its late words are void.

        If it is this one or a later one of the same worker, nobody listens to us.
        """
        if key.covers(self.info.key):
            self._out.put(EndProcess(why=EndReason.FENCED))
            return
        self._dead.add(key)
        self._moves.peer_lost(key, now_ns)
        self._fetches.peer_lost(key, now_ns)

    def _finish_iteration(self, event: IterationDone, now_ns: int) -> None:
        flight = self._flight
        if flight is None or flight.iteration != event.iteration:
            return
        self._flight = None
        assert len(event.sampled) == len(flight.entries), (
            f"{len(event.sampled)} samples for {len(flight.entries)} chunks"
        )
        self._speed.observe(flight.tokens, now_ns - flight.started_ns)
        context_tokens_max = self.info.context_tokens_max
        for (sequence, _, end, draws), token in zip(flight.entries, event.sampled, strict=True):
            self._holdings.landed(sequence, end)
            if draws and not sequence.gone:
                assert token is not None, f"no token for {sequence.request.request_id}"
                self._requests.drew(sequence, token, context_tokens_max, now_ns)
        self._sources.progress(now_ns)

    def _start_iteration(self, now_ns: int) -> None:
        """Plans until there is a batch, or nothing that could be in one."""
        while self._flight is None and (self._holdings.running or self._holdings.waiting):
            plan = self._scheduler.plan(now_ns)
            for sequence in plan.preempted:
                self._requests.tell(sequence)
                self._sources.leave(sequence, "preempted", now_ns)
            for sequence in plan.unfit:
                self._requests.finish(sequence, FinishReason.ERROR, now_ns)
            for sequence in plan.admitted:
                self._sources.ask(sequence, now_ns)
            if plan.entries:
                self._run(plan.entries, now_ns)
            elif not plan.unfit:
                return

    def _batch(self, entries: list[Entry]) -> Batch:
        return to_batch(self._iterations, entries)

    def _run(self, entries: list[Entry], now_ns: int) -> None:
        self._iterations += 1
        batch = self._batch(entries)
        copies = self._sources.attach(entries, now_ns)
        for entry in entries:
            entry.sequence.in_flight = True
        self._flight = Flight(self._iterations, now_ns, batch.tokens, entries)
        self._out.put(RunIteration(batch=batch, copies=copies))

    def _ask_ahead(self, now_ns: int) -> None:
        """The next requests' leases are asked for while the present iteration still runs."""
        if self._flight is None:
            return
        waiting = self._holdings.waiting.values()
        for sequence in islice(waiting, self.limits.asks_ahead_max):
            if not self._scheduler.fits_soon(sequence):
                return
            self._sources.ask(sequence, now_ns)
