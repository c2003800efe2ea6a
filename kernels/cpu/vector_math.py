"""Vector functions built from `emit`: the exponential, and a 16 x 16 transpose."""

from typing import Any

from llvmlite import ir

from . import emit

LOG2_E = 1.4426950408889634
# ln 2 in two parts: the first has few bits, so n * LN2_HIGH is exact (Cody, Waite).
LN2_HIGH = 0.693359375
LN2_LOW = -2.12194440e-4
# Cephes expf: minimax for (e^r - 1 - r) / r^2 on |r| <= ln(2) / 2, about 1 ulp.
COEFFICIENTS = (
    1.9875691500e-4,
    1.3981999507e-3,
    8.3334519073e-3,
    4.1665795894e-2,
    1.6666665459e-1,
    5.0000001201e-1,
)
EXPONENT_MAX = 88.0
EXPONENT_MIN = -87.0


def exponential(builder: Any, x: Any) -> Any:
    """e^x per lane, with x clamped to [-87, 88]; exactly 1 at 0; NaN of NaN."""
    # minnum and maxnum would make a number of NaN, and hide a broken model.
    x = _clamped(builder, ">", x, EXPONENT_MAX)
    x = _clamped(builder, "<", x, EXPONENT_MIN)
    scaled = builder.fmul(x, emit.constant(LOG2_E))
    n = emit.call(builder, "rint", [scaled])
    r = emit.fma(builder, n, emit.constant(-LN2_HIGH), x)
    r = emit.fma(builder, n, emit.constant(-LN2_LOW), r)
    polynomial = emit.constant(COEFFICIENTS[0])
    for coefficient in COEFFICIENTS[1:]:
        polynomial = emit.fma(builder, polynomial, r, emit.constant(coefficient))
    fraction = emit.fma(builder, polynomial, builder.fmul(r, r), r)
    fraction = builder.fadd(fraction, emit.constant(1.0))
    return builder.fmul(fraction, _power_of_two(builder, n))


def _clamped(builder: Any, beyond: str, x: Any, limit: float) -> Any:
    """The limit where x lies beyond it; NaN lies beyond nothing."""
    bound = emit.constant(limit)
    return builder.select(builder.fcmp_ordered(beyond, x, bound), bound, x)


def _power_of_two(builder: Any, n: Any) -> Any:
    """2^n per lane, written straight into a float's exponent bits."""
    biased = builder.add(builder.fptosi(n, emit.INT_VECTOR), emit.int_constant(127))
    bits = builder.shl(biased, emit.int_constant(23))
    return builder.bitcast(bits, emit.VECTOR)


def transpose(builder: Any, rows: list[Any]) -> list[Any]:
    """16 row vectors to 16 column vectors: swap off-diagonal squares of 8, 4, 2, 1."""
    rows = list(rows)
    half = emit.LANES // 2
    while half:
        keep_low = [_swapped(lane, half, low=True) for lane in range(emit.LANES)]
        keep_high = [_swapped(lane, half, low=False) for lane in range(emit.LANES)]
        for upper in range(emit.LANES):
            if upper & half:
                continue
            a, b = rows[upper], rows[upper + half]
            low = ir.Constant(emit.INT_VECTOR, keep_low)
            high = ir.Constant(emit.INT_VECTOR, keep_high)
            rows[upper] = builder.shuffle_vector(a, b, low)
            rows[upper + half] = builder.shuffle_vector(a, b, high)
        half //= 2
    return rows


def _swapped(lane: int, half: int, *, low: bool) -> int:
    """Where a lane comes from in the pair (a: 0..15, b: 16..31)."""
    if low:
        return lane if not lane & half else emit.LANES + lane - half
    return lane + half if not lane & half else emit.LANES + lane
