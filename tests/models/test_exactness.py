"""A row's bits do not depend on its company: DESIGN §5, through the engine."""

import random
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from splitweave.proto.batch import Batch, Chunk
from splitweave.proto.requests import SampledToken, SamplingParams
from splitweave.workers.live.engine import TorchEngine, load_engine
from splitweave.workers.models.rows import rows_of

Run = Callable[..., tuple[SampledToken | None, ...]]
Make = Callable[..., Chunk]

SAMPLED = SamplingParams(temperature=0.9, top_p=0.95, top_k=40, seed=7)


def ids(seed: int, count: int, vocab: int = 257) -> list[int]:
    return [random.Random(seed).randrange(3, vocab) for _ in range(count)]


def bits(engine: TorchEngine, *chunks: Chunk) -> torch.Tensor:
    rows = rows_of(Batch(iteration=0, chunks=chunks), engine.cache.block_tokens)
    return engine.logits(rows, lambda _layer: None)


def test_logits_are_bitwise_equal_alone_and_in_any_batch(
    tiny: tuple[Path, TorchEngine], make_chunk: Make
) -> None:
    _, engine = tiny
    sizes = (1, 2, 3, 5, 17, 64)
    tables = [range(8 * index, 8 * index + 8) for index in range(len(sizes))]
    chunks = [
        make_chunk(ids(size, size), 0, table) for size, table in zip(sizes, tables, strict=True)
    ]
    alone = torch.cat([bits(engine, chunk) for chunk in chunks])
    assert torch.equal(alone, bits(engine, *chunks))
    assert torch.equal(alone.flip(0), bits(engine, *chunks[::-1]))


@settings(max_examples=15, deadline=None)
@given(cuts=st.sets(st.integers(1, 69), max_size=6), shuffle=st.integers(0, 99))
def test_chunking_and_block_order_change_no_bit(
    cuts: set[int], shuffle: int, one_tiny: TorchEngine, make_chunk: Make
) -> None:
    prompt = ids(3, 70)
    whole = bits(one_tiny, make_chunk(prompt, 0, range(5)))
    table = random.Random(shuffle).sample(range(10, 90), 5)
    edges = [0, *sorted(cuts), len(prompt)]
    for start, end in pairwise(edges):
        last = bits(one_tiny, make_chunk(prompt[start:end], start, table))
    assert torch.equal(whole, last)


def test_a_decoded_row_has_the_bits_of_the_same_row_prefilled(
    tiny: tuple[Path, TorchEngine], make_chunk: Make, generate: Callable[..., list[int]]
) -> None:
    _, engine = tiny
    prompt = ids(11, 37)
    emitted = generate(engine, prompt, 20, range(6))
    known = prompt + emitted[:-1]
    decoded = bits(engine, make_chunk(known[-1:], len(known) - 1, range(6)))
    assert torch.equal(decoded, bits(engine, make_chunk(known, 0, range(6, 12))))


def test_what_lies_in_unheld_slots_changes_no_bit(one_tiny: TorchEngine, make_chunk: Make) -> None:
    one_tiny.cache.tensor[:, :, :20] = 0.0
    clean = bits(one_tiny, make_chunk(ids(4, 40), 0, range(3)))
    one_tiny.cache.tensor[:, :, :20] = float("nan")
    assert torch.equal(clean, bits(one_tiny, make_chunk(ids(4, 40), 0, range(3))))
    one_tiny.cache.tensor[:, :, :20] = 0.0


def test_tokens_are_equal_alone_and_batched_and_chunked(
    smollm: TorchEngine, run: Run, make_chunk: Make, generate: Callable[..., list[int]]
) -> None:
    prompts = [ids(seed, 5 + 20 * seed, 40_000) for seed in range(4)]
    tables = [range(10 * index, 10 * index + 10) for index in range(4)]
    params = [SamplingParams(), SAMPLED, SamplingParams(), SAMPLED]
    alone = [
        generate(smollm, prompt, 12, range(50, 60), how)
        for prompt, how in zip(prompts, params, strict=True)
    ]
    # The longest prompt arrives in chunks while the others decode.
    streams: list[list[int]] = [[] for _ in prompts]
    done = [0] * 4
    while any(len(stream) < 12 for stream in streams):
        chunks = []
        for index, stream in enumerate(streams):
            known = [*prompts[index], *stream]
            end = min(len(known), done[index] + 23)
            how = params[index] if end == len(known) else None
            chunks.append(make_chunk(known[done[index] : end], done[index], tables[index], how))
            done[index] = end
        for stream, sampled in zip(streams, run(smollm, *chunks), strict=True):
            if sampled is not None:
                stream.append(sampled.token_id)
    assert [stream[:12] for stream in streams] == alone


@pytest.fixture(scope="module")
def one_tiny(
    tiny_folder: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> TorchEngine:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        return load_engine(tiny_folder("qwen3"), blocks=96, block_tokens=16, threads=2)
