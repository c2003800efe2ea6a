"""Blocks of a paged cache as one run of bytes: gathered from it, scattered into it.

The cache is seen as a table of equal rows, each contiguous; the bytes are those
of some rows one after another. They are read and written a piece at a time,
straight between the cache and a transport's memory.
"""

from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...kernels.cpu import row_copy

Run = tuple[int, int, NDArray[np.int64], int, int, int, int]


class BlockBytes(Protocol):
    """A transport's Payload and Landing: a run of bytes, read or written in pieces."""

    @property
    def size_bytes(self) -> int: ...

    def gather(self, start: int, into: Tensor) -> None: ...

    def scatter(self, start: int, piece: Tensor) -> None: ...


class BlockRows:
    """Rows `index` [n] of `table` [rows, row_bytes] uint8, on the CPU. Any thread."""

    def __init__(self, table: Tensor, index: NDArray[np.int64]) -> None:
        assert table.stride(1) == 1, table.stride()
        self._table = table
        self._index = index
        self._row_bytes = table.shape[1]
        self.size_bytes = index.size * self._row_bytes

    def gather(self, start: int, into: Tensor) -> None:
        """Fill the flat bytes `into` from byte `start` of the run on."""
        row_copy.gather(*self._run(start, into))

    def scatter(self, start: int, piece: Tensor) -> None:
        """Put `piece` into its rows, from byte `start` of the run on."""
        row_copy.scatter(*self._run(start, piece))

    def _run(self, start: int, piece: Tensor) -> Run:
        """What a row copy takes. IndexError beyond the run: nothing behind this checks."""
        size = piece.numel()
        if not 0 <= start <= start + size <= self.size_bytes:
            raise IndexError(f"bytes {start}..{start + size} of {self.size_bytes}")
        assert piece.is_contiguous(), piece.stride()
        assert piece.dtype == torch.uint8, piece.dtype
        table = self._table
        return (
            table.data_ptr(), table.stride(0), self._index, self._row_bytes,
            start, piece.data_ptr(), size,
        )  # fmt: skip


class WholeRows:
    """A run that a device reads and writes best at once; its pieces are those of one tensor."""

    def __init__(
        self, size_bytes: int, read: Callable[[], Tensor], write: Callable[[Tensor], None]
    ) -> None:
        self.size_bytes = size_bytes
        self._read = read
        self._write = write
        self._whole: Tensor | None = None

    def gather(self, start: int, into: Tensor) -> None:
        """Read all with the first piece; forget it with the last."""
        if self._whole is None:
            self._whole = self._read().flatten().view(torch.uint8)
        into.copy_(self._whole[start : start + into.numel()])
        self._forget_after(start + into.numel())

    def scatter(self, start: int, piece: Tensor) -> None:
        """Write all with the last piece."""
        if self._whole is None:
            self._whole = torch.empty(self.size_bytes, dtype=torch.uint8, device=piece.device)
        self._whole[start : start + piece.numel()] = piece
        if start + piece.numel() == self.size_bytes:
            self._write(self._whole)
        self._forget_after(start + piece.numel())

    def _forget_after(self, end: int) -> None:
        if end == self.size_bytes:
            self._whole = None
