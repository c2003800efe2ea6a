"""The one matmul tile that linear layers and attention share.

    c[r, n] = start[r, n] + a[r, 0] b[0, n] + a[r, 1] b[1, n] + ...

as one chain of fused multiply-adds per element, in the order of k. A chain has
no split and no remainder, so its bits cannot depend on how many rows or columns
travel together: a tile of 1 row and a tile of 12 give equal bits. The speed
comes from many chains side by side in registers (Goto and van de Geijn, 2008).
"""

from typing import Any

from llvmlite import ir
from numba import types

from . import emit

PANEL = 32  # columns of a packed panel: one tile's widest reach
# How far ahead to ask for the panel. Hardware prefetchers stop at each 4 KiB page;
# measured: 8 rows 27 -> 22 ms an iteration, 64 rows 69 -> 56 ms.
PREFETCH_BYTES = 4096
# Registers: 12 x 2 accumulators of 32 (AVX-512), 6 x 1 vector of two (AVX2).
ROWS_MAX = 12 if emit.HAS_AVX512 else 6
VECTORS = 2 if emit.HAS_AVX512 else 1


@emit.inline_llvm
def multiply_tile(
    typing_context: Any,
    a: Any,
    a_stride: Any,
    b: Any,
    b_stride: Any,
    depth: Any,
    start: Any,
    start_stride: Any,
    c: Any,
    c_stride: Any,
    rows: Any,
) -> Any:
    """Write a [rows, PANEL] tile of c; rows in 1..ROWS_MAX.

    a, b, start, c are byte addresses; strides count floats between rows. `start`
    may be c itself (accumulate) or a bias with stride 0.
    """
    signature = types.void(*[types.int64] * 10)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        *tile, rows_value = arguments
        done = builder.append_basic_block("tile_done")
        switch = builder.switch(rows_value, done)
        for row_count in range(1, ROWS_MAX + 1):
            block = builder.append_basic_block(f"rows_{row_count}")
            switch.add_case(emit.word(row_count), block)
            builder.position_at_end(block)
            _emit_rows(builder, tile, row_count)
            builder.branch(done)
        builder.position_at_end(done)
        return context.get_dummy_value()

    return signature, generate


def _emit_rows(builder: Any, tile: list[Any], row_count: int) -> None:
    """All column groups of a tile with a row count known to the compiler."""
    a, a_stride, b, b_stride, depth, start, start_stride, c, c_stride = tile
    a_rows = _row_addresses(builder, a, a_stride, row_count)
    start_rows = _row_addresses(builder, start, start_stride, row_count)
    c_rows = _row_addresses(builder, c, c_stride, row_count)
    b_step = builder.shl(b_stride, emit.word(2))
    for first in range(0, PANEL, emit.LANES * VECTORS):
        columns = [4 * (first + emit.LANES * v) for v in range(VECTORS)]
        sums = [
            emit.load(builder, builder.add(row, emit.word(offset)))
            for row in start_rows
            for offset in columns
        ]
        with emit.counted_loop(builder, depth, 1, sums) as (k, state):
            b_row = builder.add(b, builder.mul(k, b_step))
            _prefetch(builder, builder.add(b_row, emit.word(PREFETCH_BYTES)))
            b_vectors = [
                emit.load(builder, builder.add(b_row, emit.word(offset))) for offset in columns
            ]
            for row, a_row in enumerate(a_rows):
                at = emit.address(builder, a_row, k)
                a_vector = emit.splat(builder, emit.load(builder, at, emit.FLOAT))
                for v, b_vector in enumerate(b_vectors):
                    place = row * VECTORS + v
                    state[place] = emit.fma(builder, a_vector, b_vector, state[place])
        for place, value in enumerate(state):
            row, v = divmod(place, VECTORS)
            at = builder.add(c_rows[row], emit.word(columns[v]))
            emit.store(builder, value, at)


def _row_addresses(builder: Any, base: ir.Value, stride: ir.Value, row_count: int) -> list[Any]:
    return [
        emit.address(builder, base, builder.mul(stride, emit.word(row))) for row in range(row_count)
    ]


def _prefetch(builder: Any, at: Any) -> None:
    """Ask for the PANEL floats at this address; any address is allowed."""
    byte, flag = ir.IntType(8).as_pointer(), ir.IntType(32)
    kind = ir.FunctionType(ir.VoidType(), [byte, flag, flag, flag])
    name = "llvm.prefetch.p0"
    function = builder.module.globals.get(name) or ir.Function(builder.module, kind, name)
    read, nearby, data = (ir.Constant(flag, number) for number in (0, 3, 1))
    for line in range(0, 4 * PANEL, 64):
        pointer = builder.inttoptr(builder.add(at, emit.word(line)), byte)
        builder.call(function, [pointer, read, nearby, data])
