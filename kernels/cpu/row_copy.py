"""Rows of a table, one after another, as a run of bytes: read out of it, written into it.

    table   row 7 | row 8 | ...      rows [8, 3, 7]       run   row 8 | row 3 | row 7

A piece of the run may begin and end within a row. Rows that are written whole
lines of the cache at a time go past the caches: nobody reads them soon, and a
store that goes through a cache first reads what it overwrites (measured: 0.12 ns
per byte through it, 0.05 past it, the piece itself in the cache).

Addresses are bytes. Without the GIL; on the calling thread only.
"""

from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils

from . import emit

LINE_BYTES = 64
_WORD = types.int64
_BYTE = ir.IntType(8)


@emit.inline_llvm
def copy_bytes(typing_context: Any, source: Any, target: Any, size: Any) -> Any:
    """target = source, of any size and alignment."""
    signature = types.void(_WORD, _WORD, _WORD)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        source, target, size = arguments
        reads = builder.inttoptr(source, _BYTE.as_pointer())
        writes = builder.inttoptr(target, _BYTE.as_pointer())
        cgutils.raw_memcpy(builder, writes, reads, size, 1)
        return context.get_dummy_value()

    return signature, generate


@emit.inline_llvm
def stream_lines(typing_context: Any, source: Any, target: Any, lines: Any) -> Any:
    """target = source, past the caches; `target` lies at a line. `settle` before others look."""
    signature = types.void(_WORD, _WORD, _WORD)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        source, target, lines = arguments
        past = builder.module.add_metadata([ir.Constant(ir.IntType(32), 1)])
        floats = builder.mul(lines, emit.word(emit.LANES))
        with emit.counted_loop(builder, floats, emit.LANES, []) as (i, _):
            value = emit.load(builder, emit.address(builder, source, i))
            at = builder.inttoptr(emit.address(builder, target, i), emit.VECTOR.as_pointer())
            builder.store(value, at, align=LINE_BYTES).set_metadata("nontemporal", past)
        return context.get_dummy_value()

    return signature, generate


@emit.inline_llvm
def settle(typing_context: Any) -> Any:
    """What was stored before, past the caches or not, is seen before what is stored later."""
    signature = types.void()

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return signature, generate


@njit(
    types.void(_WORD, _WORD, types.int64[::1], _WORD, _WORD, _WORD, _WORD),
    nogil=True, cache=True,
)  # fmt: skip
def gather(
    table: Any, stride: Any, rows: Any, row_bytes: Any, start: Any, into: Any, size: Any
) -> None:
    """`into` = bytes [start, start + size) of the run; rows of `table` lie `stride` apart."""
    row, offset = start // row_bytes, start % row_bytes
    done = 0
    while done < size:
        length = min(row_bytes - offset, size - done)
        copy_bytes(table + rows[row] * stride + offset, into + done, length)
        done += length
        row, offset = row + 1, 0


@njit(
    types.void(_WORD, _WORD, types.int64[::1], _WORD, _WORD, _WORD, _WORD),
    nogil=True, cache=True,
)  # fmt: skip
def scatter(
    table: Any, stride: Any, rows: Any, row_bytes: Any, start: Any, piece: Any, size: Any
) -> None:
    """Bytes [start, start + size) of the run = `piece`; rows of `table` lie `stride` apart."""
    row, offset = start // row_bytes, start % row_bytes
    done = 0
    while done < size:
        length = min(row_bytes - offset, size - done)
        target = table + rows[row] * stride + offset
        if target % LINE_BYTES or length % LINE_BYTES:
            copy_bytes(piece + done, target, length)
        else:
            stream_lines(piece + done, target, length // LINE_BYTES)
        done += length
        row, offset = row + 1, 0
    settle()
