"""Weights in one allocation are the same weights."""

import torch
from splitweave.kernels.select import select
from splitweave.workers.models.resident import ALIGNMENT, resident


def test_resident_weights_equal_the_originals_and_share_nothing_with_them() -> None:
    generator = torch.Generator().manual_seed(4)
    kernels = select("cpu")
    originals = {
        "norm": torch.randn(7, generator=generator),
        "packed": kernels.pack(torch.randn(33, 16, generator=generator)),
        "half": torch.randn(5, 3, generator=generator).to(torch.float16),
    }
    copies = resident(originals)
    assert list(copies) == list(originals)
    for name, original in originals.items():
        copy = copies[name]
        before = original if isinstance(original, torch.Tensor) else original.data
        after = copy if isinstance(copy, torch.Tensor) else copy.data
        assert torch.equal(before, after)
        assert before.dtype == after.dtype
        assert after.data_ptr() % ALIGNMENT == 0
        assert after.data_ptr() != before.data_ptr()
    packed = copies["packed"]
    assert (packed.in_features, packed.out_features) == (16, 33)


def test_resident_weights_lie_in_one_piece() -> None:
    copies = resident({str(index): torch.full((index + 1,), float(index)) for index in range(50)})
    starts = [tensor.data_ptr() for tensor in copies.values()]
    assert starts == sorted(starts)
    assert starts[-1] - starts[0] == 64 * sum(-(-4 * (index + 1) // 64) for index in range(49))


def test_no_weights_are_no_error() -> None:
    assert resident({}) == {}
