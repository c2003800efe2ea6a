"""The pieces that the CPU kernels are emitted from, each callable from a test.

Arrays go in as addresses, as in the kernels. Nothing is cached on disk: numba would
not notice an edit of `emit` or of what is built from it.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit, types
from numpy.typing import NDArray
from splitweave.kernels.cpu import emit, row_steps, softmax, tile, vector_math

Floats = NDArray[np.float32]
LANES = emit.LANES
_WORD = types.int64


def _lanewise(combine: Callable[[Any, list[Any]], Any], inputs: int) -> Any:
    """An intrinsic (address of 16 result floats, address of `inputs` x 16 floats)."""

    @emit.inline_llvm
    def lanes(typing_context: Any, y: Any, x: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            y, x = arguments
            at = [builder.add(x, emit.word(4 * LANES * place)) for place in range(inputs)]
            emit.store(builder, combine(builder, [emit.load(builder, a) for a in at]), y)
            return context.get_dummy_value()

        return types.void(_WORD, _WORD), generate

    return lanes


_exponential = _lanewise(lambda builder, x: vector_math.exponential(builder, x[0]), 1)
_fma = _lanewise(lambda builder, x: emit.fma(builder, *x), 3)
_fold_add = _lanewise(
    lambda builder, x: emit.splat(builder, emit.fold(builder, x[0], builder.fadd)), 1
)


@emit.inline_llvm
def _transpose(typing_context: Any, y: Any, x: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        y, x = arguments
        steps = [emit.word(4 * LANES * row) for row in range(LANES)]
        rows = [emit.load(builder, builder.add(x, step)) for step in steps]
        for vector, step in zip(vector_math.transpose(builder, rows), steps, strict=True):
            emit.store(builder, vector, builder.add(y, step))
        return context.get_dummy_value()

    return types.void(_WORD, _WORD), generate


@emit.inline_llvm
def _trips(typing_context: Any, y: Any, stop: Any) -> Any:
    """Counts the trips of a loop by 3 in a register, and stores each one's index into y."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        y, stop = arguments
        with emit.counted_loop(builder, stop, 3, [emit.word(0)]) as (index, state):
            at = emit.address(builder, y, state[0])
            emit.store(builder, builder.sitofp(index, emit.FLOAT), at)
            state[0] = builder.add(state[0], emit.word(1))
        return state[0]

    return types.int64(_WORD, _WORD), generate


@njit
def _exponentials(y: Any, x: Any, vectors: Any) -> None:
    for vector in range(vectors):
        _exponential(y + 64 * vector, x + 64 * vector)


@njit
def _fmas(y: Any, x: Any) -> None:
    _fma(y, x)


@njit
def _fold(y: Any, x: Any) -> None:
    _fold_add(y, x)


@njit
def _turn(y: Any, x: Any) -> None:
    _transpose(y, x)


@njit
def _count_by_three(y: Any, stop: Any) -> Any:
    return _trips(y, stop)


def exponential(x: Floats) -> Floats:
    """e^x of any number of floats, as the kernels compute it."""
    padded = np.zeros(-(-x.size // LANES) * LANES, np.float32)
    padded[: x.size] = x
    y = np.empty_like(padded)
    _exponentials(y.ctypes.data, padded.ctypes.data, padded.size // LANES)
    return y[: x.size]


def fma(a: Floats, b: Floats, c: Floats) -> Floats:
    """16 fused multiply-adds."""
    x, y = np.concatenate([a, b, c]), np.empty(LANES, np.float32)
    _fmas(y.ctypes.data, x.ctypes.data)
    return y


def fold_add(x: Floats) -> Floats:
    """The sum of 16 floats, in each of 16."""
    y = np.empty(LANES, np.float32)
    _fold(y.ctypes.data, x.ctypes.data)
    return y


def transpose(x: Floats) -> Floats:
    y = np.empty_like(x)
    _turn(y.ctypes.data, x.ctypes.data)
    return y


def indices_by_three(stop: int) -> list[float]:
    """The indices that `counted_loop(stop, step=3)` visits."""
    y = np.empty(64, np.float32)
    return y[: _count_by_three(y.ctypes.data, stop)].tolist()


@njit
def multiply_tile(
    a: Any, a_stride: Any, b: Any, b_stride: Any, depth: Any, start: Any, start_stride: Any,
    c: Any, c_stride: Any, rows: Any,
) -> None:  # fmt: skip
    tile.multiply_tile(a, a_stride, b, b_stride, depth, start, start_stride, c, c_stride, rows)


@njit
def transpose_keys(keys: Any, target: Any, size: Any) -> None:
    softmax.transpose_keys(keys, target, size)


@njit
def softmax_step(scores: Any, seen: Any, state: Any, out: Any, size: Any) -> None:
    softmax.softmax_step(scores, seen, state, out, size)


@njit
def normalise_row(out: Any, state: Any, y: Any, size: Any) -> None:
    softmax.normalise_row(out, state, y, size)


@njit
def add_row(total: Any, x: Any, size: Any) -> None:
    row_steps.add_row(total, x, size)


@njit
def copy_row(source: Any, target: Any, size: Any) -> None:
    row_steps.copy_row(source, target, size)


@njit
def rotate_row(x: Any, cos: Any, sin: Any, half: Any) -> None:
    row_steps.rotate_row(x, cos, sin, half)
