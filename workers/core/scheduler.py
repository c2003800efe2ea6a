"""Plans one iteration: decodes, then running prefills, then admissions.

All within the token budget. A request that needs a block when there is none
takes those of the latest-arrived (preemption: by swap to host memory where that is
predicted to be faster, else by recompute); the latest itself waits for its turn with
what it has. So the oldest always progresses.
"""

from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

from ...proto.batch import Batch, Chunk
from ...proto.ids import BlockId, RequestId
from ...proto.views import Phase
from .holdings import Holdings
from .host_tier import HostTier
from .limits import WorkerLimits
from .sequence import Sequence


class Entry(NamedTuple):
    """Positions [start, end) of one sequence in one iteration."""

    sequence: Sequence
    start: int
    end: int
    draws: bool


@dataclass(slots=True)
class Plan:
    """What the next iteration computes, and what planning it did to the others."""

    budget: int
    now_ns: int
    entries: list[Entry] = field(default_factory=list)
    admitted: list[Sequence] = field(default_factory=list)
    preempted: list[Sequence] = field(default_factory=list)
    unfit: list[Sequence] = field(default_factory=list)  # can never fit into all blocks
    stalled: bool = False  # a running request waits for a block


class Scheduler:
    """Continuous batching with chunked prefill over one worker's `Holdings`."""

    def __init__(self, limits: WorkerLimits, holdings: Holdings, host: HostTier) -> None:
        self._limits = limits
        self._holdings = holdings
        self._host = host
        self.blocks = holdings.blocks
        # The head of the queue that did not fit, and how many available blocks it needs.
        self._blocked: tuple[RequestId, int] | None = None

    def plan(self, now_ns: int) -> Plan:
        """Admits, grows and preempts; the entries are ready to run."""
        plan = Plan(self._limits.batched_tokens_max, now_ns)
        self._plan_running(plan)
        if not (plan.preempted or plan.stalled):
            self._admit(plan)
        if plan.preempted:
            plan.entries = [entry for entry in plan.entries if entry.sequence.blocks]
        return plan

    def fits_soon(self, sequence: Sequence) -> bool:
        """Whether the head of the queue will likely be in the next iteration."""
        need = sequence.blocks_for(sequence.known) + self._limits.watermark_blocks
        return self._holdings.slots_free > 0 and self.blocks.available >= need

    def restore_ahead(self, now_ns: int) -> None:
        """Begins to bring back from host memory what the next requests will need."""
        waiting = islice(self._holdings.waiting.values(), self._limits.restores_max)
        for sequence in waiting:
            alone = not self._holdings.running and sequence.request.request_id == self._head
            watermark = 0 if alone else self._limits.watermark_blocks
            self._host.restore(sequence, self.blocks.available - watermark, now_ns)

    def may_admit(self, running: int) -> bool:
        """Whether the head of the queue might join `running` decodes after this iteration."""
        if self._holdings.slots_free <= 0 or running >= self._limits.batched_tokens_max:
            return False
        return self._blocked is None or (
            self._blocked[0] != self._head or self.blocks.available >= self._blocked[1]
        )

    @property
    def _head(self) -> RequestId:
        return next(iter(self._holdings.waiting))

    def lendable(self, count: int) -> bool:
        """Whether `count` blocks may be leased: the watermark and the head come first."""
        wanted = self._limits.watermark_blocks
        if self._blocked is not None and self._blocked[0] in self._holdings.waiting:
            wanted = max(wanted, self._blocked[1])
        return self.blocks.available - count >= wanted

    def _plan_running(self, plan: Plan) -> None:
        decodes: list[Sequence] = []
        prefills: list[Sequence] = []
        for sequence in self._holdings.running.values():
            if sequence.phase is Phase.DECODE:
                decodes.append(sequence)
            elif sequence.phase is Phase.PREFILL:
                prefills.append(sequence)
        for sequence in decodes + prefills:
            if sequence.phase is Phase.WAITING:
                continue  # preempted a moment ago
            if plan.budget == 0:
                return
            if self._make_room(sequence, plan):
                self._pick(sequence, plan)

    def _make_room(self, sequence: Sequence, plan: Plan) -> bool:
        """Blocks for all known tokens; later arrivals pay for them."""
        count = sequence.blocks_for(sequence.known)
        missing = count - len(sequence.blocks)
        if missing <= 0:
            return True
        if count > self.blocks.total:
            plan.unfit.append(sequence)
            return False
        while self.blocks.available < missing:
            victim = self._latest()
            swapped = self.blocks.available + self._host.coming >= missing
            if swapped or victim is None or victim is sequence:
                plan.stalled = True
                return False
            blocks, computed = victim.blocks, victim.computed
            self._holdings.preempt(victim)
            self._host.swap(blocks, computed, plan.now_ns)
            plan.preempted.append(victim)
        self._holdings.grow(sequence, missing)
        return True

    def _latest(self) -> Sequence | None:
        candidates = [
            sequence
            for sequence in self._holdings.running.values()
            if sequence.phase is not Phase.HANDOVER
        ]
        return max(candidates, key=lambda sequence: sequence.order, default=None)

    def _pick(self, sequence: Sequence, plan: Plan) -> None:
        count = min(sequence.remaining, self._limits.prefill_chunk_tokens, plan.budget)
        start = sequence.computed
        end = start + count
        plan.entries.append(Entry(sequence, start, end, end == sequence.known))
        plan.budget -= count

    def _admit(self, plan: Plan) -> None:
        """From the head of the queue, in order: nobody overtakes."""
        holdings = self._holdings
        while holdings.waiting and plan.budget > 0 and holdings.slots_free > 0:
            sequence = next(iter(holdings.waiting.values()))
            if sequence.blocks_for(sequence.known) > self.blocks.total:
                plan.unfit.append(sequence)
                return
            if sequence.arriving:
                return  # its prefix is on its way
            hits = self._fitting_hits(sequence)
            if hits is None:
                return
            holdings.admit(sequence, hits)
            plan.admitted.append(sequence)
            self._pick(sequence, plan)

    def _fitting_hits(self, sequence: Sequence) -> tuple[BlockId, ...] | None:
        """The cached prefix, leaving at least one token to compute; None if there is no room."""
        request_id = sequence.request.request_id
        available = self.blocks.available
        alone = not self._holdings.running
        if not alone and self._blocked is not None:
            blocked_id, needed = self._blocked
            if blocked_id == request_id and available < needed:
                return None
        hits = self.blocks.lookup(sequence.hashes, (sequence.known - 1) // sequence.block_tokens)
        fresh = sequence.blocks_for(sequence.known) - len(hits)
        watermark = 0 if alone else self._limits.watermark_blocks
        needed = self.blocks.unheld(hits) + fresh + watermark
        if available < needed:
            self._blocked = (request_id, needed)
            return None
        self._blocked = None
        return hits


def to_batch(iteration: int, entries: list[Entry]) -> Batch:
    """The entries as an order to the engine."""
    return Batch(iteration=iteration, chunks=tuple([_to_chunk(entry) for entry in entries]))


def _to_chunk(entry: Entry) -> Chunk:
    sequence = entry.sequence
    return Chunk(
        request_id=sequence.request.request_id,
        token_ids=tuple(sequence.token_ids[entry.start : entry.end]),
        start=entry.start,
        block_table=sequence.blocks,
        draw=sequence.draw() if entry.draws else None,
    )
