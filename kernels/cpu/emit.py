"""LLVM vector code for the kernels, written out by hand through llvmlite.

Exactness needs a fixed operation order. numba's loops leave fused multiply-adds
and reductions to LLVM's flags; here every operation is spelled, on vectors of 16
floats, without fast-math. LLVM splits such a vector into as many registers as
the machine needs (one with AVX-512, two with AVX2, four with NEON), which
changes no bit: so unlike CPUs in one fleet give the same results.
"""

import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from llvmlite import binding, ir
from numba.extending import intrinsic

LANES = 16
FLOAT = ir.FloatType()
WORD = ir.IntType(64)
VECTOR = ir.VectorType(FLOAT, LANES)
INT_VECTOR = ir.VectorType(ir.IntType(32), LANES)
MASK = ir.VectorType(ir.IntType(1), LANES)

# Wide registers are worth a wider matmul tile. It changes speed, never bits.
HAS_AVX512 = bool(binding.get_host_cpu_features().get("avx512f", False))

# llvmlite has no types.
Value = Any
Builder = Any

# numba types the decorated function with its leading typing context, which callers
# never pass.
inline_llvm: Callable[[Callable[..., Any]], Callable[..., Any]] = intrinsic


def word(number: int) -> Value:
    return ir.Constant(WORD, number)


def scalar(number: float) -> Value:
    """A float32 constant: LLVM's text form holds only exactly representable ones."""
    return ir.Constant(FLOAT, struct.unpack("f", struct.pack("f", number))[0])


def constant(number: float) -> Value:
    return ir.Constant(VECTOR, [scalar(number)] * LANES)


def int_constant(number: int) -> Value:
    return ir.Constant(INT_VECTOR, [number] * LANES)


def address(builder: Builder, base: Value, index: Value) -> Value:
    """The byte address of float `index` behind the byte address `base`."""
    return builder.add(base, builder.shl(index, word(2)))


def load(builder: Builder, at: Value, kind: Any = VECTOR) -> Value:
    return builder.load(builder.inttoptr(at, kind.as_pointer()), align=4)


def store(builder: Builder, value: Value, at: Value) -> None:
    builder.store(value, builder.inttoptr(at, value.type.as_pointer()), align=4)


def splat(builder: Builder, value: Value) -> Value:
    one = builder.insert_element(
        ir.Constant(VECTOR, ir.Undefined), value, ir.Constant(ir.IntType(32), 0)
    )
    zeros = ir.Constant(INT_VECTOR, [0] * LANES)
    return builder.shuffle_vector(one, ir.Constant(VECTOR, ir.Undefined), zeros)


def call(builder: Builder, name: str, arguments: Sequence[Value]) -> Value:
    """One of LLVM's elementwise intrinsics on vectors: llvm.fma, llvm.maxnum, ..."""
    kind = ir.FunctionType(VECTOR, [VECTOR] * len(arguments))
    module = builder.module
    full_name = f"llvm.{name}.v{LANES}f32"
    function = module.globals.get(full_name) or ir.Function(module, kind, full_name)
    return builder.call(function, arguments)


def fma(builder: Builder, a: Value, b: Value, c: Value) -> Value:
    return call(builder, "fma", [a, b, c])


def fold(builder: Builder, vector: Value, combine: Callable[[Value, Value], Value]) -> Value:
    """The 16 lanes combined in a fixed tree: halves, quarters, pairs, one."""
    width = LANES // 2
    while width:
        lanes = [(lane + width) % LANES for lane in range(LANES)]
        order = ir.Constant(INT_VECTOR, lanes)
        vector = combine(vector, builder.shuffle_vector(vector, vector, order))
        width //= 2
    return builder.extract_element(vector, ir.Constant(ir.IntType(32), 0))


@contextmanager
def counted_loop(
    builder: Builder, stop: Value, step: int, state: list[Value]
) -> Iterator[tuple[Value, list[Value]]]:
    """`for index in range(0, stop, step)` carrying `state` in registers.

    The body gets (index, state) and assigns the next state into that list; after
    the block the list holds the final state. Zero trips are fine.
    """
    before = builder.block
    head = builder.append_basic_block("head")
    body = builder.append_basic_block("body")
    done = builder.append_basic_block("done")
    builder.branch(head)
    builder.position_at_end(head)
    index = builder.phi(WORD)
    carried = [builder.phi(value.type) for value in state]
    builder.cbranch(builder.icmp_signed("<", index, stop), body, done)
    builder.position_at_end(body)
    following = list(carried)
    yield index, following
    index.add_incoming(word(0), before)
    index.add_incoming(builder.add(index, word(step)), builder.block)
    for phi, first, later in zip(carried, state, following, strict=True):
        phi.add_incoming(first, before)
        phi.add_incoming(later, builder.block)
    builder.branch(head)
    builder.position_at_end(done)
    following[:] = carried
