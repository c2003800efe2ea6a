"""Which iterations are measured: grids of prefill, of decode, and a few of both at once."""

from collections.abc import Iterator
from dataclasses import dataclass

PREFILL_TOKENS = tuple(1 << power for power in range(14))  # 1, 2, 4, … 8192
PREFILL_CONTEXTS = (0, 256, 1024, 4096, 16384)
DECODES = tuple(1 << power for power in range(11))
DECODE_CONTEXTS = (16, 64, 256, 1024, 4096, 16384)
MIXED_PREFILLS, MIXED_DECODES = 3, 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """One iteration: new prefill tokens behind a context, and decodes that each read one."""

    prefill_tokens: int = 0
    prefill_context: int = 0
    decodes: int = 0
    decode_context: int = 0

    def blocks(self, block_tokens: int) -> int:
        """KV blocks of all its requests, none shared."""
        prefill = -(-(self.prefill_tokens + self.prefill_context) // block_tokens)
        return prefill + self.decodes * -(-(self.decode_context + 1) // block_tokens)

    @property
    def longest(self) -> int:
        """Positions of the longest request."""
        return max(self.prefill_tokens + self.prefill_context, self.decode_context + 1)

    @property
    def tokens(self) -> int:
        """Rows that the iteration computes."""
        return self.prefill_tokens + self.decodes


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """What the worker has: tokens and requests of an iteration, context, blocks of KV."""

    batched_tokens_max: int
    sequences_max: int
    context_tokens_max: int
    blocks: int
    block_tokens: int

    def holds(self, shape: Shape) -> bool:
        """Whether such an iteration can be run."""
        return (
            shape.tokens <= self.batched_tokens_max
            and shape.decodes + (shape.prefill_tokens > 0) <= self.sequences_max
            and shape.longest <= self.context_tokens_max
            and shape.blocks(self.block_tokens) <= self.blocks
        )


def shapes_of(room: Room) -> list[Shape]:
    """All that the worker has room for, the shortest first."""
    return [shape for shape in _all(room) if room.holds(shape)]


def left_out(room: Room) -> int:
    """How many of the grids' points it has no room for."""
    return sum(not room.holds(shape) for shape in _all(room))


def _all(room: Room) -> Iterator[Shape]:
    lengths = [n for n in PREFILL_TOKENS if n <= room.batched_tokens_max]
    contexts = [n for n in PREFILL_CONTEXTS if n < room.context_tokens_max]
    batches = [n for n in DECODES if n <= room.sequences_max]
    reads = [n for n in DECODE_CONTEXTS if n < room.context_tokens_max]
    for tokens in lengths:
        for context in contexts:
            yield Shape(prefill_tokens=tokens, prefill_context=context)
    for decodes in batches:
        for context in reads:
            yield Shape(decodes=decodes, decode_context=context)
    for tokens in lengths[-MIXED_PREFILLS - 1 : -1]:
        for decodes in batches[-MIXED_DECODES - 1 : -1]:
            for context in reads[:-1]:
                yield Shape(prefill_tokens=tokens, decodes=decodes, decode_context=context)
