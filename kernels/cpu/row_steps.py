"""What is done to one row: norm, rotation, gate, copy. Each is one LLVM loop.

Addresses are bytes, sizes are floats and multiples of 16.
"""

from typing import Any

from numba import types

from . import emit
from .vector_math import exponential

_WORD = types.int64


@emit.inline_llvm
def norm_row(typing_context: Any, x: Any, weight: Any, y: Any, size: Any, eps: Any) -> Any:
    """y = x / sqrt(mean(x^2) + eps) * weight. y may be x."""
    signature = types.void(_WORD, _WORD, _WORD, _WORD, types.float32)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        x, weight, y, size, eps = arguments
        sums = [emit.constant(0.0)]
        with emit.counted_loop(builder, size, emit.LANES, sums) as (i, state):
            value = emit.load(builder, emit.address(builder, x, i))
            state[0] = emit.fma(builder, value, value, state[0])
        total = emit.fold(builder, state[0], builder.fadd)
        mean = builder.fdiv(total, builder.sitofp(size, emit.FLOAT))
        shifted = emit.splat(builder, builder.fadd(mean, eps))
        root = emit.call(builder, "sqrt", [shifted])
        inverse = builder.fdiv(emit.constant(1.0), root)
        with emit.counted_loop(builder, size, emit.LANES, []) as (i, _):
            value = emit.load(builder, emit.address(builder, x, i))
            scaled = builder.fmul(value, inverse)
            gain = emit.load(builder, emit.address(builder, weight, i))
            result = builder.fmul(scaled, gain)
            emit.store(builder, result, emit.address(builder, y, i))
        return context.get_dummy_value()

    return signature, generate


@emit.inline_llvm
def add_row(typing_context: Any, total: Any, x: Any, size: Any) -> Any:
    """total += x."""
    signature = types.void(_WORD, _WORD, _WORD)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        total, x, size = arguments
        with emit.counted_loop(builder, size, emit.LANES, []) as (i, _):
            at = emit.address(builder, total, i)
            value = emit.load(builder, emit.address(builder, x, i))
            emit.store(builder, builder.fadd(emit.load(builder, at), value), at)
        return context.get_dummy_value()

    return signature, generate


@emit.inline_llvm
def copy_row(typing_context: Any, source: Any, target: Any, size: Any) -> Any:
    """target = source."""
    signature = types.void(_WORD, _WORD, _WORD)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        source, target, size = arguments
        with emit.counted_loop(builder, size, emit.LANES, []) as (i, _):
            value = emit.load(builder, emit.address(builder, source, i))
            emit.store(builder, value, emit.address(builder, target, i))
        return context.get_dummy_value()

    return signature, generate


@emit.inline_llvm
def rotate_row(typing_context: Any, x: Any, cos: Any, sin: Any, half: Any) -> Any:
    """Rotate each pair (x[i], x[i + half]) by its angle, in place."""
    signature = types.void(_WORD, _WORD, _WORD, _WORD)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        x, cos, sin, half = arguments
        x_high = emit.address(builder, x, half)
        with emit.counted_loop(builder, half, emit.LANES, []) as (i, _):
            low_at = emit.address(builder, x, i)
            high_at = emit.address(builder, x_high, i)
            low, high = emit.load(builder, low_at), emit.load(builder, high_at)
            c = emit.load(builder, emit.address(builder, cos, i))
            s = emit.load(builder, emit.address(builder, sin, i))
            turned_low = builder.fsub(builder.fmul(low, c), builder.fmul(high, s))
            turned_high = builder.fadd(builder.fmul(high, c), builder.fmul(low, s))
            emit.store(builder, turned_low, low_at)
            emit.store(builder, turned_high, high_at)
        return context.get_dummy_value()

    return signature, generate


@emit.inline_llvm
def gate_row(typing_context: Any, gate: Any, up: Any, y: Any, size: Any) -> Any:
    """y = gate / (1 + e^-gate) * up."""
    signature = types.void(_WORD, _WORD, _WORD, _WORD)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        gate, up, y, size = arguments
        with emit.counted_loop(builder, size, emit.LANES, []) as (i, _):
            g = emit.load(builder, emit.address(builder, gate, i))
            u = emit.load(builder, emit.address(builder, up, i))
            decay = exponential(builder, builder.fneg(g))
            silu = builder.fdiv(g, builder.fadd(decay, emit.constant(1.0)))
            at = emit.address(builder, y, i)
            emit.store(builder, builder.fmul(silu, u), at)
        return context.get_dummy_value()

    return signature, generate
