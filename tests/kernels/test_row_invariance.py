"""The bits of a row depend on that row: not on company, place, threads or chunks."""

import pytest
import torch
from paged_batches import Batch, paged_batch
from splitweave.kernels.cpu.kernels import CpuKernels
from torch import Tensor

ROW_COUNTS = (1, 2, 3, 4, 5, 7, 8, 11, 12, 13, 16, 33, 100)


def attend(kernels: CpuKernels, batch: Batch) -> Tensor:
    return kernels.paged_attention(
        batch.q_THD,
        batch.kv_layer,
        batch.block_tables_SB,
        batch.sequence_T,
        batch.positions_T,
        0.125,
    )


@pytest.mark.parametrize("count", ROW_COUNTS)
def test_a_linear_row_is_the_same_in_any_company(cpu: CpuKernels, count: int) -> None:
    packed, bias_N = cpu.pack(torch.randn(200, 576)), torch.randn(200)
    x_TK = torch.randn(500, 576)
    together = cpu.linear(x_TK, packed, bias_N)
    chosen = torch.randperm(500)[:count]
    assert torch.equal(cpu.linear(x_TK[chosen], packed, bias_N), together[chosen])


def test_a_linear_row_is_the_same_among_two_thousand(cpu: CpuKernels) -> None:
    packed = cpu.pack(torch.randn(64, 1536))
    x_TK = torch.randn(2048, 1536)
    together = cpu.linear(x_TK, packed)
    for row in (0, 83, 84, 1000, 2047):
        assert torch.equal(cpu.linear(x_TK[row : row + 1], packed), together[row : row + 1])


def test_a_linear_column_is_the_same_in_a_shard(cpu: CpuKernels) -> None:
    weight_NK, x_TK = torch.randn(192, 576), torch.randn(9, 576)
    whole = cpu.linear(x_TK, cpu.pack(weight_NK))
    shard = cpu.linear(x_TK, cpu.pack(weight_NK[50:150]))
    assert torch.equal(shard, whole[:, 50:150])


@pytest.mark.parametrize("count", ROW_COUNTS)
def test_a_norm_and_a_gate_row_are_the_same_in_any_company(cpu: CpuKernels, count: int) -> None:
    x, weight = torch.randn(300, 576), torch.randn(576)
    gate_up = torch.randn(300, 3072)
    chosen = torch.randperm(300)[:count]
    normed, gated = cpu.rms_norm(x, weight, 1e-5), cpu.silu_mul(gate_up)
    assert torch.equal(cpu.rms_norm(x[chosen], weight, 1e-5), normed[chosen])
    assert torch.equal(cpu.silu_mul(gate_up[chosen]), gated[chosen])


def test_a_decode_row_equals_its_prefill_row(cpu: CpuKernels) -> None:
    batch = paged_batch([100, 37])
    prefill = attend(cpu, batch)
    for row in range(0, 137, 5):
        alone = attend(cpu, batch.rows(torch.tensor([row])))
        assert torch.equal(alone[0], prefill[row])


@pytest.mark.parametrize("chunk", [1, 7, 16, 31, 32, 33, 64])
def test_chunks_of_a_prefill_equal_the_whole(cpu: CpuKernels, chunk: int) -> None:
    batch = paged_batch([130])
    chunks = [attend(cpu, batch.rows(rows)) for rows in torch.arange(130).split(chunk)]
    assert torch.equal(torch.cat(chunks), attend(cpu, batch))


@pytest.mark.parametrize("count", ROW_COUNTS)
def test_an_attention_row_is_the_same_in_any_company(cpu: CpuKernels, count: int) -> None:
    batch = paged_batch([70, 1, 129, 40])
    chosen = torch.randperm(240)[:count]
    assert torch.equal(attend(cpu, batch.rows(chosen)), attend(cpu, batch)[chosen])


@pytest.mark.parametrize("block_tokens", [4, 16, 32, 128])
def test_where_blocks_lie_and_their_size_change_nothing(cpu: CpuKernels, block_tokens: int) -> None:
    expected = attend(cpu, paged_batch([70, 129]))
    moved = paged_batch([70, 129], block_tokens, order_seed=5)
    assert torch.equal(attend(cpu, moved), expected)


def test_one_thread_and_all_threads_give_equal_bits(
    cpu: CpuKernels, one_thread: CpuKernels
) -> None:
    batch = paged_batch([70, 129])
    assert torch.equal(attend(one_thread, batch), attend(cpu, batch))
    packed, x_TK = cpu.pack(torch.randn(960, 576)), torch.randn(100, 576)
    assert torch.equal(one_thread.linear(x_TK, packed), cpu.linear(x_TK, packed))
    weight = torch.randn(576)
    assert torch.equal(one_thread.rms_norm(x_TK, weight, 1e-5), cpu.rms_norm(x_TK, weight, 1e-5))
