"""Iteration times against figures worked out by hand."""

from typing import Any

import pytest
from splitweave.proto.batch import Batch, Chunk, Draw
from splitweave.proto.ids import BlockId, RequestId
from splitweave.proto.requests import SamplingParams
from splitweave.sim.cost import Affine, Hardware, ModelShape, Roofline

SHAPE = ModelShape(
    layers=2, hidden=8, heads=4, kv_heads=2, head_dim=2, ffn=16, vocab=32, dtype_bytes=2
)
# 1 flop/ns and 1 byte/ns at full efficiency: every figure below is a plain count.
PLAIN = Hardware(
    flops_per_s=1e9, bytes_per_s=1e9, flops_efficiency=1.0, bytes_efficiency=1.0, overhead_ns=7
)
BIG = ModelShape(
    layers=32, hidden=4096, heads=32, kv_heads=8, head_dim=128, ffn=14336, vocab=128256
)
H100 = Hardware(flops_per_s=989e12, bytes_per_s=3.35e12)


def _chunk(new: str, start: Any = 0, *, draws: Any = True) -> Any:
    params = SamplingParams()
    return Chunk(
        request_id=RequestId("r"),
        token_ids=(1,) * new,
        start=start,
        block_table=(BlockId(0),),
        draw=Draw(params=params, position=start + new) if draws else None,
    )


def _batch(*chunks: Any) -> Any:
    return Batch(iteration=1, chunks=chunks)


def test_affine_counts_tokens() -> None:
    model = Affine(iteration_base_ns=100, token_ns=3)
    assert model.iteration_ns(_batch(_chunk(5), _chunk(1, 9))) == 118


def test_weights_and_kv_bytes_are_counted() -> None:
    # q 64 + o 64 + k 32 + v 32 + three matrices of 128
    assert SHAPE.layer_weights == 576
    assert SHAPE.kv_token_bytes == 2 * 2 * 2 * 2 * 2
    assert BIG.kv_token_bytes == 131072


def test_a_lone_decode_is_bound_by_reading_the_weights() -> None:
    weights = 2 * 576 + 8 * 32
    flops = 2 * weights
    assert flops == 2 * weights  # as many flops as bytes here: the bound is shared
    kv = 32 * 10
    assert Roofline(SHAPE, PLAIN).iteration_ns(_batch(_chunk(1, 9))) == flops + kv + 7


def test_prefill_attention_is_quadratic() -> None:
    new, start = 6, 4
    gemm = 6 * 2 * 2 * 576 + 2 * 8 * 32
    pairs = 6 * 4 + 21
    attention = pairs * 4 * 4 * 2 * 2
    assert Roofline(SHAPE, PLAIN).iteration_ns(_batch(_chunk(new, start))) == gemm + attention + 7


def test_a_chunk_that_draws_nothing_skips_the_head() -> None:
    model = Roofline(SHAPE, PLAIN)
    with_draw, without = (model.iteration_ns(_batch(_chunk(6, draws=d))) for d in (True, False))
    assert with_draw - without == 2 * 8 * 32


def test_a_mixed_iteration_costs_more_than_either_half() -> None:
    model = Roofline(BIG, H100)
    prefill, decodes = [_chunk(512)], [_chunk(1, 2000)] * 32
    mixed = model.iteration_ns(_batch(*prefill, *decodes))
    assert mixed > model.iteration_ns(_batch(*prefill))
    assert mixed > model.iteration_ns(_batch(*decodes))


def test_an_8b_model_on_an_h100_is_in_the_known_range() -> None:
    model = Roofline(BIG, H100)
    decode_ms = model.iteration_ns(_batch(_chunk(1, 1000))) / 1e6
    prefill_ms = model.iteration_ns(_batch(_chunk(2048))) / 1e6
    assert decode_ms == pytest.approx(6.6, rel=0.1)  # 15 GB at 2.7 TB/s, and the host's 1 ms
    assert 45 < prefill_ms < 65
