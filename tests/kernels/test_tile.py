"""The matmul tile: one chain of fused multiply-adds per element, whatever its rows."""

import numpy as np
import pytest
from emitted import Floats, multiply_tile
from hypothesis import given, settings
from hypothesis import strategies as st
from splitweave.kernels.cpu import emit
from splitweave.kernels.cpu.tile import PANEL, ROWS_MAX, VECTORS

SEEDED = settings(derandomize=True, deadline=None, max_examples=60)


def place(values: Floats, stride: int, misaligned: int = 0) -> Floats:
    """The rows `stride` floats apart, NaN between them, at any 4-byte boundary."""
    rows, columns = values.shape
    buffer = np.full(rows * stride + 16, np.nan, np.float32)
    view = buffer[misaligned : misaligned + rows * stride].reshape(rows, stride)
    view[:, :columns] = values
    return view


def tile(a: Floats, b: Floats, start: Floats, strides: tuple[int, int, int] = (0, 0, 0)) -> Floats:
    """c = start + a b; strides of a, b and c as extra floats between rows."""
    rows, depth = a.shape
    a_at, b_at = place(a, depth + strides[0], 1), place(b, PANEL + strides[1], 3)
    c_at = place(start, PANEL + strides[2], 5)
    before = c_at.copy()
    multiply_tile(
        a_at.ctypes.data, depth + strides[0], b_at.ctypes.data, PANEL + strides[1], depth,
        c_at.ctypes.data, PANEL + strides[2], c_at.ctypes.data, PANEL + strides[2], rows,
    )  # fmt: skip
    assert np.array_equal(c_at[:, PANEL:], before[:, PANEL:], equal_nan=True), "wrote beyond a row"
    return c_at[:, :PANEL].copy()


def chain(a: Floats, b: Floats, start: Floats) -> Floats:
    """The definition, each step rounded once: a product of floats is exact in a long double."""
    c = start.copy()
    for k in range(a.shape[1]):
        exact = a[:, k : k + 1].astype(np.longdouble) * b[k].astype(np.longdouble)
        c = (exact + c.astype(np.longdouble)).astype(np.float32)
    return c


def drawn(seed: int, rows: int, depth: int) -> tuple[Floats, Floats, Floats]:
    random = np.random.default_rng(seed)
    shapes = ((rows, depth), (depth, PANEL), (rows, PANEL))
    a, b, start = (random.standard_normal(s).astype(np.float32) for s in shapes)
    return a, b, start


@SEEDED
@given(
    rows=st.integers(1, ROWS_MAX),
    depth=st.integers(0, 70),
    strides=st.tuples(*[st.integers(0, 19)] * 3),
    seed=st.integers(0, 2**32 - 1),
)
def test_a_tile_is_its_chain_to_the_bit_at_any_shape_stride_and_alignment(
    rows: int, depth: int, strides: tuple[int, int, int], seed: int
) -> None:
    a, b, start = drawn(seed, rows, depth)
    assert np.array_equal(tile(a, b, start, strides), chain(a, b, start))


@SEEDED
@given(
    exponents=st.lists(st.integers(-149, 127), min_size=2, max_size=24),
    seed=st.integers(0, 2**32 - 1),
)
def test_a_chain_keeps_denormals_and_overflows_as_ieee_says(
    exponents: list[int], seed: int
) -> None:
    random = np.random.default_rng(seed)
    depth = len(exponents)
    a = np.ldexp(np.float32(1), np.array(exponents, np.int32)).reshape(1, depth)
    b = random.choice(np.array([1, -1, 0.5, 3], np.float32), (depth, PANEL))
    start = np.zeros((1, PANEL), np.float32)
    with np.errstate(all="ignore"):
        expected = chain(a, b, start)
    assert np.array_equal(tile(a, b, start), expected, equal_nan=True)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_stays_in_its_row_and_in_its_column(bad: float) -> None:
    a, b, start = drawn(1, ROWS_MAX, 20)
    clean = tile(a, b, start)
    row = ROWS_MAX // 2
    a[row, 7] = bad
    b[3, 11] = bad
    c = tile(a, b, start)
    assert not np.isfinite(c[row]).any()
    assert not np.isfinite(c[:, 11]).any()
    untouched = np.ones_like(c, dtype=bool)
    untouched[row], untouched[:, 11] = False, False
    assert np.array_equal(c[untouched], clean[untouched])


def test_a_bias_with_stride_zero_starts_every_row() -> None:
    a, b, start = drawn(2, ROWS_MAX, 9)
    bias, c = start[0].copy(), np.empty_like(start)
    multiply_tile(
        a.ctypes.data, 9, b.ctypes.data, PANEL, 9, bias.ctypes.data, 0, c.ctypes.data, PANEL,
        ROWS_MAX,
    )  # fmt: skip
    assert np.array_equal(c, chain(a, b, np.broadcast_to(bias, c.shape)))


@pytest.mark.parametrize("rows", [0, ROWS_MAX + 1])
def test_a_tile_without_code_for_its_rows_writes_nothing(rows: int) -> None:
    a, b, start = drawn(3, ROWS_MAX + 1, 4)
    c = start.copy()
    multiply_tile(
        a.ctypes.data, 4, b.ctypes.data, PANEL, 4, c.ctypes.data, PANEL, c.ctypes.data, PANEL, rows
    )
    assert np.array_equal(c, start)


def test_the_accumulators_of_a_tile_fit_the_registers() -> None:
    """Spilled accumulators cost half the speed: 32 registers of 16 floats, or 16 of 8."""
    registers, needed = (32, 1) if emit.HAS_AVX512 else (16, 2)
    assert needed * VECTORS * (ROWS_MAX + 1) + needed <= registers
    assert PANEL % (emit.LANES * VECTORS) == 0
