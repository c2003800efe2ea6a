"""Blocks as a run of bytes: refused beyond its ends, and where no rows are."""

import pytest
import torch
from splitweave.kernels.cpu.row_copy import LINE_BYTES
from splitweave.workers.core.head_ranges import HeadRange
from splitweave.workers.live.kv_cache import KvCache
from splitweave.workers.models.spec import Family, ModelSpec

SPEC = ModelSpec(
    family=Family.LLAMA, layers=3, hidden=12, heads=3, kv_heads=3, head_dim=4,
    ffn=64, vocab=9, context_tokens=99, rms_eps=1e-5, rope_theta=1e4,
)  # fmt: skip
BLOCKS = (4, 0, 3)


@pytest.fixture
def cache() -> KvCache:
    made = KvCache(SPEC, blocks=5, block_tokens=2)
    made.tensor.normal_(generator=torch.Generator().manual_seed(1))
    return made


@pytest.mark.parametrize(("start", "size"), [(-1, 4), (0, 10_000), (1720, 16), (1728, 1)])
def test_a_piece_beyond_the_run_is_refused_both_ways(cache: KvCache, start: int, size: int) -> None:
    rows = cache.rows(0, 3, BLOCKS)
    assert rows.size_bytes == 1728
    before = cache.tensor.clone()
    with pytest.raises(IndexError, match=f"bytes {start}"):
        rows.gather(start, torch.empty(size, dtype=torch.uint8))
    with pytest.raises(IndexError, match=f"bytes {start}"):
        rows.scatter(start, torch.zeros(size, dtype=torch.uint8))
    assert torch.equal(cache.tensor, before)


@pytest.mark.parametrize("heads", [(0, 3), (1, 3), (2, 3)])
def test_pieces_are_those_of_a_read_and_land_as_a_write(
    cache: KvCache, heads: tuple[int, int]
) -> None:
    some = HeadRange(first=heads[0], last=heads[1])
    read = cache.read_heads(1, 3, BLOCKS, some).flatten().view(torch.uint8)
    rows = cache.rows_of_heads(1, 3, BLOCKS, some)
    pieces = [torch.empty(len(part), dtype=torch.uint8) for part in read.split(48)]
    for number, piece in enumerate(pieces):
        rows.gather(48 * number, piece)
    assert torch.equal(torch.cat(pieces), read)

    targets = (1, 2, 0)
    other, written = (KvCache(SPEC, blocks=5, block_tokens=2) for _ in range(2))
    landing = other.rows_of_heads(1, 3, targets, some)
    for number, piece in enumerate(pieces):
        landing.scatter(48 * number, piece)
    written.write_heads(1, 3, targets, some, read)
    assert torch.equal(other.tensor, written.tensor)


def test_a_piece_of_no_bytes_is_nothing(cache: KvCache) -> None:
    nothing = torch.empty(0, dtype=torch.uint8)
    for rows in (cache.rows(0, 3, ()), cache.rows(1, 1, BLOCKS)):
        rows.gather(0, nothing)
        rows.scatter(0, nothing)


@pytest.mark.parametrize("blocks", [1, 3, 64, 1000])
def test_a_cache_begins_at_a_line_and_is_zero(blocks: int) -> None:
    tensor = KvCache(SPEC, blocks, block_tokens=2).tensor
    assert tensor.data_ptr() % LINE_BYTES == 0
    assert tensor.is_contiguous()
    assert not tensor.any()
