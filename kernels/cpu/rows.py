"""Row-wise kernels over a whole batch: norms, rotary positions, gate, KV store.

Small batches run on the calling thread: waking another costs more than the work.
Rows are computed alike either way.
"""

from typing import Any

import numpy as np
from numba import njit, prange, types

from .row_steps import add_row, copy_row, gate_row, norm_row, rotate_row

# Floats below which a batch stays on one thread (some 10 microseconds of work).
ALONE_FLOATS = 32_768

_WORD = types.int64
_FLOAT = types.float32
_INTS = types.int32[::1]


@njit(inline="always")
def _shares(rows: Any, size: Any, threads: Any) -> Any:
    return 1 if rows * size < ALONE_FLOATS else min(threads, rows)


@njit(inline="always")
def _norm_rows(
    first: Any, stop: Any, inner: Any, x: Any, stride: Any, weight: Any, y: Any,
    size: Any, eps: Any,
) -> None:  # fmt: skip
    for row in range(first, stop):
        at = x + 4 * (stride * (row // inner) + size * (row % inner))
        norm_row(at, weight, y + 4 * size * row, size, eps)


@njit(
    types.void(_WORD, _WORD, _WORD, _WORD, _WORD, _WORD, _WORD, _FLOAT, _WORD),
    parallel=True, nogil=True, cache=True,
)  # fmt: skip
def norm(
    x: Any, stride: Any, weight: Any, y: Any, outer: Any, inner: Any, size: Any,
    eps: Any, threads: Any,
) -> None:  # fmt: skip
    """y [outer, inner, size] = norm of x, whose outer rows lie `stride` floats apart."""
    rows = outer * inner
    shares = _shares(rows, size, threads)
    if shares == 1:
        _norm_rows(0, rows, inner, x, stride, weight, y, size, eps)
        return
    for share in prange(shares):
        first, stop = rows * share // shares, rows * (share + 1) // shares
        _norm_rows(first, stop, inner, x, stride, weight, y, size, eps)


@njit(inline="always")
def _add_norm_rows(
    first: Any, stop: Any, x: Any, stride: Any, residual: Any, weight: Any, y: Any,
    size: Any, eps: Any,
) -> None:  # fmt: skip
    for row in range(first, stop):
        here = 4 * size * row
        add_row(residual + here, x + 4 * stride * row, size)
        norm_row(residual + here, weight, y + here, size, eps)


@njit(
    types.void(_WORD, _WORD, _WORD, _WORD, _WORD, _WORD, _WORD, _FLOAT, _WORD),
    parallel=True, nogil=True, cache=True,
)  # fmt: skip
def add_norm(
    x: Any, stride: Any, residual: Any, weight: Any, y: Any, rows: Any, size: Any,
    eps: Any, threads: Any,
) -> None:  # fmt: skip
    """residual [rows, size] += x; y = norm of residual."""
    shares = _shares(rows, size, threads)
    if shares == 1:
        _add_norm_rows(0, rows, x, stride, residual, weight, y, size, eps)
        return
    for share in prange(shares):
        first, stop = rows * share // shares, rows * (share + 1) // shares
        _add_norm_rows(first, stop, x, stride, residual, weight, y, size, eps)


@njit(inline="always")
def _gate_rows(first: Any, stop: Any, x: Any, stride: Any, y: Any, size: Any) -> None:
    for row in range(first, stop):
        gate = x + 4 * stride * row
        gate_row(gate, gate + 4 * size, y + 4 * size * row, size)


@njit(types.void(*[_WORD] * 6), parallel=True, nogil=True, cache=True)
def gate(x: Any, stride: Any, y: Any, rows: Any, size: Any, threads: Any) -> None:
    """y [rows, size] = silu(first half of x's row) * second half."""
    shares = _shares(rows, 2 * size, threads)
    if shares == 1:
        _gate_rows(0, rows, x, stride, y, size)
        return
    for share in prange(shares):
        first, stop = rows * share // shares, rows * (share + 1) // shares
        _gate_rows(first, stop, x, stride, y, size)


@njit(inline="always")
def _rope_row(
    q: Any, k: Any, v: Any, cos: Any, sin: Any, key_at: Any, value_at: Any,
    head_step: Any, heads: Any, kv_heads: Any, size: Any,
) -> None:  # fmt: skip
    for head in range(heads):
        rotate_row(q + 4 * size * head, cos, sin, size // 2)
    for head in range(kv_heads):
        key = k + 4 * size * head
        rotate_row(key, cos, sin, size // 2)
        copy_row(key, key_at + 4 * head_step * head, size)
        copy_row(v + 4 * size * head, value_at + 4 * head_step * head, size)


@njit(
    types.void(*[_WORD] * 8, _INTS, _INTS, types.int64[::1]),
    nogil=True, cache=True,
)  # fmt: skip
def rope_store(
    q: Any, q_stride: Any, k: Any, k_stride: Any, v: Any, v_stride: Any,
    cos: Any, sin: Any, positions: Any, slots: Any, layer: Any,
) -> None:  # fmt: skip
    """Rotate q [T, H, D] and k [T, G, D], write k and v into their slots.

    `layer` is (address, blocks, H, G, block_tokens, D) of the paged cache. It is
    a fraction of a percent of an iteration: one thread does.
    """
    cache, blocks, heads, kv_heads, block_tokens, size = (
        layer[0], layer[1], layer[2], layer[3], layer[4], layer[5],
    )  # fmt: skip
    head_step = block_tokens * size
    values = 4 * blocks * kv_heads * head_step
    for row in range(len(positions)):
        block, offset = divmod(np.int64(slots[row]), block_tokens)
        at = cache + 4 * (block * kv_heads * head_step + offset * size)
        angle = 4 * np.int64(positions[row]) * (size // 2)
        _rope_row(
            q + 4 * q_stride * row, k + 4 * k_stride * row, v + 4 * v_stride * row,
            cos + angle, sin + angle, at, at + values, head_step, heads, kv_heads,
            size,
        )  # fmt: skip
