"""Attention's two steps beside the matmul: transposing keys, running softmax."""

from typing import Any

from llvmlite import ir
from numba import types

from . import emit
from .tile import PANEL
from .vector_math import exponential, transpose

_WORD = types.int64
_MINUS_INFINITY = float("-inf")


@emit.inline_llvm
def transpose_keys(typing_context: Any, keys: Any, target: Any, size: Any) -> Any:
    """keys [PANEL, size] to target [size, PANEL]; size a multiple of 16."""
    signature = types.void(_WORD, _WORD, _WORD)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        keys, target, size = arguments
        with emit.counted_loop(builder, size, emit.LANES, []) as (first, _):
            for column in range(0, PANEL, emit.LANES):
                rows = [
                    _load_key(builder, keys, size, column + lane, first)
                    for lane in range(emit.LANES)
                ]
                for lane, vector in enumerate(transpose(builder, rows)):
                    row = builder.add(first, emit.word(lane))
                    index = builder.mul(row, emit.word(PANEL))
                    index = builder.add(index, emit.word(column))
                    emit.store(builder, vector, emit.address(builder, target, index))
        return context.get_dummy_value()

    return signature, generate


def _load_key(builder: Any, keys: Any, size: Any, row: int, first: Any) -> Any:
    index = builder.add(builder.mul(size, emit.word(row)), first)
    return emit.load(builder, emit.address(builder, keys, index))


@emit.inline_llvm
def softmax_step(
    typing_context: Any, scores: Any, seen: Any, state: Any, out: Any, size: Any
) -> Any:
    """Turn one row's PANEL scores into weights e^(s - max), in place.

    Only the first `seen` of them count; the others get weight 0. `state` holds
    the row's running maximum and sum; they and `out` [size], the unnormalised
    output so far, are rescaled to the new maximum (arXiv 1805.02867).
    """
    signature = types.void(*[_WORD] * 5)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        scores, seen, state, out, size = arguments
        sum_at = builder.add(state, emit.word(4))
        masks = [_mask(builder, seen, first) for first in range(0, PANEL, emit.LANES)]
        places = [builder.add(scores, emit.word(4 * f)) for f in range(0, PANEL, emit.LANES)]
        values = [
            builder.select(mask, emit.load(builder, at), emit.constant(_MINUS_INFINITY))
            for mask, at in zip(masks, places, strict=True)
        ]
        old = emit.splat(builder, emit.load(builder, state, emit.FLOAT))
        new = _running_maximum(builder, old, values)
        rescale = exponential(builder, builder.fsub(old, new))
        weights = [
            builder.select(mask, exponential(builder, builder.fsub(value, new)), emit.constant(0.0))
            for mask, value in zip(masks, values, strict=True)
        ]
        for weight, at in zip(weights, places, strict=True):
            emit.store(builder, weight, at)
        added = emit.fold(builder, _sum(builder, weights), builder.fadd)
        factor = _first_lane(builder, rescale)
        total = builder.fmul(emit.load(builder, sum_at, emit.FLOAT), factor)
        emit.store(builder, builder.fadd(total, added), sum_at)
        emit.store(builder, _first_lane(builder, new), state)
        # Multiplying by exactly 1 changes nothing, so it may be left out.
        moved = builder.fcmp_unordered("!=", factor, emit.scalar(1.0))
        with builder.if_then(moved):
            _scale(builder, out, rescale, size)
        return context.get_dummy_value()

    return signature, generate


@emit.inline_llvm
def normalise_row(typing_context: Any, out: Any, state: Any, y: Any, size: Any) -> Any:
    """y = out / sum. The added 0 makes -0 into 0: masked lanes may flip its sign."""
    signature = types.void(_WORD, _WORD, _WORD, _WORD)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        out, state, y, size = arguments
        sum_at = builder.add(state, emit.word(4))
        total = emit.splat(builder, emit.load(builder, sum_at, emit.FLOAT))
        with emit.counted_loop(builder, size, emit.LANES, []) as (i, _):
            value = emit.load(builder, emit.address(builder, out, i))
            quotient = builder.fadd(builder.fdiv(value, total), emit.constant(0.0))
            emit.store(builder, quotient, emit.address(builder, y, i))
        return context.get_dummy_value()

    return signature, generate


def _mask(builder: Any, seen: Any, first: int) -> Any:
    lanes = ir.Constant(emit.INT_VECTOR, list(range(first, first + emit.LANES)))
    limit = builder.trunc(seen, ir.IntType(32))
    undefined = ir.Constant(emit.INT_VECTOR, ir.Undefined)
    one = builder.insert_element(undefined, limit, ir.Constant(ir.IntType(32), 0))
    limits = builder.shuffle_vector(one, undefined, emit.int_constant(0))
    return builder.icmp_signed("<", lanes, limits)


def _running_maximum(builder: Any, old: Any, values: list[Any]) -> Any:
    def larger(a: Any, b: Any) -> Any:
        return emit.call(builder, "maxnum", [a, b])

    most = values[0]
    for value in values[1:]:
        most = larger(most, value)
    highest = emit.fold(builder, most, larger)
    return larger(old, emit.splat(builder, highest))


def _sum(builder: Any, vectors: list[Any]) -> Any:
    total = vectors[0]
    for vector in vectors[1:]:
        total = builder.fadd(total, vector)
    return total


def _first_lane(builder: Any, vector: Any) -> Any:
    return builder.extract_element(vector, ir.Constant(ir.IntType(32), 0))


def _scale(builder: Any, out: Any, factor: Any, size: Any) -> None:
    with emit.counted_loop(builder, size, emit.LANES, []) as (i, _):
        at = emit.address(builder, out, i)
        emit.store(builder, builder.fmul(emit.load(builder, at), factor), at)
