"""What the CPU kernels take, and what they refuse before an address is made of it."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from paged_batches import HEAD_SIZE, HEADS, KV_HEADS, Batch, paged_batch
from splitweave.kernels.cpu.kernels import CpuKernels
from splitweave.kernels.reference import ReferenceKernels
from splitweave.kernels.seam import Kernels
from torch import Tensor

SEEDED = settings(derandomize=True, deadline=None, max_examples=30)
REFERENCE = ReferenceKernels()


def attend(kernels: Kernels, batch: Batch, q_THD: Tensor | None = None) -> Tensor:
    return kernels.paged_attention(
        batch.q_THD if q_THD is None else q_THD,
        batch.kv_layer,
        batch.block_tables_SB,
        batch.sequence_T,
        batch.positions_T,
        0.125,
    )


@pytest.mark.parametrize("out_features", [1, 32, 33])
def test_a_linear_without_rows_gives_no_rows(cpu: CpuKernels, out_features: int) -> None:
    packed = cpu.pack(torch.randn(out_features, 48))
    for bias in (None, torch.ones(out_features)):
        assert cpu.linear(torch.empty(0, 48), packed, bias).shape == (0, out_features)


def test_every_other_kernel_without_rows_gives_no_rows(cpu: CpuKernels) -> None:
    none, weight = torch.empty(0, 64), torch.ones(64)
    assert cpu.rms_norm(none, weight, 1e-5).shape == (0, 64)
    assert cpu.add_rms_norm(none, none.clone(), weight, 1e-5).shape == (0, 64)
    assert cpu.silu_mul(none).shape == (0, 32)
    batch = paged_batch([3])
    nobody = batch.rows(torch.tensor([], dtype=torch.int64))
    assert attend(cpu, nobody).shape == (0, HEADS, HEAD_SIZE)
    before = batch.kv_layer.clone()
    kv = torch.empty(0, KV_HEADS, HEAD_SIZE)
    angles, ints = torch.ones(4, HEAD_SIZE // 2), torch.empty(0, dtype=torch.int32)
    cpu.rope_store(nobody.q_THD, kv, kv, angles, angles, ints, ints, batch.kv_layer)
    assert torch.equal(batch.kv_layer.isnan(), before.isnan())


@SEEDED
@given(
    rows=st.integers(0, 30),
    depth=st.integers(1, 90),
    out_features=st.integers(1, 100),
    gap=st.integers(0, 7),
    shift=st.integers(0, 7),
    seed=st.integers(0, 2**31),
)
def test_linear_is_exact_on_small_integers_at_any_shape_stride_and_alignment(
    rows: int, depth: int, out_features: int, gap: int, shift: int, seed: int
) -> None:
    """Integers below 2**24 leave nothing to round: any wrong address shows."""
    seeded = torch.Generator().manual_seed(seed)
    kernels = CpuKernels()
    wide = torch.full((rows, depth + gap + shift), torch.nan)
    x = wide[:, shift : shift + depth]
    x.copy_(torch.randint(-40, 41, (rows, depth), generator=seeded))
    weight = torch.randint(-40, 41, (out_features, depth), generator=seeded).float()
    bias = torch.randint(-9, 10, (out_features,), generator=seeded).float()
    packed = kernels.pack(weight)
    assert torch.equal(kernels.linear(x, packed), x @ weight.T)
    assert torch.equal(kernels.linear(x, packed, bias), x @ weight.T + bias)


@SEEDED
@given(
    lengths=st.lists(st.integers(1, 75), min_size=1, max_size=3),
    block_tokens=st.sampled_from([1, 3, 16, 33]),
    gap=st.integers(0, 3),
    order=st.integers(0, 99),
)
def test_attention_equals_the_reference_at_any_lengths_blocks_and_query_strides(
    lengths: list[int], block_tokens: int, gap: int, order: int
) -> None:
    batch = paged_batch(lengths, block_tokens, order)
    rows = sum(lengths)
    wide = torch.full((rows, HEADS * HEAD_SIZE + 2 * gap + 1), torch.nan)
    view = wide[:, gap : gap + HEADS * HEAD_SIZE].view(rows, HEADS, HEAD_SIZE)
    view.copy_(batch.q_THD)
    actual = attend(CpuKernels(), batch, view)
    torch.testing.assert_close(actual, attend(REFERENCE, batch), atol=1e-5, rtol=1e-5)
    assert torch.equal(actual, attend(CpuKernels(threads=1), batch))


def test_a_nan_query_makes_its_own_heads_nan_and_no_others(cpu: CpuKernels) -> None:
    batch = paged_batch([40, 3])
    clean = attend(cpu, batch)
    batch.q_THD[17, 4, 9] = torch.nan
    y = attend(cpu, batch)
    assert y[17, 4].isnan().all()
    y[17, 4] = clean[17, 4]
    assert torch.equal(y, clean)


def test_a_nan_key_makes_every_row_that_sees_it_nan_and_no_earlier_one(cpu: CpuKernels) -> None:
    batch = paged_batch([70])
    clean = attend(cpu, batch)
    block, offset = batch.block_tables_SB[0, 50 // 16], 50 % 16
    batch.kv_layer[0, block, 1, offset, 3] = torch.nan  # a key of head 1: queries 3, 4, 5
    y = attend(cpu, batch)
    assert y[50:, 3:].isnan().all()
    assert torch.equal(y[:50], clean[:50])
    assert torch.equal(y[:, :3], clean[:, :3])


@pytest.mark.parametrize("lengths", [[64, 3], [3, 64]])
def test_a_sequence_of_nan_leaves_the_others_alone(
    one_thread: CpuKernels, lengths: list[int]
) -> None:
    """One thread: its next piece of work gets the memory that held the NaN."""
    batch = paged_batch(lengths)
    clean = attend(one_thread, batch)
    spoiled = lengths.index(64)
    batch.kv_layer[:, batch.block_tables_SB[spoiled]] = torch.nan
    y = attend(one_thread, batch)
    others = batch.sequence_T != spoiled
    assert y[~others].isnan().all()
    assert torch.equal(y[others], clean[others])


def test_rope_store_writes_its_slots_and_no_other_memory(cpu: CpuKernels) -> None:
    layer = torch.full((2, 3, 2, 4, 32), -7.0)
    seeded = torch.Generator().manual_seed(4)
    q, k, v = (torch.randn(3, heads, 32, generator=seeded) for heads in (4, 2, 2))
    cos, sin = torch.ones(9, 16), torch.zeros(9, 16)
    positions, slots = torch.tensor([8, 0, 3]).int(), torch.tensor([11, 0, 6]).int()
    cpu.rope_store(q, k.clone(), v, cos, sin, positions, slots, layer)
    for row, slot in enumerate(slots.tolist()):
        block, offset = divmod(slot, 4)
        assert torch.equal(layer[0, block, :, offset], k[row])
        assert torch.equal(layer[1, block, :, offset], v[row])
        layer[:, block, :, offset] = -7.0
    assert (layer == -7.0).all()


def test_the_columns_that_pad_a_panel_are_zero_and_do_not_come_back(cpu: CpuKernels) -> None:
    packed = cpu.pack(torch.full((33, 5), 2.0))
    assert packed.data.shape == (2, 5, 32)
    assert (packed.data[1, :, 1:] == 0).all()
    y = cpu.linear(torch.ones(2, 5), packed)
    assert y.shape == (2, 33)
    assert y.is_contiguous()


def test_weights_packed_by_one_instance_serve_another() -> None:
    packed = CpuKernels().pack(torch.eye(64))
    x = torch.randn(3, 64, generator=torch.Generator().manual_seed(0))
    assert torch.equal(CpuKernels().linear(x, packed), x)


@pytest.mark.parametrize("threads", [0, -1, 4096])
def test_a_thread_count_out_of_range_is_refused_and_the_old_one_stays(threads: int) -> None:
    kernels = CpuKernels(threads=1)
    with pytest.raises(ValueError, match=rf"threads \({threads}\) is not within 1\.\.\d+"):
        kernels.set_threads(threads)
    assert torch.equal(
        kernels.linear(torch.ones(1, 4), kernels.pack(torch.eye(4))), torch.ones(1, 4)
    )


def _rope(cpu: CpuKernels, **changed: Any) -> None:
    arguments = {
        "q_THD": torch.ones(2, 4, 32),
        "k_TGD": torch.ones(2, 2, 32),
        "v_TGD": torch.ones(2, 2, 32),
        "cos_PD2": torch.ones(9, 16),
        "sin_PD2": torch.ones(9, 16),
        "positions_T": torch.zeros(2).int(),
        "slots_T": torch.zeros(2).int(),
        "kv_layer": torch.zeros(2, 3, 2, 4, 32),
    }
    cpu.rope_store(**{**arguments, **changed})


ONES = torch.ones
REFUSED: dict[str, Callable[[CpuKernels], object]] = {
    r"\(3, 4\)": lambda cpu: cpu.linear(ONES(2, 3), cpu.pack(ONES(5, 4))),
    r"torch.float64": lambda cpu: cpu.linear(ONES(2, 4).double(), cpu.pack(ONES(5, 4))),
    r"\(1, 2\)": lambda cpu: cpu.linear(ONES(4, 2).t(), cpu.pack(ONES(5, 4))),
    r"torch.Size\(\[4\]\)": lambda cpu: cpu.linear(ONES(2, 4), cpu.pack(ONES(5, 4)), ONES(4)),
    r"torch.bfloat16": lambda cpu: cpu.linear(
        ONES(2, 4), cpu.pack(ONES(32, 4)), ONES(32).bfloat16()
    ),
    r"row size \(24\) is not a multiple of 16": lambda cpu: cpu.rms_norm(ONES(2, 24), ONES(24), 0),
    r"\[16\]\), 32": lambda cpu: cpu.rms_norm(ONES(2, 32), ONES(16), 0),
    r"\[48\]\), 32": lambda cpu: cpu.add_rms_norm(ONES(2, 32), ONES(2, 32), ONES(48), 0),
    r"\[1, 32\]": lambda cpu: cpu.add_rms_norm(ONES(2, 32), ONES(1, 32), ONES(32), 0),
    r"gate and up \(33 columns\)": lambda cpu: cpu.silu_mul(ONES(2, 33)),
    r"row size \(8\)": lambda cpu: cpu.silu_mul(ONES(2, 16)),
    r"head size \(48\) is not a multiple of 32": lambda cpu: _rope(
        cpu, q_THD=ONES(2, 4, 48), kv_layer=torch.zeros(2, 3, 2, 4, 48)
    ),
    r"\(3, 2\)": lambda cpu: _rope(cpu, q_THD=ONES(2, 3, 32)),
    r"\[2, 1, 32\]": lambda cpu: _rope(cpu, k_TGD=ONES(2, 1, 32)),
    r"rows of q, k, positions and slots": lambda cpu: _rope(cpu, slots_T=torch.zeros(1).int()),
    r"\(128, 1, 4\)": lambda cpu: _rope(cpu, q_THD=ONES(2, 32, 4).transpose(1, 2)),
}  # fmt: skip


@pytest.mark.parametrize("message", REFUSED)
def test_what_does_not_fit_is_refused_by_its_numbers(cpu: CpuKernels, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        REFUSED[message](cpu)


@pytest.mark.parametrize("field", ["positions_T", "slots_T"])
def test_wide_integers_are_refused_and_not_read_as_narrow_ones(cpu: CpuKernels, field: str) -> None:
    with pytest.raises(TypeError, match="No matching definition"):
        _rope(cpu, **{field: torch.zeros(2, dtype=torch.int64)})
