"""Scenario files: what is refused, and how it is said."""

from pathlib import Path
from typing import Any

import pytest
from splitweave.sim.cores import CoreBuilder
from splitweave.sim.scenario import ConfigError, load_scenario

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
EXAMPLE_NAMES = (
    "two_pools", "faults", "azure_trace", "devices", "chat_and_batch", "diurnal", "like_mooncake",
)  # fmt: skip
GOOD = """
[hardware.a]
kind = "affine"
iteration_us = 1000
token_us = 10
[[pools]]
name = "p"
role = "mixed"
hardware = "a"
blocks = 100
[workload]
kind = "poisson"
rate_per_s = 1
requests = 10
"""


def _load(tmp_path: Path, text: str) -> Any:
    path = tmp_path / "scenario.toml"
    path.write_text(text)
    return load_scenario(path)


@pytest.mark.parametrize("name", EXAMPLE_NAMES)
def test_the_examples_load(name: str) -> None:
    CoreBuilder(load_scenario(EXAMPLES / f"{name}.toml"))


def test_a_trace_path_is_relative_to_its_file(tmp_path: Path) -> None:
    text = GOOD[: GOOD.index("[workload]")]
    text += '[workload]\nkind = "trace"\nformat = "azure"\npath = "t.csv"\n'
    assert _load(tmp_path, text).workload.path == str(tmp_path / "t.csv")
    text = text.replace("[workload]\n", '[workload]\nkind = "mix"\n[[workload.parts]]\n')
    assert _load(tmp_path, text).workload.parts[0].path == str(tmp_path / "t.csv")


SESSIONS = 'kind = "sessions"\nrate_per_s = 1\nsessions = 5\n'
MIX = 'kind = "mix"\n[[workload.parts]]\n'
WORKLOADS = [
    (SESSIONS + "turn_mean = 3", "unknown key workload.turn_mean; did you mean turns_mean?"),
    (SESSIONS + "think_s = { mean = 3 }", "unknown key workload.think_s.mean"),
    ('kind = "gama"\nrate_per_s = 1\nrequests = 5', "'poisson', 'gamma', 'diurnal', 'batch'"),
    ('kind = "gamma"\nrate_per_s = 1\nrequests = 5', "missing key workload.cv"),
    ('kind = "poisson"\nrate_per_s = 1', "workload: give requests or until_s"),
    ('kind = "trace"\npath = "x"\nformat = "azur"', "workload.format: "),
    ('kind = "synthetic"\nlike = "azure"\nrequests = 1', "workload.like: "),
    (MIX + 'kind = "batch"', "missing key workload.parts[0].requests"),
    (
        MIX + 'kind = "batch"\nrequests = 1\nats = 1',
        "unknown key workload.parts[0].ats; did you mean at_s?",
    ),
]


