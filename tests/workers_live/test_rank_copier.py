"""Some heads of a cache's blocks: read and written apart, the others left alone."""

import torch
from splitweave.workers.core.head_ranges import HeadRange
from splitweave.workers.live.kv_cache import KvCache
from splitweave.workers.live.rank_copier import HeadBlocks
from splitweave.workers.models.spec import Family, ModelSpec

SPEC = ModelSpec(
    family=Family.LLAMA, layers=3, hidden=4, heads=5, kv_heads=5, head_dim=4, ffn=4, vocab=4,
    context_tokens=64, rms_eps=1e-5, rope_theta=1e4,
)  # fmt: skip
BLOCKS = (4, 1, 6)


def read(blocks: HeadBlocks, first_layer: int, last_layer: int) -> torch.Tensor:
    """The bytes of BLOCKS, as they go to the wire."""
    rows = blocks.block_rows(first_layer, last_layer, BLOCKS)
    data = torch.empty(rows.size_bytes, dtype=torch.uint8)
    rows.gather(0, data)
    return data


def filled() -> KvCache:
    cache = KvCache(SPEC, 8, 2)
    cache.tensor.copy_(torch.arange(cache.tensor.numel()).view(cache.tensor.shape))
    return cache


def test_heads_read_one_by_one_are_what_the_block_holds() -> None:
    cache = filled()
    whole = cache.read(1, 3, BLOCKS)
    for first in range(5):
        for last in range(first + 1, 6):
            some = read(HeadBlocks(cache, HeadRange(first=first, last=last)), 1, 3)
            wanted = whole[:, :, :, first:last].contiguous()
            assert torch.equal(some, wanted.flatten().view(torch.uint8))
            assert torch.equal(
                cache.read_heads(1, 3, BLOCKS, HeadRange(first=first, last=last)), wanted
            )


def test_written_heads_land_in_their_place_and_touch_nothing_else() -> None:
    source, target = filled(), KvCache(SPEC, 8, 2)
    for heads in (HeadRange(first=3, last=5), HeadRange(first=0, last=1)):
        payload = read(HeadBlocks(source, heads), 1, 3)
        HeadBlocks(target, heads).block_rows(1, 3, (0, 7, 2)).scatter(0, payload)
    expected = torch.zeros_like(source.tensor)
    for heads in (slice(3, 5), slice(0, 1)):
        expected[1:3, :, [0, 7, 2], heads] = source.tensor[1:3][:, :, list(BLOCKS)][:, :, :, heads]
    assert torch.equal(target.tensor, expected)


def test_what_was_written_head_by_head_reads_as_a_whole_block() -> None:
    source, target = filled(), KvCache(SPEC, 8, 2)
    for head in range(5):
        heads = HeadRange(first=head, last=head + 1)
        payload = read(HeadBlocks(source, heads), 0, 3)
        target.write_heads(0, 3, BLOCKS, heads, payload)
    assert torch.equal(target.read(0, 3, BLOCKS), source.read(0, 3, BLOCKS))


def test_a_cache_without_streams_needs_no_marks() -> None:
    cache = filled()
    cache.marks.stored(2)
    cache.marks.follow(2)
    cache.marks.settle()
    assert torch.equal(cache.read(0, 3, (1,))[:, :, 0], cache.tensor[:, :, 1])
