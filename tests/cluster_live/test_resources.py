"""Pools that Ray can never hold are refused at once, in the words of the config."""

import dataclasses
from typing import Any

import pytest
import ray
from splitweave.cluster.live.config import ClusterConfig, ConfigError, PoolConfig
from splitweave.cluster.live.resources import check_resources
from splitweave.cluster.live.serve import default_config
from splitweave.proto.views import Role

TAIL = "free in the Ray cluster; lower count or the workers' share, or add nodes"


def config(*pools: dict[str, Any]) -> ClusterConfig:
    """Mixed pools p0, p1, … with these resources."""
    made = [
        PoolConfig(**({"name": f"p{index}", "role": Role.MIXED, "cpus": 0.0} | pool))
        for index, pool in enumerate(pools)
    ]
    return dataclasses.replace(default_config(), pools=made)


def check(monkeypatch: pytest.MonkeyPatch, free: dict[str, float], *pools: dict[str, Any]) -> None:
    monkeypatch.setattr(ray, "available_resources", lambda: free)
    check_resources(config(*pools))


@pytest.mark.parametrize(
    ("free", "pools", "message"),
    [
        (
            {"CPU": 2.0},
            [{"cpus": 0.5, "count": 2}, {"cpus": 1.5}],
            "pools: too few resources: cpus 2.5 asked (p0: 2 x 0.5, p1: 1 x 1.5), 2 ",
        ),
        (
            {"CPU": 64.0, "GPU": 7.0},
            [{"gpus": 1, "count": 8, "device": "cuda"}, {"cpus": 1}],
            "pools: too few resources: gpus 8 asked (p0: 8 x 1), 7 ",
        ),
        (
            {"CPU": 64.0},
            [{"resources": {"rack": 2.0}, "count": 3}],
            "pools: too few resources: resources.rack 6 asked (p0: 3 x 2), 0 ",
        ),
        (
            {"CPU": 64.0, "GPU": 8.0, "accelerator_type:A100": 1.0},
            [{"gpus": 1, "accelerator": "A100"}, {"gpus": 1, "accelerator": "H100"}],
            "pools: too few resources: accelerator H100 0.001 asked (p1: 1 x 0.001), 0 ",
        ),
    ],
    ids=["cpus", "gpus", "custom", "accelerator"],
)
def test_what_is_missing_is_said_with_who_asks_and_what_is_free(
    monkeypatch: pytest.MonkeyPatch,
    free: dict[str, float],
    pools: list[dict[str, Any]],
    message: str,
) -> None:
    with pytest.raises(ConfigError) as refused:
        check(monkeypatch, free, *pools)
    assert str(refused.value) == message + TAIL


@pytest.mark.parametrize(
    ("free", "pool"),
    [
        ({"CPU": 2.0}, {"cpus": 0.5, "count": 4}),
        ({"CPU": 0.3}, {"cpus": 0.1, "count": 3}),  # 0.30000000000000004 in floats
        ({"GPU": 1.0}, {"gpus": 0.25, "count": 4}),
        ({"rack": 1.0}, {"resources": {"rack": 1.0}}),
        ({"accelerator_type:H100": 1.0}, {"accelerator": "H100", "count": 1000}),
        ({}, {"count": 1000}),
    ],
)
def test_what_just_fits_is_accepted(
    monkeypatch: pytest.MonkeyPatch, free: dict[str, float], pool: dict[str, Any]
) -> None:
    check(monkeypatch, free, pool)


def test_the_first_key_that_is_short_is_named_cpus_before_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(ConfigError, match="too few resources: cpus 1 asked"):
        check(monkeypatch, {}, {"cpus": 1, "gpus": 1, "resources": {"a": 1}, "accelerator": "H100"})


def test_what_gateways_ask_for_is_counted_with_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    gateway = dataclasses.replace(default_config().gateway, count=3, resources={"gateway": 1.0})
    asked = dataclasses.replace(config({"cpus": 1.0}), gateway=gateway)
    monkeypatch.setattr(ray, "available_resources", lambda: {"CPU": 4.0, "gateway": 2.0})
    with pytest.raises(ConfigError, match=r"resources.gateway 3 asked \(gateway: 3 x 1\), 2 free"):
        check_resources(asked)
    monkeypatch.setattr(ray, "available_resources", lambda: {"CPU": 4.0, "gateway": 64.0})
    check_resources(asked)


@pytest.mark.parametrize("name", ["CPU", "GPU"])
def test_a_gateway_asks_for_no_processor(name: str) -> None:
    with pytest.raises(ValueError, match=f"resources.{name}: a gateway takes none"):
        dataclasses.replace(default_config().gateway, resources={name: 1.0})
