"""Blocks of a paged cache as one run of bytes: gathered from it, scattered into it.

The cache is seen as a table of equal rows, each contiguous; the bytes are those
of some rows one after another. They are read and written a piece at a time,
straight between the cache and a transport's memory.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Bytes [at, at + size) of a piece: whole rows from `row` on, or part of that one row."""

    at: int
    size: int
    row: int
    rows: int  # 0: part of one
    offset: int


def spans(start: int, size: int, row_bytes: int) -> Iterator[Span]:
    """Cut bytes [start, start + size) of the run at its rows: a part, whole rows, a part."""
    at = 0
    while at < size:
        row, offset = divmod(start + at, row_bytes)
        whole = 0 if offset else (size - at) // row_bytes
        length = whole * row_bytes or min(size - at, row_bytes - offset)
        yield Span(at=at, size=length, row=row, rows=whole, offset=offset)
        at += length


class BlockBytes(Protocol):
    """A transport's Payload and Landing: a run of bytes, read or written in pieces."""

    @property
    def size_bytes(self) -> int: ...

    def gather(self, start: int, into: Tensor) -> None: ...

    def scatter(self, start: int, piece: Tensor) -> None: ...


class BlockRows:
    """Rows `index` [n] of `table` [rows, row_bytes] uint8, on the CPU. Any thread.

    Without the GIL. By torch one way, by numpy the other: torch's index_copy_ goes
    element by element, numpy's take first copies a table that has gaps.
    """

    def __init__(self, table: Tensor, index: NDArray[np.int64]) -> None:
        self._table = table
        self._numbers = torch.from_numpy(index)
        self._rows: NDArray[np.uint8] = table.numpy()
        self._index = index
        self._row_bytes = table.shape[1]
        self.size_bytes = index.size * self._row_bytes

    def gather(self, start: int, into: Tensor) -> None:
        """Fill the flat bytes `into` from byte `start` of the run on."""
        for span in spans(start, into.numel(), self._row_bytes):
            piece = into[span.at : span.at + span.size]
            if span.rows:
                numbers = self._numbers[span.row : span.row + span.rows]
                torch.index_select(self._table, 0, numbers, out=piece.view(span.rows, -1))
            else:
                piece.numpy()[:] = self._part(span)

    def scatter(self, start: int, piece: Tensor) -> None:
        """Put `piece` into its rows, from byte `start` of the run on."""
        data = piece.numpy()
        for span in spans(start, data.size, self._row_bytes):
            part = data[span.at : span.at + span.size]
            if span.rows:
                index = self._index[span.row : span.row + span.rows]
                self._rows[index] = part.reshape(span.rows, -1)
            else:
                self._part(span)[:] = part

    def _part(self, span: Span) -> NDArray[np.uint8]:
        row: NDArray[np.uint8] = self._rows[self._index[span.row]]
        return row[span.offset : span.offset + span.size]


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
