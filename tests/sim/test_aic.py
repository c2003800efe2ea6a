"""Operators measured on silicon, tabulated once: the grid, the file, and what is refused."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from splitweave.proto.toml_file import ConfigError
from splitweave.sim.costs import aic
from splitweave.sim.costs.build import cost_model, derived_blocks, power_model
from splitweave.sim.costs.errors import CostError
from splitweave.sim.costs.specs import AicSpec, ModelSpec
from splitweave.sim.costs.table import MeasuredTable
from splitweave.sim.costs.work import Prefill, Work
from splitweave.sim.scenario import load_scenario

QWEN = "Qwen/Qwen3-32B"


class Steps:
    """Times that are sums, in ms; prompts beyond 32 768 tokens were never measured."""

    def predict_prefill_latency(self, bs: int, isl: int, prefix: int = 0) -> float:
        if isl > 32_768:
            raise ValueError("beyond the data")
        return bs * ((isl - prefix) * 0.05 + prefix * 0.001)

    def decode_step_latency(self, gen_tokens: int, isl: int, osl: int) -> float:
        return 10 + gen_tokens * 0.02 + gen_tokens * isl * 1e-5 + 0 * osl

    def mixed_step_latency(self, ctx_tokens: int, gen_tokens: int, isl: int, osl: int) -> float:
        prefill = (ctx_tokens + gen_tokens) * 0.05
        return 1.1 * (prefill + gen_tokens * isl * 1e-5) + 0 * osl


def spec(cache: Path, **given: Any) -> AicSpec:
    plain = {"model": QWEN, "system": "h100_sxm", "engine": "trtllm", "tp": 2}
    return AicSpec(kind="aic", cache=str(cache), **(plain | given))


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """A package of that name, and with what its engines were asked for."""
    asked: list[dict[str, Any]] = []

    def compile_(model: str, system: str, backend: str, **given: Any) -> Steps:
        asked.append({"model": model, "system": system, "backend": backend} | given)
        if system == "h999":
            raise ValueError("no data for h999")
        return Steps()

    sdk = SimpleNamespace(EngineHandle=SimpleNamespace(compile=compile_))
    monkeypatch.setitem(sys.modules, "aiconfigurator_core", SimpleNamespace(sdk=sdk))
    monkeypatch.setitem(sys.modules, "aiconfigurator_core.sdk", sdk)
    monkeypatch.setattr(aic, "version", lambda _: "0.12.0")
    return asked


def test_a_table_says_what_the_package_says(tmp_path: Path, package: list[Any]) -> None:
    table = MeasuredTable(aic.tabulated(spec(tmp_path)))
    assert table.work_ns(Work((Prefill(2048, 0),))) == pytest.approx(2048 * 0.05 * 1e6)
    assert table.work_ns(Work((), 64, 64 * 1024, 1024, 64)) == pytest.approx(
        Steps().decode_step_latency(64, 1024, 2) * 1e6
    )
    assert table.mixed == pytest.approx(1.1, rel=0.05)
    said = table.describe()[0]
    for word in ("trtllm", "aiconfigurator-core 0.12.0", "h100_sxm, TP 2", QWEN):
        assert word in said
    assert len(package) == 1


def test_it_is_asked_once_and_then_read(tmp_path: Path, package: list[Any]) -> None:
    first = aic.tabulated(spec(tmp_path))
    assert aic.tabulated(spec(tmp_path)) == first
    assert len(package) == 1
    others = [
        aic.tabulated(spec(tmp_path, **given))
        for given in ({"tp": 4}, {"gemm": "fp8"}, {"kv": "fp8"}, {"version": "1.2"}, {"ep": 2})
    ]
    assert len({first, *others}) == 6
    assert not [
        path for path in tmp_path.iterdir() if path.suffix != ".csv"
    ]  # nothing half written


def test_modes_and_parallelism_go_in_the_packages_words(tmp_path: Path, package: list[Any]) -> None:
    aic.tabulated(spec(tmp_path, tp=8, ep=4, gemm="fp8", kv="fp8", fmha="bfloat16", version="1.2"))
    assert package[0] == {
        "model": QWEN, "system": "h100_sxm", "backend": "trtllm", "backend_version": "1.2",
        "tp_size": 8, "moe_tp_size": 2, "moe_ep_size": 4, "gemm_quant_mode": "fp8",
        "kvcache_quant_mode": "fp8", "fmha_quant_mode": "bfloat16",
    }  # fmt: skip


def test_points_that_were_never_measured_are_left_out() -> None:
    rows = aic.rows_of(Steps())
    assert max(row[0] + row[1] for row in rows) <= 32_768
    assert all(row[4] > 0 for row in rows)
    assert len({row[:4] for row in rows}) == len(rows)


def test_without_the_package_it_is_said_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "aiconfigurator_core", None)
    monkeypatch.setitem(sys.modules, "aiconfigurator_core.sdk", None)
    with pytest.raises(CostError, match=r'pip install "splitweave\[aic\]"'):
        aic.tabulated(spec(tmp_path))


def test_what_the_package_does_not_know_is_named(tmp_path: Path, package: list[Any]) -> None:
    with pytest.raises(CostError, match=f"{QWEN} on h999: no data for h999"):
        aic.tabulated(spec(tmp_path, system="h999"))
    assert package
    assert not list(tmp_path.iterdir())


def test_nothing_measured_is_no_table(
    tmp_path: Path, package: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: Any) -> float:
        raise RuntimeError("no data")

    monkeypatch.setattr(Steps, "decode_step_latency", never)
    with pytest.raises(CostError, match="nothing was measured"):
        aic.tabulated(spec(tmp_path))
    assert package


def test_a_device_gives_it_power_and_memory(tmp_path: Path, package: list[Any]) -> None:
    named = spec(tmp_path, device="H100", power_cap_w=490.0)
    assert power_model(named) is not None
    assert derived_blocks(named, ModelSpec(), 16) is not None
    assert derived_blocks(spec(tmp_path), ModelSpec(), 16) is None
    assert any("power cap" in line for line in cost_model(named, ModelSpec()).describe())
    assert package


SCENARIO = """
[hardware.card]
kind = "aic"
model = "Qwen/Qwen3-32B"
system = "h100_sxm"
engine = "trtllm"
tp = 2
cache = "{cache}"
{more}
[[pools]]
name = "p"
role = "mixed"
hardware = "card"
blocks = 100
[workload]
kind = "poisson"
rate_per_s = 1
requests = 1
"""


def test_a_scenario_may_name_it(tmp_path: Path) -> None:
    path = tmp_path / "s.toml"
    path.write_text(SCENARIO.format(cache=tmp_path, more=""))
    hardware = load_scenario(path).hardware["card"]
    assert isinstance(hardware, AicSpec)
    assert hardware.overhead_us == 1000
    path.write_text(SCENARIO.format(cache=tmp_path, more="ep = 3"))
    with pytest.raises(ConfigError, match=r"ep \(3\) must divide tp \(2\)"):
        load_scenario(path)


def test_the_real_package_is_read_if_it_is_installed(tmp_path: Path) -> None:
    pytest.importorskip("aiconfigurator_core")
    table = MeasuredTable(aic.tabulated(spec(tmp_path, gemm="fp8", kv="fp8")))
    few, many = (table.work_ns(Work((), n, n * 1200, 1200, n)) / 1e6 for n in (8, 128))
    assert 5 < few < many < 40
    assert 100 < table.work_ns(Work((Prefill(4096, 0),))) / 1e6 < 300
