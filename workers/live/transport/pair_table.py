"""The pairs of one direction, at most `pairs_max`; the least recently used idle one makes room.

Guarded by the transport's lock.
"""

from collections import OrderedDict
from collections.abc import Hashable
from typing import Any, Generic, Protocol, TypeVar

from .pair_loop import PairLoop


class HasLoop(Protocol):
    """An Outbound or an Inbound."""

    @property
    def loop(self) -> PairLoop[Any]: ...


K = TypeVar("K", bound=Hashable)
V = TypeVar("V", bound=HasLoop)


class PairTable(Generic[K, V]):
    """Live pairs by key. Pairs that left are kept until their thread is gone, for `loops`."""

    def __init__(self, pairs_max: int) -> None:
        self._pairs_max = pairs_max
        self._pairs: OrderedDict[K, V] = OrderedDict()
        self._leaving: list[PairLoop[Any]] = []

    def get(self, key: K) -> V | None:
        """The live pair of that key; it counts as used now."""
        self._drop_ended()
        pair = self._pairs.get(key)
        if pair is not None:
            self._pairs.move_to_end(key)
        return pair

    def known(self) -> list[K]:
        """Of all pairs, least recently used first."""
        return list(self._pairs)

    def make_room(self) -> str | None:
        """End idle pairs until one more fits, or say why it does not."""
        self._drop_ended()
        for pair in list(self._pairs.values()):
            if len(self._pairs) < self._pairs_max:
                break
            if pair.loop.end_if_idle():
                self._drop_ended()
        if len(self._pairs) < self._pairs_max:
            return None
        return f"all pairs are busy, pairs_max ({self._pairs_max})"

    def add(self, key: K, pair: V) -> None:
        """Enter a pair for which there is room."""
        assert len(self._pairs) < self._pairs_max, self._pairs_max
        self._pairs[key] = pair

    def loops(self) -> list[PairLoop[Any]]:
        """Every loop whose thread may still run."""
        self._drop_ended()
        return [*self._leaving, *(pair.loop for pair in self._pairs.values())]

    def _drop_ended(self) -> None:
        self._leaving = [loop for loop in self._leaving if not loop.join(0)]
        for key, pair in list(self._pairs.items()):
            if pair.loop.ended:
                self._leaving.append(self._pairs.pop(key).loop)
