"""Iteration times of a decoder on catalogue devices, against figures worked out by hand."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from splitweave.sim.costs.catalogue import Device, Figure, load_catalogue
from splitweave.sim.costs.decoder import Decoder
from splitweave.sim.costs.device import DeviceRoofline
from splitweave.sim.costs.efficiency import Efficiency
from splitweave.sim.costs.errors import CostError
from splitweave.sim.costs.memory import ACTIVATION_BYTES, derive_blocks
from splitweave.sim.costs.parallel import Links, Parallel
from splitweave.sim.costs.work import Prefill, Work

SMALL = Decoder(
    layers=2, hidden=8, heads=4, kv_heads=2, head_dim=2, ffn=16, vocab=32,
    linear_bytes=2, other_bytes=2, kv_bytes=2,
)  # fmt: skip
# Per layer: q k v o 8*2*2*(4+2) = 192, MLP 3*8*16 = 384; the head 256. A cached token: 32 bytes.
ALL = Efficiency(
    gemm=1, attention=1, weights=1, kv=1, link=1, overlap=0, layer_us=0, mixed=1, host_us=0,
    request_us=0, imbalance=1,
)  # fmt: skip
LLAMA_8B = Decoder(
    layers=32, hidden=4096, heads=32, kv_heads=8, head_dim=128, ffn=14336, vocab=128256
)
LLAMA_70B = replace(LLAMA_8B, layers=80, hidden=8192, heads=64, ffn=28672)
EXPERTS = replace(SMALL, ffn=0, experts=8, experts_per_token=2, expert_ffn=16)
H100 = load_catalogue().device("H100")


def figure(value: float) -> Figure:
    return Figure(value=value, source="s")


def one_per_ns(**given: float) -> Device:
    """1 flop/ns, 1 byte/ns of memory and of the link, no latency to speak of."""
    plain = {
        "bf16_tflops": 1e-3, "memory_gbytes_per_s": 1, "memory_gbytes": 3, "link_gbytes_per_s": 1,
        "link_latency_us": 1e-9, "network_gbytes_per_s": 1, "dollars_per_hour": 1, "idle_w": 1,
        "decode_low_w": 1, "decode_high_w": 1, "peak_w": 1, "decode_midpoint": 1,
    }  # fmt: skip
    return Device(**{name: figure(value) for name, value in (plain | given).items()})


def ns(work: Work, decoder: Decoder = SMALL, efficiency: Efficiency = ALL, **given: int) -> int:
    return DeviceRoofline(decoder, one_per_ns(), Parallel(**given), efficiency).work_ns(work)


def decodes(count: int, keys: int) -> Work:
    return Work(decodes=count, decode_keys=count * keys, longest=keys, draws=count)


def prefill(*chunks: tuple[int, int], draws: int = 0) -> Work:
    return Work(prefills=tuple(Prefill(*chunk) for chunk in chunks), draws=draws)


# By hand: weights of both layers 1152, of the head 256; 2 bytes each; 64 flops per pair.
@pytest.mark.parametrize(
    ("work", "by_hand"),
    [
        (decodes(1, 10), 2 * (1152 + 256) + 32 * 10),
        (decodes(3, 10), 3 * 2 * (1152 + 256) + 3 * 32 * 10),
        (prefill((6, 4)), 6 * 2 * 1152 + (6 * 4 + 21) * 64),
        (prefill((6, 4), draws=1), 6 * 2 * 1152 + (6 * 4 + 21) * 64 + 2 * 256),
        (prefill((2, 0), (3, 0)), 5 * 2 * 1152 + (3 + 6) * 64),
        (Work((Prefill(2, 0),), 1, 10, 10, 1), 3 * 2 * 1152 + 2 * 256 + 3 * 64 + 320),
    ],
)
def test_a_small_model_costs_what_it_does_by_hand(work: Work, by_hand: int) -> None:
    assert ns(work) == by_hand


def test_every_part_is_named() -> None:
    given = replace(ALL, host_us=1, request_us=2, layer_us=3)
    model = DeviceRoofline(SMALL, one_per_ns(), Parallel(), given)
    parts = model.parts(Work((Prefill(2, 0),), 1, 10, 10, 1))
    assert parts.host_s == pytest.approx(5e-6)  # one, and two for each of two requests
    assert parts.linear_s == pytest.approx(3 * 2 * 1152e-9 + 6e-6)
    assert parts.attention_s == pytest.approx(3 * 64e-9)
    assert parts.kv_s == pytest.approx(320e-9)
    assert parts.head_s == pytest.approx(512e-9)
    assert parts.links_s == 0
    assert parts.total_s == pytest.approx(sum(parts))


def test_two_gpus_halve_the_work_and_pay_for_the_sums() -> None:
    alone, pair = ns(prefill((6, 4))), ns(prefill((6, 4)), tp=2)
    sums = 4 * (6 * 8 * 2)  # two all-reduces per layer, each 96 bytes, half sent twice
    assert pair == alone // 2 + sums


def test_more_gpus_than_kv_heads_repeat_the_heads() -> None:
    def kv_s(tp: int) -> float:
        return DeviceRoofline(SMALL, one_per_ns(), Parallel(tp=tp), ALL).parts(decodes(4, 100)).kv_s

    assert kv_s(2) == pytest.approx(kv_s(1) / 2)
    assert kv_s(4) == kv_s(2)


def test_what_is_hidden_of_the_communication_is_not_paid() -> None:
    def links_s(overlap: float) -> float:
        given = replace(ALL, overlap=overlap)
        model = DeviceRoofline(SMALL, one_per_ns(), Parallel(tp=4), given)
        return model.parts(prefill((64, 0))).links_s

    assert links_s(0.75) == pytest.approx(links_s(0) / 4)


def test_a_ring_moves_its_bytes_and_a_small_message_goes_in_one_shot() -> None:
    links = Links(bytes_per_s=1e9, latency_s=8e-6)
    assert links.all_reduce_s(1, 1e9) == 0
    assert links.all_reduce_s(4, 1e9) == pytest.approx(1.5, rel=1e-3)
    assert links.all_reduce_s(8, 8) == pytest.approx(8e-6, rel=0.01)
    assert links.all_to_all_s(1, 1e9) == 0
    assert links.all_to_all_s(4, 1e9) == pytest.approx(0.75, rel=1e-3)


def test_few_tokens_read_few_experts() -> None:
    quick = DeviceRoofline(EXPERTS, one_per_ns(bf16_tflops=1.0), Parallel(), ALL)

    def read_ns(tokens: int) -> float:
        return quick.parts(decodes(tokens, 1)).linear_s * 1e9

    # Two layers, 2 bytes per weight; arithmetic costs nothing here.
    attention, router, expert = 192, 8 * 8, 3 * 8 * 16
    assert read_ns(1) == pytest.approx(2 * 2 * (attention + 2 * expert + router))
    assert read_ns(2) - read_ns(1) == pytest.approx(2 * 2 * 1.5 * expert)
    assert read_ns(400) == pytest.approx(2 * 2 * (attention + 8 * expert + router))


def test_expert_groups_pay_for_the_exchange_and_for_the_busiest() -> None:
    def parts(ep: int, imbalance: float) -> tuple[float, float]:
        given = replace(ALL, imbalance=imbalance)
        model = DeviceRoofline(EXPERTS, one_per_ns(), Parallel(tp=4, ep=ep), given)
        found = model.parts(prefill((512, 0)))
        return found.linear_s, found.links_s

    split, spread = parts(1, 1.5), parts(4, 1.5)
    assert spread[0] > split[0]
    assert parts(4, 1.0)[0] == pytest.approx(split[0])
    assert spread[1] != split[1]


def test_fp8_weights_are_read_and_multiplied_faster_where_the_device_can() -> None:
    narrow = replace(LLAMA_8B, linear_bytes=1)

    def seconds(decoder: Decoder, work: Work, device: str = "H100") -> float:
        found = load_catalogue().device(device)
        return DeviceRoofline(decoder, found, Parallel(), Efficiency()).parts(work).linear_s

    for work in (prefill((4096, 0)), decodes(1, 100)):
        assert seconds(narrow, work) < 0.6 * seconds(LLAMA_8B, work)
    a100 = (seconds(narrow, prefill((4096, 0)), "A100-80G"), "A100-80G")
    assert a100[0] == seconds(LLAMA_8B, prefill((4096, 0)), "A100-80G")


@pytest.mark.parametrize("tp", [1, 2, 8])
def test_a_mixed_iteration_costs_more_than_either_half(tp: int) -> None:
    model = DeviceRoofline(LLAMA_8B, H100, Parallel(tp=tp), Efficiency())
    half, other = prefill((512, 0)), decodes(32, 2000)
    mixed = Work(half.prefills, other.decodes, other.decode_keys, other.longest, 33)
    assert model.work_ns(mixed) > max(model.work_ns(half), model.work_ns(other))


def test_known_iterations_are_in_the_known_range() -> None:
    def ms(decoder: Decoder, device: str, tp: int, work: Work) -> float:
        found = load_catalogue().device(device)
        return DeviceRoofline(decoder, found, Parallel(tp=tp), Efficiency()).work_ns(work) / 1e6

    assert 5 < ms(LLAMA_8B, "H100", 1, decodes(1, 1000)) < 9
    # Splitwise, Llama2-70B TP8: prompt of 1 024 tokens 78 ms (H100), 154 ms (A100).
    assert 25 < ms(LLAMA_70B, "H100", 8, prefill((1024, 0))) < 78
    assert 80 < ms(LLAMA_70B, "A100-80G", 8, prefill((1024, 0))) < 154


CHUNKS = st.lists(st.tuples(st.integers(1, 300), st.integers(0, 4000)), min_size=0, max_size=4)


@given(CHUNKS, st.integers(0, 64), st.integers(1, 4000), st.sampled_from([1, 2, 4, 8]))
@settings(deadline=None)
def test_more_work_never_takes_less(
    chunks: list[tuple[int, int]], count: int, keys: int, tp: int
) -> None:
    model = DeviceRoofline(LLAMA_8B, H100, Parallel(tp=tp), Efficiency())
    base = Work(tuple(Prefill(*c) for c in chunks), count, count * keys, keys, count)
    base_ns = model.work_ns(base)
    assert model.work_ns(base._replace(decode_keys=base.decode_keys + 1)) >= base_ns
    more = base._replace(decodes=count + 1, decode_keys=(count + 1) * keys, draws=count + 1)
    assert model.work_ns(more) >= base_ns
    assert model.work_ns(base._replace(prefills=(*base.prefills, Prefill(5, 0)))) >= base_ns


def test_a_split_that_cannot_be_is_refused() -> None:
    for tp, ep in ((4, 3), (0, 1), (2, 0)):
        with pytest.raises(CostError, match="must divide"):
            Parallel(tp=tp, ep=ep)


def test_what_it_rests_on_is_said() -> None:
    said = " ".join(DeviceRoofline(LLAMA_8B, H100, Parallel(tp=2), Efficiency()).describe())
    assert "TP 2, EP 1" in said
    assert "GEMM 0.7" in said
    assert "host 1000 us" in said


def test_blocks_are_what_weights_and_activations_leave() -> None:
    blocks = derive_blocks(LLAMA_8B, H100, Parallel(), 16)
    left = 80e9 * 0.9 - 8_030_261_248 * 2 - ACTIVATION_BYTES
    assert blocks.count == int(left / (131_072 * 16))
    assert blocks.origin.startswith("derived, not measured: 80 GB x 0.9 - weights 16.1 GB")
    assert derive_blocks(LLAMA_8B, H100, Parallel(tp=2), 16).count > 2 * blocks.count


def test_a_model_that_does_not_fit_is_refused() -> None:
    with pytest.raises(CostError, match="no memory is left for KV blocks"):
        derive_blocks(LLAMA_70B, H100, Parallel(), 16)
