"""Paged attention: one path for prefill and decode rows.

Rows that follow each other in one sequence form a *run*. A run and a key/value
head are one piece of work: it walks the positions from 0 in tiles of 32, whatever
the rows, the chunk or the block size, with a running softmax. Tile edges lie at
fixed positions and every sum inside is one chain (see `tile`), so a row's bits
depend on its query and on the keys and values it may see, and on nothing else.
A tile in which a row sees nothing is left out for that row.
"""

from typing import Any

import numpy as np
from numba import njit, prange, types

from .row_steps import copy_row
from .softmax import normalise_row, softmax_step, transpose_keys
from .threads import draw
from .tile import PANEL, ROWS_MAX, multiply_tile

RUN_ROWS = 32  # rows sharing one transposed key tile; scratch stays in L2

_WORD = types.int64
_INTS = types.int32[::1]


@njit(inline="always")
def _multiply(
    a: Any, a_stride: Any, b: Any, b_stride: Any, depth: Any, start: Any,
    start_stride: Any, c: Any, c_stride: Any, first: Any, rows: Any,
) -> None:  # fmt: skip
    """Rows first..rows of c = start + a b, in tiles."""
    row = first
    while row < rows:
        count = min(ROWS_MAX, rows - row)
        multiply_tile(
            a + 4 * a_stride * row, a_stride, b, b_stride, depth,
            start + 4 * start_stride * row, start_stride,
            c + 4 * c_stride * row, c_stride, count,
        )  # fmt: skip
        row += count


@njit(nogil=True, cache=True)
def _find_runs(sequences: Any, positions: Any) -> Any:
    """First row of each run, and the row count at the end."""
    rows = len(positions)
    starts = np.empty(rows + 1, np.int64)
    runs = 0
    for row in range(rows):
        follows = (
            row > 0
            and sequences[row] == sequences[row - 1]
            and positions[row] == positions[row - 1] + 1
            and row - starts[runs - 1] < RUN_ROWS
        )
        if not follows:
            starts[runs] = row
            runs += 1
    starts[runs] = rows
    return starts[: runs + 1]


@njit(inline="always")
def _gather(
    first: Any, stop: Any, table: Any, cache: Any, values: Any, head: Any,
    layer: Any, keys: Any, value_tile: Any,
) -> None:  # fmt: skip
    """Copy positions first..stop of one head; positions past `stop` become 0."""
    kv_heads, block_tokens, size = layer[3], layer[4], layer[5]
    if stop < first + PANEL:
        # Stale cache beyond the end could hold infinities, and 0 * inf is NaN.
        keys[:] = 0
        value_tile[:] = 0
    for position in range(first, stop):
        block, offset = divmod(position, block_tokens)
        at = ((np.int64(table[block]) * kv_heads + head) * block_tokens + offset) * size
        target = 4 * (position - first) * size
        copy_row(cache + 4 * at, keys.ctypes.data + target, size)
        copy_row(cache + values + 4 * at, value_tile.ctypes.data + target, size)


@njit(inline="always")
def _attend_run(
    q: Any, q_stride: Any, out: Any, head: Any, rows: Any, first_position: Any,
    table: Any, layer: Any, scale: Any,
) -> None:  # fmt: skip
    """One run of rows, one key/value head. q and out point at the run's first row."""
    cache, blocks, heads, kv_heads, block_tokens, size = (
        layer[0], layer[1], layer[2], layer[3], layer[4], layer[5],
    )  # fmt: skip
    group = heads // kv_heads
    lines = rows * group
    values = 4 * blocks * kv_heads * block_tokens * size
    queries = np.empty((lines, size), np.float32)
    scores = np.empty((lines, PANEL), np.float32)
    sums = np.zeros((lines, size), np.float32)
    states = np.zeros((lines, 2), np.float32)
    keys = np.empty(PANEL * size, np.float32)
    keys_turned = np.empty(PANEL * size, np.float32)
    value_tile = np.empty(PANEL * size, np.float32)
    zeros = np.zeros(PANEL, np.float32)
    for line in range(lines):
        row, member = line // group, line % group
        source = q + 4 * (q_stride * row + (head * group + member) * size)
        copy_row(source, queries.ctypes.data + 4 * line * size, size)
        states[line, 0] = -np.inf
    for line in range(lines):
        for d in range(size):
            queries[line, d] *= scale
    stop = first_position + rows
    for first in range(0, stop, PANEL):
        _gather(
            first, min(first + PANEL, stop), table, cache, values, head, layer,
            keys, value_tile,
        )  # fmt: skip
        transpose_keys(keys.ctypes.data, keys_turned.ctypes.data, size)
        active = max(0, first - first_position) * group
        _multiply(
            queries.ctypes.data, size, keys_turned.ctypes.data, PANEL, size,
            zeros.ctypes.data, 0, scores.ctypes.data, PANEL, active, lines,
        )  # fmt: skip
        for line in range(active, lines):
            seen = min(PANEL, first_position + line // group - first + 1)
            softmax_step(
                scores.ctypes.data + 4 * PANEL * line, seen,
                states.ctypes.data + 8 * line, sums.ctypes.data + 4 * size * line, size,
            )  # fmt: skip
        for column in range(0, size, PANEL):
            _multiply(
                scores.ctypes.data, PANEL, value_tile.ctypes.data + 4 * column, size,
                PANEL, sums.ctypes.data + 4 * column, size,
                sums.ctypes.data + 4 * column, size, active, lines,
            )  # fmt: skip
    for line in range(lines):
        row, member = line // group, line % group
        target = out + 4 * ((heads * row + head * group + member) * size)
        normalise_row(
            sums.ctypes.data + 4 * size * line, states.ctypes.data + 8 * line, target, size
        )


@njit(
    types.void(
        _WORD, _WORD, _WORD, types.int32[:, ::1], _INTS, _INTS, types.int64[::1],
        types.float32, _WORD,
    ),
    parallel=True, nogil=True, cache=True,
)  # fmt: skip
def attend(
    q: Any, q_stride: Any, out: Any, tables: Any, sequences: Any, positions: Any,
    layer: Any, scale: Any, threads: Any,
) -> None:  # fmt: skip
    """out [T, H, D]; `layer` is (address, blocks, H, G, block_tokens, D)."""
    starts = _find_runs(sequences, positions)
    kv_heads = layer[3]
    pieces = (len(starts) - 1) * kv_heads
    counter = np.zeros(1, np.int64)
    for _share in prange(min(threads, pieces)):
        piece = draw(counter.ctypes.data)
        while piece < pieces:
            # The last run of a prompt sees the most: long pieces go first.
            run, head = divmod(pieces - 1 - piece, kv_heads)
            row = starts[run]
            _attend_run(
                q + 4 * q_stride * row, q_stride,
                out + 4 * layer[2] * layer[5] * row, head, starts[run + 1] - row,
                np.int64(positions[row]), tables[sequences[row]], layer, scale,
            )  # fmt: skip
            piece = draw(counter.ctypes.data)