@pytest.mark.parametrize(("table", "message"), WORKLOADS)
def test_a_bad_workload_is_refused_by_its_key(tmp_path: Path, table: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        _load(tmp_path, GOOD[: GOOD.index("[workload]")] + "[workload]\n" + table)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("requests = 10", "requests = 10\nreqests = 1", "did you mean requests?"),
        ("requests = 10", "requests = 10\nreqests = 1", "known here: kind, rate_per_s"),
        ("blocks = 100", "blocks = 0", "pools[0].blocks: "),
        ("blocks = 100", 'blocks = "many"', "valid integer (got 'many')"),
        ("blocks = 100", "", "missing key pools[0].blocks"),
        ('hardware = "a"', 'hardware = "b"', "no hardware 'b' (a)"),
        ('kind = "affine"', 'kind = "afine"', "'roofline', 'affine'"),
        ('role = "mixed"', 'role = "both"', "'prefill', 'decode' or 'mixed'"),
        ("[workload]", "[workload", "not TOML"),
        ("requests = 10", "requests = 10\n[fault]\ncrashes = 1", "did you mean faults?"),
    ],
)
def test_a_bad_key_or_value_is_refused_by_name(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    assert old in GOOD
    with pytest.raises(ConfigError) as caught:
        _load(tmp_path, GOOD.replace(old, new))
    assert message in str(caught.value)
    assert "scenario.toml" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[limits.worker]\nbatch_max = 1", "unknown key limits.worker.batch_max (known here: "),
        ("[limits.worker]\nsequences_max = 0", "sequences_max (0)"),
        ("[limits.gateway]\nstall_ns = 0.5", "limits.gateway"),
    ],
)
def test_a_bad_limit_is_refused_by_name(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        CoreBuilder(_load(tmp_path, GOOD + text))
    assert message in str(caught.value)


def _tables(**changes: Any) -> str:
    return GOOD + "".join(f"[{table}]\n{text}\n" for table, text in changes.items())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (_tables(slo="ttft_s = 0.0"), "slo.ttft_s: "),
        (_tables(network="jitter_us = -1"), "network.jitter_us: "),
        (_tables(network="gateways = 0"), "network.gateways: "),
        (_tables(faults="message_loss = 1.5"), "faults.message_loss: "),
        (_tables(faults="cancels = -0.1"), "faults.cancels: "),
        (_tables(faults="crashes = 1.5"), "faults.crashes: "),
        (_tables(model="layers = 0"), "model.layers: "),
        ("seed = -1\n" + GOOD, "seed: "),
        ("stop_chance = 0.6\n" + GOOD, "stop_chance: "),
        ("end_within_s = -1\n" + GOOD, "end_within_s: "),
        (GOOD.replace("rate_per_s = 1", "rate_per_s = 0"), "workload.rate_per_s: "),
        (GOOD.replace("requests = 10", "requests = 0"), "workload.requests: "),
        (GOOD.replace("token_us = 10", "token_us = -1"), "hardware.a.token_us: "),
        (GOOD.replace('name = "p"', 'name = "P 1"'), "pools[0].name: "),
        (GOOD.replace('name = "p"', 'name = "p"\ncount = 1001'), "pools[0].count: "),
        (GOOD.replace('name = "p"', 'name = "p"\nlink_gbytes_per_s = 0'), "link_gbytes_per_s: "),
        (GOOD + 'prompt = { kind = "uniform", low = 9, high = 3 }', "low (9) exceeds high (3)"),
        (
            GOOD + 'prompt = { kind = "lognormal", median = 9, p90 = 3, max = 9 }',
            "p90 (3) is below median (9)",
        ),
        (GOOD + 'output = { kind = "fixed", tokens = 0 }', "workload.output.tokens: "),
    ],
)
def test_every_bound_is_refused_by_its_key(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        _load(tmp_path, text)
    assert message in str(caught.value)


def test_a_pool_name_used_twice_is_refused(tmp_path: Path) -> None:
    pool = GOOD[GOOD.index("[[pools]]") : GOOD.index("[workload]")]
    with pytest.raises(ConfigError, match="the name p is used twice"):
        _load(tmp_path, GOOD.replace("[workload]", pool + "[workload]"))


def test_every_problem_of_a_file_is_told_at_once(tmp_path: Path) -> None:
    bad = GOOD.replace("blocks = 100", "blocks = 0").replace("requests = 10", "requests = 0")
    with pytest.raises(ConfigError) as caught:
        _load(tmp_path, bad)
    lines = str(caught.value).splitlines()
    assert [line.split(": ")[1] for line in lines] == ["pools[0].blocks", "workload.requests"]


def test_limits_reach_the_cores_they_are_named_after(tmp_path: Path) -> None:
    text = GOOD + "[limits.worker]\nsequences_max = 7\n[limits.cluster]\nqueue_len_max = 8\n"
    builder = CoreBuilder(_load(tmp_path, text + "[limits.gateway]\nstalls_max = 9\n"))
    assert builder.worker_limits.sequences_max == 7
    assert builder.cluster_limits.queue_len_max == 8
    assert builder.gateway_limits.stalls_max == 9
