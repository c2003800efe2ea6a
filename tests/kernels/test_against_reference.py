"""Each CPU kernel computes what its plain-torch reference computes.

Tolerances: both sides round in float32 and sum in different orders. A sum of n
terms of size 1 differs by about sqrt(n) * 6e-8; the bounds leave a factor of ten.
"""

import pytest
import torch
from paged_batches import Batch, paged_batch
from splitweave.kernels.cpu.kernels import CpuKernels
from splitweave.kernels.reference import ReferenceKernels
from splitweave.kernels.seam import Kernels
from splitweave.kernels.select import select
from torch import Tensor

REFERENCE = ReferenceKernels()
LONG_SUM = 2e-5  # K = 1536 terms of size 1 / sqrt(K), in one chain
ELEMENTWISE = 3e-6


def assert_close(actual: Tensor, expected: Tensor, bound: float) -> None:
    torch.testing.assert_close(actual, expected, atol=bound, rtol=bound)


@pytest.mark.parametrize(("n", "k"), [(960, 576), (576, 1536), (32, 16), (100, 40), (1, 7)])
@pytest.mark.parametrize("rows", [1, 5, 33, 200])
def test_linear_equals_the_reference(cpu: CpuKernels, n: int, k: int, rows: int) -> None:
    weight_NK, x_TK, bias_N = torch.randn(n, k) / k**0.5, torch.randn(rows, k), torch.randn(n)
    packed = cpu.pack(weight_NK)
    assert_close(cpu.linear(x_TK, packed), x_TK @ weight_NK.T, LONG_SUM)
    assert_close(cpu.linear(x_TK, packed, bias_N), x_TK @ weight_NK.T + bias_N, LONG_SUM)


def test_linear_takes_rows_of_a_wider_buffer(cpu: CpuKernels) -> None:
    wide = torch.randn(9, 192)
    packed = cpu.pack(torch.randn(64, 64))
    expected = cpu.linear(wide[:, 64:128].contiguous(), packed)
    assert torch.equal(cpu.linear(wide[:, 64:128], packed), expected)


@pytest.mark.parametrize("shape", [(1, 576), (77, 576), (5, 3, 64)])
def test_rms_norm_equals_the_reference(cpu: CpuKernels, shape: tuple[int, ...]) -> None:
    x, weight = torch.randn(shape) * 3, torch.randn(shape[-1])
    expected = REFERENCE.rms_norm(x, weight, 1e-5)
    assert_close(cpu.rms_norm(x, weight, 1e-5), expected, ELEMENTWISE)


def test_rms_norm_takes_heads_inside_a_wider_buffer(cpu: CpuKernels) -> None:
    wide, weight = torch.randn(7, 320), torch.randn(64)
    heads = wide[:, :128].view(7, 2, 64)
    expected = cpu.rms_norm(heads.contiguous(), weight, 1e-5)
    assert torch.equal(cpu.rms_norm(heads, weight, 1e-5), expected)


def test_add_rms_norm_leaves_the_sum_in_the_residual(cpu: CpuKernels) -> None:
    x, residual, weight = torch.randn(50, 576), torch.randn(50, 576), torch.randn(576)
    total = x + residual
    y = cpu.add_rms_norm(x, residual, weight, 1e-5)
    assert torch.equal(residual, total)
    assert torch.equal(y, cpu.rms_norm(total, weight, 1e-5))


def test_silu_mul_equals_the_reference_even_where_exp_overflows(cpu: CpuKernels) -> None:
    gate_up = torch.randn(33, 3072) * 4
    gate_up[0, :6] = torch.tensor([-1e4, -100.0, -88.0, 88.0, 100.0, 1e4])
    assert_close(cpu.silu_mul(gate_up), REFERENCE.silu_mul(gate_up), ELEMENTWISE)


def rope_result(kernels: Kernels, buffer: Tensor) -> tuple[Tensor, Tensor]:
    """Rotate and store the same q, k, v, all of them views of one buffer."""
    qkv = buffer.clone()
    rows = len(qkv)
    q, k, v = (x.view(rows, -1, 64) for x in qkv.split([384, 128, 128], dim=1))
    angle = torch.arange(40)[:, None] * torch.linspace(1, 0.01, 32)
    positions = torch.arange(rows) + 3
    slots = torch.randperm(5 * 16, generator=torch.Generator().manual_seed(0))[:rows]
    layer = torch.zeros(2, 5, 2, 16, 64)
    kernels.rope_store(q, k, v, angle.cos(), angle.sin(), positions.int(), slots.int(), layer)
    return qkv, layer


def test_rope_store_equals_the_reference(cpu: CpuKernels) -> None:
    buffer = torch.randn(30, 640)
    actual, expected = rope_result(cpu, buffer), rope_result(REFERENCE, buffer)
    for a, b in zip(actual, expected, strict=True):
        assert_close(a, b, ELEMENTWISE)


def attend(kernels: Kernels, batch: Batch) -> Tensor:
    return kernels.paged_attention(
        batch.q_THD,
        batch.kv_layer,
        batch.block_tables_SB,
        batch.sequence_T,
        batch.positions_T,
        0.125,
    )


@pytest.mark.parametrize("block_tokens", [1, 8, 16, 64])
def test_attention_equals_the_reference(cpu: CpuKernels, block_tokens: int) -> None:
    batch = paged_batch([1, 31, 32, 33, 150], block_tokens)
    assert_close(attend(cpu, batch), attend(REFERENCE, batch), LONG_SUM)


def test_attention_survives_scores_far_apart(cpu: CpuKernels) -> None:
    batch = paged_batch([90])
    batch.q_THD.mul_(60.0)
    assert_close(attend(cpu, batch), attend(REFERENCE, batch), LONG_SUM * 10)


def test_the_cpu_gets_the_exact_kernels_and_others_the_reference() -> None:
    assert isinstance(select("cpu"), CpuKernels)
    assert isinstance(select("cuda:0"), ReferenceKernels)


def test_a_thread_count_beyond_the_cores_is_refused_by_number(cpu: CpuKernels) -> None:
    with pytest.raises(ValueError, match=r"threads \(4096\)"):
        cpu.set_threads(4096)
