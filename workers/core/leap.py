"""Iterations between which nothing is decided, several in one jump.

While the batch in flight has only decodes and nobody waits, moves or ends, iteration
after iteration does the same to other numbers. `horizon` says for how long; `jump` then
does what as many `IterationDone` would have done, block by block in the same order. Only
the gateways are told later: a request's first token here at once, the others with its
last one, or when `tell` is called. A simulator's way to be fast; a live shell steps.
"""

from collections.abc import Callable
from collections.abc import Sequence as Row
from typing import NamedTuple

from ...proto.batch import Batch
from ...proto.requests import SampledToken
from ...proto.views import Phase
from .holdings import Holdings
from .limits import WorkerLimits
from .requests import Requests
from .scheduler import Entry, Scheduler
from .sequence import Sequence

# The next tokens of a sequence, as many as asked for.
Sample = Callable[[Sequence, int], list[SampledToken]]
# The order of an iteration without what it computes with; None: that is needed.
Count = Callable[[int, list[Entry]], Batch | None]


class Horizon(NamedTuple):
    """`iterations`, the one in flight included, before the end of which nothing is decided.

    `plans`: after the last one the next must be planned; else it is as the one before.
    """

    iterations: int
    plans: bool


class Crossing(NamedTuple):
    """After iteration `after` the sequence in place `place` has filled its block `block`."""

    after: int
    place: int
    block: int


class Leap:
    """Over one worker's `Holdings`."""

    def __init__(
        self,
        limits: WorkerLimits,
        context_tokens_max: int,
        holdings: Holdings,
        scheduler: Scheduler,
        requests: Requests,
    ) -> None:
        self._limits = limits
        self._context_tokens_max = context_tokens_max
        self._holdings = holdings
        self._scheduler = scheduler
        self._requests = requests
        self._known: list[Entry] = []  # the batch that is known by the next two
        self._draws_left: int | None = None  # None: what it draws cannot be foreseen
        self._fresh = False

    def horizon(self, entries: list[Entry]) -> Horizon | None:
        """How far the batch in flight can be foreseen; None: not at all."""
        if entries is not self._known:
            self._know(entries)
        if self._draws_left is None or any(entry.sequence.gone for entry in entries):
            return None
        blocks = self._scheduler.blocks.available // len(entries)
        if self._draws_left <= 1 or not blocks or self._changes(entries):
            return Horizon(1, plans=True)
        if self._fresh:
            return Horizon(1, plans=False)
        roomy = 1 + blocks * entries[0].sequence.block_tokens
        return Horizon(min(self._draws_left, roomy), plans=True)

    def flown(self, entries: list[Entry], count: int) -> None:
        """The batch known so far has become `entries`, `count` iterations later."""
        self._known, self._fresh = entries, False
        if self._draws_left is not None:
            self._draws_left -= count

    def _know(self, entries: list[Entry]) -> None:
        """Looks at a new batch: when its first request ends, and whether one has just begun."""
        self._known, self._fresh, left = entries, False, 1 << 62
        for entry in entries:
            sequence = entry.sequence
            request = sequence.request
            unforeseen = request.stop_token_ids or request.remaining_ns is not None
            if unforeseen or sequence.phase is not Phase.DECODE:
                self._draws_left = None
                return
            left = min(left, sequence.draws_left(self._context_tokens_max))
            self._fresh = self._fresh or not sequence.drawn
        self._draws_left = left

    def jump(self, entries: list[Entry], count: int, sample: Sample, *, flying: bool) -> None:
        """`count` iterations have ended; `flying`: and one more of the same has begun.

        What the last one decides is up to `settle`.
        """
        crossings: list[Crossing] = []
        for place, entry in enumerate(entries):
            sequence = entry.sequence
            if sequence.gone:
                continue
            sequence.extend(sample(sequence, count))
            size, computed = sequence.block_tokens, sequence.computed
            sequence.computed = after = computed + count
            for block in range(computed // size, after // size):
                crossings.append(Crossing((block + 1) * size - computed, place, block))  # noqa: PERF401
        crossings.sort()
        self._cross(entries, crossings, count if flying else count - 1)

    def settle(self, entries: list[Entry], now_ns: int) -> None:
        """The batch is over: its requests have ended, or await the next plan."""
        for entry in entries:
            sequence = entry.sequence
            if sequence.gone:
                self._holdings.landed(sequence, sequence.computed)
                continue
            sequence.in_flight = False
            self._requests.drew_several(sequence, self._context_tokens_max, now_ns)

    def tell_first(self, entries: list[Entry], drawn: int) -> None:
        """Tells the gateways the tokens of those that had drawn none before these `drawn`."""
        for entry in entries:
            if entry.sequence.drawn == drawn and not entry.sequence.gone:
                self._requests.tell(entry.sequence)

    def tell(self) -> None:
        """Tells the gateways all that they do not know."""
        for sequence in self._holdings.held.values():
            self._requests.tell(sequence)

    def _changes(self, entries: list[Entry]) -> bool:
        """Whether the next batch has others in it, or may have."""
        holdings = self._holdings
        if len(holdings.running) != len(entries):
            return True
        return bool(holdings.waiting) and self._scheduler.may_admit(len(entries))

    def _cross(self, entries: list[Entry], crossings: Row[Crossing], grown: int) -> None:
        """Publishes full blocks and takes new ones, as iteration after iteration would.

        Up to iteration `grown` the next one has begun, and has room for its token.
        """
        index = 0
        while index < len(crossings):
            after, begin = crossings[index].after, index
            while index < len(crossings) and crossings[index].after == after:
                _, place, block = crossings[index]
                sequence = entries[place].sequence
                self._holdings.blocks.publish(sequence.blocks[block], sequence.hashes[block])
                index += 1
            if after > grown:
                continue
            for _, place, block in crossings[begin:index]:
                sequence = entries[place].sequence
                if len(sequence.blocks) == block + 1:
                    self._holdings.grow(sequence, 1)
