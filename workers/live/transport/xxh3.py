"""The checksum of bytes in the CPU's memory."""

import xxhash
from torch import Tensor


class Xxh3:
    """XXH3, 64 bits; runs without the GIL."""

    def __init__(self) -> None:
        self._state = xxhash.xxh3_64()

    def update(self, piece: Tensor) -> None:
        """See Checksum."""
        self._state.update(piece.numpy().data)

    def digest(self) -> int:
        """See Checksum."""
        return self._state.intdigest()
