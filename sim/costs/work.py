"""What one iteration computes, in counts: all that a cost model looks at.

A batch becomes `Work` once; a decode is a chunk of one token. Whoever predicts
many like iterations (fast-forward, a planner) makes the `Work` itself.
"""

from typing import NamedTuple

from ...proto.batch import Batch


class Prefill(NamedTuple):
    """`tokens` new tokens after `context` that are in the KV cache already."""

    tokens: int
    context: int

    @property
    def pairs(self) -> int:
        """(query, key) pairs of causal attention."""
        return self.tokens * self.context + self.tokens * (self.tokens + 1) // 2


class Work(NamedTuple):
    """One iteration.

    `decode_keys`: tokens of KV that all decodes read, the new ones included;
    `longest`: those of the one that reads most.
    """

    prefills: tuple[Prefill, ...] = ()
    decodes: int = 0
    decode_keys: int = 0
    longest: int = 0
    draws: int = 0

    @property
    def prefill_tokens(self) -> int:
        return sum(prefill.tokens for prefill in self.prefills)

    @property
    def tokens(self) -> int:
        """Rows of every matrix product."""
        return self.prefill_tokens + self.decodes

    @property
    def pairs(self) -> int:
        """(query, key) pairs of all prefills."""
        return sum(prefill.pairs for prefill in self.prefills)

    @property
    def decode_context(self) -> float:
        """Mean tokens of KV that a decode reads; 0 without decodes."""
        return self.decode_keys / self.decodes if self.decodes else 0.0


def work_of(batch: Batch) -> Work:
    """The counts of a batch."""
    prefills: list[Prefill] = []
    decodes = keys = longest = draws = 0
    for chunk in batch.chunks:
        new = len(chunk.token_ids)
        draws += chunk.draw is not None
        if new == 1:
            decodes += 1
            keys += chunk.start + 1
            longest = max(longest, chunk.start + 1)
        else:
            prefills.append(Prefill(new, chunk.start))
    return Work(tuple(prefills), decodes, keys, longest, draws)
