"""y = x @ W.T + bias over packed panels of W, on all threads.

W [N, K] lies as [N / 32][K][32]: one panel is what a tile reads from front to
back, so one row runs at the speed of memory. Many rows go in blocks whose
activations stay in the L2 cache while the panels pass by.
"""

from typing import Any

import numpy as np
from numba import njit, prange, types

from .threads import draw
from .tile import PANEL, ROWS_MAX, multiply_tile

# Activations kept in L2 beside one panel, in floats (512 KiB).
BLOCK_FLOATS = 131_072
# Few panels per piece of work, so that threads on shared cores end together.
PIECE_PANELS = 2

_WORD = types.int64


@njit(inline="always")
def _rows_at_once(rows: Any, depth: Any) -> Any:
    """Rows per block: a multiple of the tile, so that tiles stay full."""
    fitting = max(1, BLOCK_FLOATS // (depth * ROWS_MAX)) * ROWS_MAX
    return min(fitting, rows)


@njit(inline="always")
def _panel_rows(
    x: Any, x_stride: Any, panel: Any, bias: Any, y: Any, y_stride: Any,
    first: Any, stop: Any, depth: Any,
) -> None:  # fmt: skip
    row = first
    while row < stop:
        count = min(ROWS_MAX, stop - row)
        multiply_tile(
            x + 4 * x_stride * row, x_stride, panel, PANEL, depth, bias, 0,
            y + 4 * y_stride * row, y_stride, count,
        )  # fmt: skip
        row += count


@njit(types.void(*[_WORD] * 10), parallel=True, nogil=True, cache=True)
def linear(
    x: Any, x_stride: Any, weight: Any, bias: Any, y: Any, y_stride: Any,
    rows: Any, depth: Any, panels: Any, threads: Any,
) -> None:  # fmt: skip
    """x [rows, depth] times packed weight; addresses in bytes, strides in floats.

    `bias` points at panels * 32 floats: the chains start there. `y` has room for
    panels * 32 columns.
    """
    block_rows = _rows_at_once(rows, depth)
    blocks = (rows + block_rows - 1) // block_rows
    groups = (panels + PIECE_PANELS - 1) // PIECE_PANELS
    pieces = blocks * groups
    counter = np.zeros(1, np.int64)
    for _share in prange(min(threads, pieces)):
        piece = draw(counter.ctypes.data)
        while piece < pieces:
            block, group = divmod(piece, groups)
            first = block * block_rows
            stop = min(first + block_rows, rows)
            panel_first = group * PIECE_PANELS
            for panel in range(panel_first, min(panel_first + PIECE_PANELS, panels)):
                column = 4 * PANEL * panel
                _panel_rows(
                    x, x_stride, weight + column * depth, bias + column, y + column,
                    y_stride, first, stop, depth,
                )  # fmt: skip
            piece = draw(counter.ctypes.data)
