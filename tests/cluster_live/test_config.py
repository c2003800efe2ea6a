"""The config file: strict, by name, and documented."""

from pathlib import Path
from typing import Any

import pytest
from checkout import ROOT
from splitweave.cluster.live.config import ClusterConfig, ConfigError, load_config
from splitweave.cluster.live.config_page import page
from splitweave.cluster.live.model_path import resolve
from splitweave.proto.toml_file import build

GOOD: dict[str, Any] = {
    "model": {"path": "demo"},
    "pools": [{"name": "p", "role": "prefill"}, {"name": "d", "role": "decode", "count": 2}],
}

BAD: list[tuple[dict[str, Any], str]] = [
    ({"poools": 1}, "unknown key poools; did you mean pools?"),
    ({"budgets": {"block_token": 8}}, "unknown key budgets.block_token; did you mean block_tokens"),
    ({"pools": [{"name": "m", "role": "mixed", "cout": 2}]}, "unknown key pools[0].cout"),
    ({"slo": {"ttft_s": "2"}}, "slo.ttft_s: Input should be a valid number (got '2')"),
    ({"slo": {"ttft_s": 0}}, "slo.ttft_s: Input should be greater than 0 (got 0)"),
    ({"gateway": {"port": 99999}}, "gateway.port: Input should be less than or equal to 65535"),
    ({"gateway": {"port": True}}, "gateway.port: Input should be a valid integer"),
    ({"pools": []}, "pools: "),
    ({"pools": [{"name": "p", "role": "prefil"}]}, "pools[0].role: Input should be 'prefill'"),
    ({"pools": [{"name": "p", "role": "prefill"}]}, "pools: no pool with role decode (or mixed)"),
    ({"pools": [{"role": "mixed"}]}, "missing key pools[0].name"),
    (
        {"pools": [{"name": "m", "role": "mixed"}, {"name": "m", "role": "mixed"}]},
        "pools: the name m is used twice",
    ),
    (
        {"budgets": {"prefill_chunk_tokens": 3000}},
        "budgets.prefill_chunk_tokens (3000) exceeds budgets.batched_tokens_max (512)",
    ),
    (
        {"controller": {"suspect_after_s": 5}},
        "controller.suspect_after_s (5.0) must be below controller.dead_after_s (1.8)",
    ),
]


def test_a_good_config_has_its_defaults() -> None:
    config = build(ClusterConfig, GOOD, "cluster.toml")
    assert config.workers == 3
    assert config.gateway.port == 7070
    assert config.budgets.block_tokens == 16


@pytest.mark.parametrize(("change", "message"), BAD)
def test_a_bad_config_is_refused_by_key(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        build(ClusterConfig, GOOD | change, "cluster.toml")
    assert f"cluster.toml: {message}" in str(refused.value)


def test_every_example_config_loads() -> None:
    for name in ("cluster.toml", "h100_and_a100.toml"):
        assert load_config(ROOT / "examples" / name).workers > 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[model\n", "not TOML"),
        (b'a = "\xff"\n', "invalid UTF-8 at byte 5"),
        (None, "no such file"),
    ],
)
def test_an_unreadable_file_is_refused_with_its_name(
    tmp_path: Path, content: bytes | None, message: str
) -> None:
    path = tmp_path / "cluster.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=message) as refused:
        load_config(path)
    assert str(path) in str(refused.value)


def test_a_model_path_is_relative_to_the_config_file(tmp_path: Path) -> None:
    path = tmp_path / "cluster.toml"
    path.write_text('[model]\npath = "m.gguf"\n[[pools]]\nname = "m"\nrole = "mixed"\n')
    config = load_config(path)
    assert config.model.path == str(tmp_path / "m.gguf")
    with pytest.raises(ConfigError, match=r"model.path: .*m.gguf: no such file or folder"):
        resolve(config.model)


def test_the_configuration_page_is_up_to_date() -> None:
    """If not: python -m splitweave.cluster.live.config_page > docs/configuration.md"""
    assert (ROOT / "docs" / "configuration.md").read_text() == page()
