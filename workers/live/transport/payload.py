"""What a copy reads and what it fills: bytes that need not lie together.

Both are used a piece at a time, in order, by the thread of the pair. Offsets
and lengths are multiples of 16, but for the end of the copy.
"""

from typing import Protocol

from torch import Tensor

# What a gather or a scatter may raise; such a failure costs its copy only.
UNFIT = (RuntimeError, ValueError, IndexError)


class Payload(Protocol):
    """The bytes of one copy at its source."""

    @property
    def size_bytes(self) -> int: ...

    def gather(self, start: int, into: Tensor) -> None:
        """Fill the flat uint8 `into` with the bytes from `start` on. Raises UNFIT."""
        ...


class Landing(Protocol):
    """The place of one copy at its target. It gets bytes before they are verified:
    nobody may look at it until the copy has ended well.
    """

    @property
    def size_bytes(self) -> int: ...

    def scatter(self, start: int, piece: Tensor) -> None:
        """Take the flat uint8 `piece`, which begins at `start`. Raises UNFIT."""
        ...
