"""Norm, gate, rotation, copy: against float64, over shapes, strides and odd numbers."""

import numpy as np
import pytest
import torch
from emitted import add_row, copy_row, rotate_row
from hypothesis import given, settings
from hypothesis import strategies as st
from splitweave.kernels.cpu.kernels import CpuKernels
from splitweave.kernels.reference import ReferenceKernels
from torch import Tensor

SEEDED = settings(derandomize=True, deadline=None, max_examples=40)
REFERENCE = ReferenceKernels()
# A mean of n squares rounds at most n / 32 times a chain and 5 times in the tree, halved
# by the root; then three roundings more. Sizes stay below 1024: 32 / 2 + 6 half ulps.
NORM_BOUND = 22 * 2.0**-24
# One ulp of e^x, and three roundings.
GATE_BOUND = 5 * 2.0**-23

sixteens = st.integers(1, 12).map(lambda n: 16 * n)
scales = st.sampled_from([1e-22, 1e-18, 1e-3, 1.0, 1e3, 1e15])


def strided(seed: int, rows: int, columns: int, gap: int, shift: int) -> Tensor:
    """Rows of a wider buffer that begins at any float: NaN lies between them."""
    wide = torch.full((rows, columns + gap + shift), torch.nan)
    x = wide[:, shift : shift + columns]
    x.copy_(torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed)))
    return x


@SEEDED
@given(
    rows=st.integers(0, 40),
    size=sixteens,
    gap=st.integers(0, 5),
    shift=st.integers(0, 5),
    scale=scales,
    seed=st.integers(0, 2**31),
)
def test_a_norm_row_is_right_at_any_stride_alignment_and_scale(
    rows: int, size: int, gap: int, shift: int, scale: float, seed: int
) -> None:
    x = strided(seed, rows, size, gap, shift) * scale
    weight = torch.randn(size, generator=torch.Generator().manual_seed(seed + 1))
    wide = x.double()
    exact = wide / (wide.pow(2).mean(dim=1, keepdim=True) + 1e-5).sqrt() * weight
    actual = CpuKernels(threads=1).rms_norm(x, weight, 1e-5)
    # Squares below 2e-38 lose bits as denormals do: eps outweighs them by far.
    torch.testing.assert_close(actual.double(), exact, rtol=NORM_BOUND, atol=1e-40)


@SEEDED
@given(
    rows=st.integers(0, 40),
    size=sixteens,
    gap=st.integers(0, 5),
    shift=st.integers(0, 5),
    seed=st.integers(0, 2**31),
)
def test_a_gate_row_is_right_at_any_stride_and_alignment(
    rows: int, size: int, gap: int, shift: int, seed: int
) -> None:
    x = strided(seed, rows, 2 * size, gap, shift).mul_(10.0)
    gate, up = x.double().chunk(2, dim=1)
    exact = gate / (1 + torch.exp(-gate)) * up
    actual = CpuKernels(threads=1).silu_mul(x)
    torch.testing.assert_close(actual.double(), exact, rtol=GATE_BOUND, atol=1e-36)


@pytest.mark.parametrize("shape", [(0, 64), (1, 64), (3, 2, 64), (2, 3, 2, 32), (5, 0, 32)])
def test_a_norm_keeps_its_shape_over_any_leading_dimensions(
    cpu: CpuKernels, shape: tuple[int, ...]
) -> None:
    x = torch.arange(float(np.prod(shape))).reshape(shape) - 7
    y = cpu.rms_norm(x, torch.ones(shape[-1]), 1e-6)
    assert y.shape == x.shape
    torch.testing.assert_close(y, REFERENCE.rms_norm(x, torch.ones(shape[-1]), 1e-6))


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf, 3e38])
def test_numbers_that_break_a_norm_row_break_that_row_only(cpu: CpuKernels, bad: float) -> None:
    x = torch.randn(5, 64, generator=torch.Generator().manual_seed(0))
    weight = torch.ones(64)
    clean = cpu.rms_norm(x, weight, 1e-5)
    x[2, 17] = bad
    y = cpu.rms_norm(x, weight, 1e-5)
    assert torch.equal(y[[0, 1, 3, 4]], clean[[0, 1, 3, 4]])
    expected = REFERENCE.rms_norm(x, weight, 1e-5)[2]
    assert torch.equal(y[2].isnan(), expected.isnan())
    assert torch.equal(y[2].nan_to_num(0.0), expected.nan_to_num(0.0))


def test_a_gate_of_nan_or_infinity_is_what_ieee_makes_of_it(cpu: CpuKernels) -> None:
    x = torch.ones(1, 32)
    x[0, :4] = torch.tensor([torch.nan, torch.inf, 0.0, -0.0])
    y = cpu.silu_mul(x)[0]
    assert y[0].isnan()
    assert y[1:4].tolist() == [torch.inf, 0.0, 0.0]
    x = torch.ones(1, 32)
    x[0, 16] = torch.nan
    assert cpu.silu_mul(x)[0].isnan().tolist() == [True] + [False] * 15


def test_denormals_are_neither_flushed_nor_slow_to_be_wrong(cpu: CpuKernels) -> None:
    """A thread that flushes them would give other bits than one that does not."""
    tiny = torch.full((1, 32), 1e-42)
    tiny[:, 16:] = 2.0
    assert cpu.silu_mul(tiny)[0, 0].item() == pytest.approx(1e-42, rel=2e-3)
    residual = torch.full((1, 16), 3e-43)
    cpu.add_rms_norm(tiny[:, :16].contiguous(), residual, torch.ones(16), 1e-5)
    assert torch.equal(residual, torch.full((1, 16), 3e-43) + 1e-42)
    packed = cpu.pack(torch.eye(32))
    row = torch.linspace(1e-45, 1e-38, 32)[None]
    assert torch.equal(cpu.linear(row, packed), row)


def test_add_and_copy_touch_their_row_and_nothing_beside_it() -> None:
    for size in (16, 48):
        buffer = np.arange(3 * size + 8, dtype=np.float32)
        x, target = buffer[1 : size + 1].copy(), np.full(size + 8, -1, np.float32)
        copy_row(buffer.ctypes.data + 4, target.ctypes.data + 12, size)
        assert np.array_equal(target[3 : size + 3], x)
        assert (np.delete(target, range(3, size + 3)) == -1).all()
        total = target.copy()
        add_row(total.ctypes.data + 12, x.ctypes.data, size)
        assert np.array_equal(total[3 : size + 3], x + x)
        assert (np.delete(total, range(3, size + 3)) == -1).all()


@pytest.mark.parametrize("half", [16, 32, 48])
def test_a_rotation_turns_each_pair_by_its_angle_and_back(half: int) -> None:
    random = np.random.default_rng(half)
    x = random.standard_normal(2 * half).astype(np.float32)
    angle = random.uniform(-3, 3, half)
    cos, sin = np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)
    turned = x.copy()
    rotate_row(turned.ctypes.data, cos.ctypes.data, sin.ctypes.data, half)
    low, high = x[:half], x[half:]
    # Two products and their sum: three roundings of what may cancel.
    np.testing.assert_allclose(turned[:half], low * cos - high * sin, atol=1e-6)
    np.testing.assert_allclose(turned[half:], high * cos + low * sin, atol=1e-6)
    sin = -sin
    rotate_row(turned.ctypes.data, cos.ctypes.data, sin.ctypes.data, half)
    np.testing.assert_allclose(turned, x, atol=2e-6)
