"""Blocks are bytes that can be read here and written there, layer by layer."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from splitweave.proto.batch import Batch, Chunk
from splitweave.workers.live.engine import TorchEngine
from splitweave.workers.live.kv_cache import KvCache, block_bytes, blocks_for
from splitweave.workers.models.errors import ModelError
from splitweave.workers.models.spec import Family, ModelSpec

PROMPT = list(range(3, 60))


@pytest.fixture
def spec() -> ModelSpec:
    return ModelSpec(
        family=Family.LLAMA, layers=3, hidden=64, heads=4, kv_heads=2, head_dim=16, ffn=64,
        vocab=9, context_tokens=64, rms_eps=1e-5, rope_theta=1e4,
    )  # fmt: skip


def test_blocks_read_are_a_contiguous_copy_that_writes_back(spec: ModelSpec) -> None:
    cache = KvCache(spec, blocks=10, block_tokens=4)
    cache.tensor.normal_()
    before = cache.tensor.clone()
    payload = cache.read(1, 3, (7, 2))
    assert payload.shape == (2, 2, 2, 2, 4, 16)
    assert payload.is_contiguous()
    cache.tensor.zero_()
    cache.write(1, 3, (2, 7), payload.flatten())
    assert torch.equal(cache.tensor[1:3, :, 2], before[1:3, :, 7])
    assert torch.equal(cache.tensor[1:3, :, 7], before[1:3, :, 2])
    assert cache.tensor[0].abs().sum() == 0


def test_memory_is_counted_in_whole_blocks(spec: ModelSpec) -> None:
    each = block_bytes(spec, block_tokens=4)
    assert each == 3 * 2 * 2 * 4 * 16 * 4
    assert KvCache(spec, blocks=5, block_tokens=4).tensor.nbytes == 5 * each
    assert blocks_for(3 * each + 1, spec, 4) == 3
    with pytest.raises(ModelError, match=f"below one block \\({each} bytes\\)"):
        blocks_for(each - 1, spec, 4)


def test_a_cache_without_blocks_is_refused(spec: ModelSpec) -> None:
    with pytest.raises(ModelError, match="blocks \\(0\\)"):
        KvCache(spec, blocks=0, block_tokens=4)


def test_generation_goes_on_from_moved_blocks_with_the_same_tokens(
    tiny: tuple[Path, TorchEngine],
    generate: Callable[..., list[int]],
    make_chunk: Callable[..., Chunk],
    run: Callable[..., tuple[object, ...]],
) -> None:
    _, engine = tiny
    expected = generate(engine, PROMPT, 8, range(6))
    run(engine, make_chunk(PROMPT, 0, range(10, 16), None))
    for layer in range(engine.spec.layers):
        payload = engine.read_blocks(layer, layer + 1, range(10, 14))
        engine.write_blocks(layer, layer + 1, (33, 31, 40, 21), payload)
    engine.write_blocks(0, engine.spec.layers, range(10, 14), torch.zeros(
        engine.spec.layers, 2, 4, engine.spec.kv_heads, 16, engine.spec.head_dim))  # fmt: skip
    # The last prompt token again, as its logits were not drawn.
    moved = (33, 31, 40, 21, 50, 51)
    tokens, at, emitted = PROMPT[-1:], len(PROMPT) - 1, []
    while len(emitted) < 8:
        (sampled,) = run(engine, make_chunk(tokens, at, moved))
        tokens, at = [sampled.token_id], at + 1  # type: ignore[attr-defined]
        emitted += tokens
    assert emitted == expected


def test_a_layer_is_announced_when_its_blocks_hold_the_batch(
    tiny: tuple[Path, TorchEngine], make_chunk: Callable[..., Chunk]
) -> None:
    _, engine = tiny
    part, seen = make_chunk(PROMPT, 0, range(4), None), []
    engine.run(
        Batch(iteration=0, chunks=(part,)),
        lambda layer: seen.append((layer, engine.read_blocks(layer, layer + 1, range(4)))),
    )
    assert [layer for layer, _ in seen] == list(range(engine.spec.layers))
    for layer, payload in seen:
        assert torch.equal(payload, engine.read_blocks(layer, layer + 1, range(4)))


def test_a_chunk_that_draws_nothing_yields_none(
    tiny: tuple[Path, TorchEngine],
    make_chunk: Callable[..., Chunk],
    run: Callable[..., tuple[object, ...]],
) -> None:
    _, engine = tiny
    result = run(
        engine,
        make_chunk(PROMPT, 0, range(4), None),
        make_chunk([5], 0, [9]),
        make_chunk(PROMPT, 0, range(4, 8), None),
    )
    assert [entry is None for entry in result] == [True, False, True]
