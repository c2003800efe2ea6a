"""Iteration times against figures worked out by hand."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from splitweave.proto.batch import Batch, Chunk, Draw
from splitweave.proto.ids import BlockId, RequestId
from splitweave.proto.requests import SamplingParams
from splitweave.sim.costs.build import PROBE_TOKENS, cost_model, first_speed
from splitweave.sim.costs.plain import Affine, Hardware, ModelShape, Roofline
from splitweave.sim.scenario import AffineSpec, ModelSpec, RooflineSpec

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


# By hand for SHAPE on PLAIN (1 flop/ns, 1 byte/ns), two layers of 576 weights, a head of 256:
#   a token costs 2·1152 = 2304 flops, a draw 2·256 = 512; all weights are 2·1408 = 2816 bytes;
#   a (query, key) pair costs 4·4·2·2 = 64 flops; a cached token is 32 bytes.
@pytest.mark.parametrize(
    ("chunks", "by_hand"),
    [
        ([(1, 0)], 2816 + 32 + 7),
        ([(1, 9), (1, 0)], 2 * 2816 + 32 * 11 + 7),
        ([(2, 0)], 2 * 2304 + 512 + 3 * 64 + 7),
        ([(2, 5)], 2 * 2304 + 512 + (10 + 3) * 64 + 7),
        ([(2, 5), (1, 9)], 3 * 2304 + 2 * 512 + 13 * 64 + 320 + 7),
    ],
)
def test_a_small_model_costs_what_it_does_by_hand(
    chunks: list[tuple[int, int]], by_hand: int
) -> None:
    batch = _batch(*[_chunk(new, start) for new, start in chunks])
    assert Roofline(SHAPE, PLAIN).iteration_ns(batch) == by_hand


def test_reading_the_weights_is_the_least_that_an_iteration_takes() -> None:
    slow_memory = Hardware(
        flops_per_s=1e9, bytes_per_s=1e8, flops_efficiency=1.0, bytes_efficiency=1.0, overhead_ns=0
    )
    model = Roofline(SHAPE, slow_memory)
    assert model.iteration_ns(_batch(_chunk(1, 0))) == 28160 + 320
    assert model.iteration_ns(_batch(_chunk(2, 0))) == 28160 + 3 * 64


def test_an_efficiency_of_a_half_doubles_its_own_part() -> None:
    def ns(flops: float, bytes_: float, chunk: Any) -> int:
        hardware = Hardware(
            flops_per_s=1e9, bytes_per_s=1e9, flops_efficiency=flops, bytes_efficiency=bytes_,
            overhead_ns=0,
        )  # fmt: skip
        return Roofline(SHAPE, hardware).iteration_ns(_batch(chunk))

    prefill = _chunk(8, 0)
    assert ns(0.5, 1.0, prefill) == 2 * ns(1.0, 1.0, prefill)
    assert ns(1.0, 0.5, prefill) == ns(1.0, 1.0, prefill)
    assert ns(1.0, 0.5, _chunk(1, 9)) == 2 * (2816 + 320)


CHUNKS = st.lists(st.tuples(st.integers(1, 300), st.integers(0, 4000)), min_size=1, max_size=6)


@given(CHUNKS, st.data())
@settings(deadline=None)
def test_more_work_never_takes_less(chunks: list[tuple[int, int]], data: st.DataObject) -> None:
    def ns(work: Any, hardware: Hardware = H100) -> int:
        return Roofline(BIG, hardware).iteration_ns(
            _batch(*[_chunk(new, start) for new, start in work])
        )

    base_ns = ns(chunks)
    index = data.draw(st.integers(0, len(chunks) - 1))
    new, start = chunks[index]
    further = [*chunks[:index], (new, start + 1), *chunks[index + 1 :]]
    assert ns(further) >= base_ns
    longer = [*chunks[:index], (new + 1 if new > 1 else 3, start), *chunks[index + 1 :]]
    assert ns(longer) >= base_ns or new == 1
    assert ns([*chunks, (1, 0)]) >= base_ns
    assert ns(chunks, Hardware(flops_per_s=494e12, bytes_per_s=1.6e12)) > base_ns


@given(CHUNKS)
@settings(deadline=None)
def test_one_batch_is_cheaper_than_its_chunks_one_by_one(chunks: list[tuple[int, int]]) -> None:
    model = Roofline(BIG, H100)
    made = [_chunk(new, start) for new, start in chunks]
    alone = sum(model.iteration_ns(_batch(chunk)) for chunk in made)
    assert model.iteration_ns(_batch(*made)) <= alone


@given(st.integers(2, 40), st.integers(2, 40))
@settings(deadline=None)
def test_chunking_a_prefill_computes_the_same_attention(first: int, second: int) -> None:
    model = Roofline(SHAPE, PLAIN)
    whole = model.iteration_ns(_batch(_chunk(first + second)))
    halves = [_chunk(first, draws=False), _chunk(second, first)]
    assert sum(model.iteration_ns(_batch(half)) - 7 for half in halves) == whole - 7


def test_a_scenarios_units_arrive_as_nanoseconds() -> None:
    affine = cost_model(AffineSpec(kind="affine", iteration_us=1.5, token_us=0.25), ModelSpec())
    assert affine == Affine(iteration_base_ns=1500, token_ns=250)
    spec = RooflineSpec(
        kind="roofline", tflops_per_s=0.001, gbytes_per_s=1.0, flops_efficiency=1.0,
        bytes_efficiency=1.0, overhead_us=0.007,
    )  # fmt: skip
    small = ModelSpec(layers=2, hidden=8, heads=4, kv_heads=2, head_dim=2, ffn=16, vocab=32)
    assert (
        cost_model(spec, small).iteration_ns(_batch(_chunk(2, 5))) == 2 * 2304 + 512 + 13 * 64 + 7
    )


def test_the_first_speed_of_an_affine_device_is_its_own() -> None:
    speed = first_speed(Affine(iteration_base_ns=5000, token_ns=20))
    assert (speed.iteration_ns, speed.token_ns) == (5020, 20)
    model = Roofline(BIG, H100)
    guess = first_speed(model)
    long_ns = guess.iteration_ns + (PROBE_TOKENS - 1) * guess.token_ns
    assert long_ns == pytest.approx(model.iteration_ns(_batch(_chunk(PROBE_TOKENS))))
