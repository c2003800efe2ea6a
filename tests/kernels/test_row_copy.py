"""Copies of rows: every byte of the run and no other, wherever a piece begins and ends."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from splitweave.kernels.cpu import row_copy
from splitweave.kernels.cpu.row_copy import LINE_BYTES

SEEDED = settings(derandomize=True, deadline=None, max_examples=150)
TABLE_ROWS = 9
CANARY = 0xEE


def lined_up(size: int, shift: int) -> np.ndarray[Any, Any]:
    """Bytes that begin `shift` behind a line of the cache, one line of canaries around them."""
    whole = np.full(size + 4 * LINE_BYTES, CANARY, dtype=np.uint8)
    first = LINE_BYTES + -whole.ctypes.data % LINE_BYTES + shift
    return whole[first : first + size]


def filled(size: int, shift: int, seed: int) -> np.ndarray[Any, Any]:
    made = lined_up(size, shift)
    made[:] = np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8)
    return made


@st.composite
def pieces(draw: Any) -> tuple[int, int, list[int], int, int, int]:
    """Row bytes, stride, rows, start and size of a piece, and how far off a line it all lies."""
    row_bytes = draw(st.sampled_from([1, 16, 48, 64, 80, 128, 192, 1000]))
    stride = row_bytes + draw(st.sampled_from([0, 16, 64]))
    rows = draw(st.lists(st.integers(0, TABLE_ROWS - 1), min_size=1, max_size=7, unique=True))
    start = draw(st.integers(0, len(rows) * row_bytes))
    size = draw(st.integers(0, len(rows) * row_bytes - start))
    return row_bytes, stride, rows, start, size, draw(st.sampled_from([0, 1, 16]))


def run_of(table: np.ndarray[Any, Any], stride: int, row_bytes: int, rows: list[int]) -> Any:
    """The plain way: which byte of the table each byte of the run is."""
    return np.concatenate([np.arange(row * stride, row * stride + row_bytes) for row in rows])


@SEEDED
@given(piece=pieces())
def test_a_gathered_piece_is_those_bytes_of_the_run(
    piece: tuple[int, int, list[int], int, int, int],
) -> None:
    row_bytes, stride, rows, start, size, shift = piece
    table = filled(TABLE_ROWS * stride, shift, seed=1)
    into = lined_up(size + LINE_BYTES, shift)
    row_copy.gather(
        table.ctypes.data, stride, np.array(rows, np.int64), row_bytes,
        start, into.ctypes.data, size,
    )  # fmt: skip
    run = table[run_of(table, stride, row_bytes, rows)]
    assert np.array_equal(into[:size], run[start : start + size])
    assert np.all(into[size:] == CANARY)


@SEEDED
@given(piece=pieces())
def test_a_scattered_piece_changes_those_bytes_and_no_other(
    piece: tuple[int, int, list[int], int, int, int],
) -> None:
    row_bytes, stride, rows, start, size, shift = piece
    table = filled(TABLE_ROWS * stride, shift, seed=1)
    data = filled(size, shift, seed=2)
    expected = table.copy()
    expected[run_of(table, stride, row_bytes, rows)[start : start + size]] = data
    row_copy.scatter(
        table.ctypes.data, stride, np.array(rows, np.int64), row_bytes,
        start, data.ctypes.data, size,
    )  # fmt: skip
    assert np.array_equal(table, expected)


@pytest.mark.parametrize("chunk_bytes", [64, 1008, 4096, 1 << 20])
def test_a_table_comes_back_through_pieces_of_any_size(chunk_bytes: int) -> None:
    row_bytes, count = 8192, 40
    table = torch.randint(256, (count, row_bytes), dtype=torch.uint8)
    rows = np.random.default_rng(3).permutation(count)
    landed = torch.zeros_like(table)
    place = torch.empty(chunk_bytes, dtype=torch.uint8)
    for start in range(0, count * row_bytes, chunk_bytes):
        size = min(chunk_bytes, count * row_bytes - start)
        for copy, memory in ((row_copy.gather, table), (row_copy.scatter, landed)):
            copy(memory.data_ptr(), row_bytes, rows, row_bytes, start, place.data_ptr(), size)
    assert torch.equal(landed, table)
