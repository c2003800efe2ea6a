"""What a worker's iterations took, kept from the first time that somebody asks.

Clock readings are the machine's monotonic clock, which its processes share: whether two
workers computed at once can be told from their logs.
"""

from collections import deque
from typing import NamedTuple

from ...proto.batch import Batch

ITERATIONS_KEPT_MAX = 32768  # the oldest go first


class TimedIteration(NamedTuple):
    """One iteration: what it computed, and the engine's time of it.

    `prefills`: new tokens and those before them, of each; `decode_keys`: tokens of KV that
    all `decodes` read.
    """

    prefills: tuple[tuple[int, int], ...]
    decodes: int
    decode_keys: int
    began_ns: int
    ended_ns: int


class IterationLog:
    """Written by the engine's thread, read by any."""

    def __init__(self) -> None:
        self._asked = False
        self._kept: deque[TimedIteration] = deque(maxlen=ITERATIONS_KEPT_MAX)

    def add(self, batch: Batch, began_ns: int, ended_ns: int) -> None:
        """An iteration has ended."""
        if self._asked:
            self._kept.append(_timed(batch, began_ns, ended_ns))

    def take(self) -> list[TimedIteration]:
        """Those since the last call; the first call begins the log."""
        self._asked = True
        return [self._kept.popleft() for _ in range(len(self._kept))]


def _timed(batch: Batch, began_ns: int, ended_ns: int) -> TimedIteration:
    prefills = []
    decodes = keys = 0
    for chunk in batch.chunks:
        tokens = len(chunk.token_ids)
        if tokens == 1:
            decodes += 1
            keys += chunk.start + 1
        else:
            prefills.append((tokens, chunk.start))
    return TimedIteration(tuple(prefills), decodes, keys, began_ns, ended_ns)
