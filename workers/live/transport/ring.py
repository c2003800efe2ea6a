"""The places of one pair's messages: a ring of slots, each allocated when first used."""

from collections.abc import Callable

from torch import Tensor


class Ring:
    """`slots` slots of `slot_bytes` from `allocate`; the pair's thread only."""

    def __init__(self, slots: int, slot_bytes: int, allocate: Callable[[int], Tensor]) -> None:
        self._slots: list[Tensor | None] = [None] * slots
        self._slot_bytes = slot_bytes
        self._allocate = allocate

    @property
    def slots(self) -> int:
        """How many places there are at once."""
        return len(self._slots)

    def place(self, number: int, size_bytes: int) -> Tensor:
        """See Pair."""
        assert size_bytes <= self._slot_bytes, (size_bytes, self._slot_bytes)
        at = number % len(self._slots)
        slot = self._slots[at]
        if slot is None:
            slot = self._slots[at] = self._allocate(self._slot_bytes)
        return slot[:size_bytes]
