"""An iteration put together from layers that were measured one by one."""

from itertools import product
from pathlib import Path

import pytest
from splitweave.sim.costs.errors import CostError
from splitweave.sim.costs.layers import ONCE, PER_LAYER, HostTime, LayerProfile
from splitweave.sim.costs.work import Prefill, Work

TOKENS = (1, 64, 2048)


def attention_us(chunk: int, kv: int, decodes: int, context: int) -> float:
    return 0.01 * chunk * (1 + kv / 1000) + 0.001 * decodes * context


def write_profile(folder: Path) -> Path:
    """Dense calls take tokens x 0.1 us, the head 5 us and the sampler 1 us per sequence."""
    names = (*PER_LAYER, *ONCE)
    dense = [f"{name},{t},{t * 0.1}" for name in names for t in TOKENS]
    head = [f"{name},{n},{n * us}" for name, us in (("lm_head", 5), ("sampler", 1)) for n in (1, 8)]
    chunks, contexts, batches = (16, 2048), (0, 512), (1, 8)
    attention = [
        f"{c},{kv},{n},{ctx},{attention_us(c, kv, n, ctx)}"
        for c, kv, n, ctx in [
            *((c, kv, 0, 0) for c, kv in product(chunks, contexts)),
            *((0, 0, n, ctx) for n, ctx in product(batches, (16, 1024))),
            *product(chunks, contexts, batches, (16, 1024)),
        ]
    ]
    folder.mkdir(exist_ok=True)
    tables = {
        "dense": ("layer,tokens,time_us", dense),
        "per_sequence": ("layer,sequences,time_us", head),
        "attention": ("prefill_chunk,kv_prefill,n_decode,kv_decode,time_us", attention),
    }
    for name, (header, rows) in tables.items():
        (folder / f"{name}.csv").write_text("\n".join([header, *rows]) + "\n")
    return folder


def profile(tmp_path: Path, layers: int = 4, **host: float) -> LayerProfile:
    given = HostTime(**({"iteration_us": 0.0} | host))
    return LayerProfile(write_profile(tmp_path / "tp1"), layers, given)


def decodes(count: int, keys: int, longest: int | None = None) -> Work:
    return Work(decodes=count, decode_keys=count * keys, longest=longest or keys, draws=count)


# Eight calls per layer and two per iteration, 0.1 us per token each.
@pytest.mark.parametrize(
    ("work", "by_hand_us"),
    [
        (decodes(1, 16), 4 * (0.8 + 0.016) + 0.2 + 6),
        (decodes(8, 1024), 4 * (8 * 0.8 + 8.192) + 8 * 0.2 + 8 * 6),
        (Work((Prefill(2048, 0),)), 4 * (2048 * 0.8 + 20.48) + 2048 * 0.2),
        (Work((Prefill(16, 512),), draws=1), 4 * (16 * 0.8 + 0.16 * 1.512) + 16 * 0.2 + 6),
        (
            Work((Prefill(16, 0), Prefill(48, 0)), draws=2),
            4 * (64 * 0.8 + 0.16 + 0.48) + 64 * 0.2 + 12,
        ),
        (
            Work((Prefill(16, 0), Prefill(48, 0)), 8, 8 * 1024, 1024, 10),
            4 * (72 * 0.8 + 0.16 + 0.48 + 8.192) + 72 * 0.2 + 8 * 6 + 12,
        ),
    ],
    ids=["decode", "decodes", "prefill", "chunk", "two prompts", "mixed"],
)
def test_an_iteration_is_the_sum_of_its_layers(
    tmp_path: Path, work: Work, by_hand_us: float
) -> None:
    assert profile(tmp_path).work_ns(work) == pytest.approx(by_hand_us * 1e3, rel=1e-6, abs=1)


def test_the_host_is_paid_per_iteration_and_per_request(tmp_path: Path) -> None:
    plain = profile(tmp_path).work_ns(decodes(8, 16))
    hosted = profile(tmp_path, iteration_us=100.0, request_us=3.0)
    assert hosted.work_ns(decodes(8, 16)) == pytest.approx(plain + 124_000, abs=1)
    assert "4 layers, host 100 us + 3 us per request" in hosted.describe()[0]


def test_unlike_lengths_cost_the_measured_share_of_the_longest(tmp_path: Path) -> None:
    even = profile(tmp_path, layers=1).work_ns(decodes(8, 512))
    skew = "regime,n,t_mean_us,t_max_us,t_skew_us\n"
    skew += "pure,8,10,20,12.5\npure,8,100,200,125\nmixed,8,10,20,15\n"
    (tmp_path / "tp1" / "skew.csv").write_text(skew)
    model = LayerProfile(tmp_path / "tp1", 1, HostTime(iteration_us=0))
    assert model.work_ns(decodes(8, 512)) == even
    longest_us = 8 * 1024 * 0.001 - 8 * 512 * 0.001
    skewed = model.work_ns(decodes(8, 512, longest=1024))
    assert skewed - even == pytest.approx(0.25 * longest_us * 1000, abs=2)
    mixed = Work((Prefill(16, 0),), 8, 8 * 512, 1024, 8)
    level = mixed._replace(longest=512)
    gap_ns = model.work_ns(mixed) - model.work_ns(level)
    assert gap_ns == pytest.approx(0.5 * longest_us * 1000, abs=2)


def test_one_decode_alone_has_no_skew(tmp_path: Path) -> None:
    skew = "regime,n,t_mean_us,t_max_us,t_skew_us\npure,8,10,20,12.5\n"
    (write_profile(tmp_path / "tp1") / "skew.csv").write_text(skew)
    model = LayerProfile(tmp_path / "tp1", 1, HostTime(iteration_us=0))
    assert model.work_ns(decodes(1, 64)) == model.work_ns(decodes(1, 64, longest=640))


def test_lookups_beyond_the_profile_are_said(tmp_path: Path) -> None:
    model = profile(tmp_path)
    model.work_ns(decodes(8, 4096))
    lines = [line for line in model.describe() if "beyond what was measured (" in line]
    said = "(kv_decode; up to 4.00 x the last point), extended in a straight line"
    assert lines == [f"tp1: decode: 1 of 1 lookups beyond what was measured {said}"]


def test_a_profile_without_a_layer_is_refused(tmp_path: Path) -> None:
    folder = write_profile(tmp_path / "tp1")
    text = (folder / "dense.csv").read_text()
    (folder / "dense.csv").write_text(text.replace("qkv_proj", "qkv"))
    with pytest.raises(CostError, match=r"dense.csv: no rows for the layer qkv_proj"):
        LayerProfile(folder, 4, HostTime(iteration_us=0))
