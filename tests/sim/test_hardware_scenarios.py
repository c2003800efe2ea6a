"""Scenarios that name devices, tables and profiles: one small world of each kind."""

import json
from pathlib import Path
from typing import Any

import pytest
from splitweave.sim.costs.build import cost_model, derived_blocks, power_model
from splitweave.sim.costs.device import DeviceRoofline
from splitweave.sim.costs.errors import CostError
from splitweave.sim.costs.power import Capped
from splitweave.sim.costs.specs import DeviceSpec, ModelSpec, RooflineSpec, TableSpec
from splitweave.sim.metrics import measure
from splitweave.sim.report import tables
from splitweave.sim.results.results import results_of
from splitweave.sim.run import simulate
from splitweave.sim.scenario import ConfigError, load_scenario

DEVICE = 'kind = "device"\ndevice = "H100"\n'
TABLE = """# engine = ours
# version = 0.1
# kernel = torch
# device = H100
# model = small
# date = 2026-11-21
prefill_tokens,prefill_context,decodes,decode_context,time_us
16,0,0,0,2000
512,0,0,0,9000
0,0,1,16,1000
0,0,8,16,1200
0,0,1,4096,1100
0,0,8,4096,2000
"""
CONFIG = {
    "model_type": "qwen3_moe", "num_hidden_layers": 4, "hidden_size": 512, "vocab_size": 1024,
    "num_attention_heads": 8, "num_key_value_heads": 4, "intermediate_size": 1024,
    "num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 256,
}  # fmt: skip


def scenario(tmp_path: Path, hardware: str, blocks: str = "blocks = 500", model: str = "") -> Any:
    (tmp_path / "t.csv").write_text(TABLE)
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    path = tmp_path / "scenario.toml"
    path.write_text(
        f"{model}\n[hardware.a]\n{hardware}\n"
        f'[[pools]]\nname = "p"\nrole = "mixed"\nhardware = "a"\n{blocks}\n'
        '[workload]\nkind = "poisson"\nrate_per_s = 20\nrequests = 12\n'
        'prompt = { kind = "uniform", low = 8, high = 300 }\n'
        'output = { kind = "uniform", low = 2, high = 12 }\n'
    )
    return load_scenario(path)


@pytest.mark.parametrize(
    ("hardware", "said"),
    [
        (DEVICE, "a: device roofline: TP 1, EP 1; of the peaks: GEMM 0.7"),
        (DEVICE + "tp = 4\nefficiency = { gemm = 0.5 }\n", "TP 4, EP 1; of the peaks: GEMM 0.5"),
        (DEVICE + "power_cap_w = 490\n", "a: power cap 490 W: prefill x 1.301"),
        ('kind = "table"\npath = "t.csv"\n', "a: measured table t.csv: engine ours"),
    ],
    ids=["device", "efficiency", "cap", "table"],
)  # fmt: skip
def test_a_world_of_each_kind_ends_and_says_what_it_rests_on(
    tmp_path: Path, hardware: str, said: str
) -> None:
    outcome = simulate(scenario(tmp_path, hardware))
    assert measure(outcome).completed == 12
    assert said in "\n".join(outcome.world.described())
    assert "p: 500 KV blocks per worker, given" in outcome.world.described()


def test_blocks_that_are_not_given_are_derived_and_said_so(tmp_path: Path) -> None:
    loaded = scenario(tmp_path, DEVICE, blocks="")
    blocks = loaded.blocks_of(loaded.pools[0])
    assert blocks.origin.startswith("derived, not measured: 80 GB x 0.9")
    outcome = simulate(loaded)
    assert f"p: {blocks.count} KV blocks per worker, derived" in outcome.world.described()[0]
    assert tables(results_of(outcome))


def test_without_a_device_blocks_are_asked_for(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"missing key pools\[0\].blocks: hardware 'a' names no"):
        scenario(tmp_path, 'kind = "table"\npath = "t.csv"\n', blocks="")
    named = scenario(tmp_path, 'kind = "table"\npath = "t.csv"\ndevice = "H200"\n', blocks="")
    assert "141 GB" in named.blocks_of(named.pools[0]).origin


def test_a_model_may_be_named_by_its_config_json(tmp_path: Path) -> None:
    model = '[model]\nconfig = "config.json"\nkv_bytes = 1'
    loaded = scenario(tmp_path, DEVICE, model=model)
    decoder = loaded.model.decoder()
    assert (decoder.experts, decoder.experts_per_token, decoder.expert_ffn) == (8, 2, 256)
    assert (decoder.kv_bytes, decoder.linear_bytes) == (1, 2)
    assert measure(simulate(loaded)).completed == 12


