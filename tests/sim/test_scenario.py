"""Scenario files: what is refused, and how it is said."""

from pathlib import Path
from typing import Any

import pytest
from splitweave.sim.cores import CoreBuilder
from splitweave.sim.scenario import ConfigError, load_scenario

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
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


@pytest.mark.parametrize("name", ["two_pools", "faults", "azure_trace"])
def test_the_examples_load(name: str) -> None:
    CoreBuilder(load_scenario(EXAMPLES / f"{name}.toml"))


def test_a_trace_path_is_relative_to_its_file(tmp_path: Path) -> None:
    text = GOOD[: GOOD.index("[workload]")]
    text += '[workload]\nkind = "trace"\nformat = "azure"\npath = "t.csv"\n'
    assert _load(tmp_path, text).workload.path == str(tmp_path / "t.csv")


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