@pytest.mark.parametrize(
    ("hardware", "message"),
    [
        ('kind = "device"\ndevice = "H10"\n', "no device 'H10' in the catalogue (known: A100"),
        (DEVICE + "tpp = 2\n", "unknown key hardware.a.tpp; did you mean tp?"),
        (DEVICE + "tp = 0\n", "hardware.a.tp: "),
        (DEVICE + "[hardware.a.efficiency]\ngem = 1\n", "efficiency.gem; did you mean gemm?"),
        (DEVICE + "[hardware.a.efficiency]\ngemm = 1.5\n", "hardware.a.efficiency.gemm: "),
        ('kind = "table"\npath = "t.csv"\nbeyond = "guess"\n', "'extend' or 'refuse'"),
    ],
)
def test_bad_hardware_is_refused_by_name(tmp_path: Path, hardware: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        scenario(tmp_path, hardware, blocks="")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("hardware", "message"),
    [
        ('kind = "device"\ndevice = "H10"\n', "no device 'H10'"),
        (DEVICE + "tp = 4\nep = 3\n", r"ep \(3\) must divide tp \(4\)"),
        (DEVICE + "power_cap_w = 20\n", r"power_cap_w \(20\) is not above idle"),
        ('kind = "table"\npath = "t.csv"\npower_cap_w = 9\n', "power_cap_w needs a device"),
        ('kind = "table"\npath = "none.csv"\n', "none.csv: No such file"),
        (DEVICE + 'catalogue = "none.toml"\n', "none.toml: no such file"),
    ],
)
def test_what_only_the_world_can_find_is_refused_as_well(
    tmp_path: Path, hardware: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        simulate(scenario(tmp_path, hardware))


def test_a_catalogue_of_your_own_takes_the_place_of_ours(tmp_path: Path) -> None:
    figures = (
        "bf16_tflops", "memory_gbytes_per_s", "memory_gbytes", "link_gbytes_per_s",
        "link_latency_us", "network_gbytes_per_s", "dollars_per_hour", "idle_w", "decode_low_w",
        "decode_high_w", "peak_w", "decode_midpoint",
    )  # fmt: skip
    rows = [f'{name} = {{ value = 100, source = "s" }}' for name in figures]
    text = '[sources]\ns = "me"\n[devices.mine]\n' + "\n".join(rows)
    (tmp_path / "mine.toml").write_text(text)
    hardware = 'kind = "device"\ndevice = "mine"\ncatalogue = "mine.toml"\n'
    assert measure(simulate(scenario(tmp_path, hardware))).completed == 12


def test_energy_is_that_of_the_iterations_and_of_idling(tmp_path: Path) -> None:
    free = simulate(scenario(tmp_path, DEVICE))
    said = measure(free)
    assert said.energy_j is not None
    assert said.mean_w is not None
    assert said.token_j is not None
    busy_s = said.busy * said.virtual_s
    least_j = 70 * (said.virtual_s - busy_s) + 300 * busy_s
    most_j = 70 * (said.virtual_s - busy_s) + 700 * busy_s
    assert least_j < said.energy_j < most_j
    assert said.mean_w == pytest.approx(said.energy_j / said.virtual_s)
    tokens = said.prompt_tokens + said.output_tokens
    assert said.token_j == pytest.approx(said.energy_j / tokens)


def test_without_a_device_energy_is_not_said(tmp_path: Path) -> None:
    assert (
        measure(simulate(scenario(tmp_path, 'kind = "table"\npath = "t.csv"\n'))).energy_j is None
    )


def test_only_devices_have_power_and_memory() -> None:
    plain = RooflineSpec(kind="roofline", tflops_per_s=1, gbytes_per_s=1)
    assert power_model(plain) is None
    assert derived_blocks(plain, ModelSpec(), 16) is None
    table = TableSpec(kind="table", path="t.csv", device="H100", tp=2)
    power = power_model(table)
    assert power is not None
    assert power.idle_w == 140


def test_a_cap_wraps_the_model_and_no_cap_does_not() -> None:
    free = DeviceSpec(kind="device", device="H100")
    capped = DeviceSpec(kind="device", device="H100", power_cap_w=400)
    assert isinstance(cost_model(free, ModelSpec()), DeviceRoofline)
    assert isinstance(cost_model(capped, ModelSpec()), Capped)


def test_the_plain_roofline_refuses_experts() -> None:
    model = ModelSpec(experts=8, experts_per_token=2, expert_ffn=64)
    plain = RooflineSpec(kind="roofline", tflops_per_s=1, gbytes_per_s=1)
    with pytest.raises(CostError, match='use kind = "device"'):
        cost_model(plain, model)
    with pytest.raises(ValueError, match=r"experts_per_token \(9\) is not in 1..experts \(8\)"):
        ModelSpec(experts=8, experts_per_token=9, expert_ffn=64)


def test_the_same_seed_on_a_device_gives_the_same_times(tmp_path: Path) -> None:
    first, second = (measure(simulate(scenario(tmp_path, DEVICE))) for _ in range(2))
    assert first == second
