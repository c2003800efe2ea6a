"""Every config key reaches the limit it is about, and nothing else.

Each case changes one key and compares what every actor is made with before and
after. A key without a case fails, as does one that changes nothing.
"""

import dataclasses
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from splitweave.cluster.live import cluster as live
from splitweave.cluster.live.config import ClusterConfig, ConfigError
from splitweave.proto.toml_file import build
from stand_ins import ActorKind

BASE: dict[str, Any] = {
    "model": {"path": "demo"},
    "pools": [
        {"name": "prefill", "role": "prefill"},
        {"name": "decode", "role": "decode"},
    ],
}
WORKERS = ("worker/prefill-0", "worker/decode-0")


def every_worker(path: str, value: object) -> dict[str, object]:
    return {f"{worker} {path}": value for worker in WORKERS}


def decode(path: str, value: object) -> dict[str, object]:
    return {f"worker/decode-0 {path}": value}


# The key, what it is set to, and all that changes by it: actor, where, new value.
CASES: dict[str, tuple[Any, dict[str, object]]] = {
    "model.name": ("llama", {"gateway/gateway-0 model_name": "llama"}),
    "model.context_tokens_max": (
        512,
        {"gateway/gateway-0 context_tokens_max": 512} | every_worker("context_tokens_max", 512),
    ),
    "pools.role": ("mixed", decode("role", "mixed")),
    "pools.device": ("cuda", decode("device", "cuda")),
    "pools.accelerator": ("H100", decode("options.accelerator_type", "H100")),
    "pools.cpus": (0.25, decode("options.num_cpus", 0.25)),
    "pools.gpus": (2.0, decode("options.num_gpus", 2.0)),
    "pools.resources": ({"rack": 1.5}, decode("options.resources.rack", 1.5)),
    "pools.threads": (
        3,
        decode("threads", 3)
        | decode("options.runtime_env.env_vars.OMP_NUM_THREADS", "3")
        | decode("options.runtime_env.env_vars.NUMBA_NUM_THREADS", "3"),
    ),
    "pools.blocks": (77, decode("blocks", 77)),
    "pools.host_blocks": (78, decode("host_blocks", 78)),
    "budgets.block_tokens": (
        32,
        {"controller block_tokens": 32, "gateway/gateway-0 block_tokens": 32}
        | every_worker("block_tokens", 32),
    ),
    "budgets.batched_tokens_max": (
        256,
        {"controller policy.chunk_tokens": 256} | every_worker("limits.batched_tokens_max", 256),
    ),
    "budgets.prefill_chunk_tokens": (99, every_worker("limits.prefill_chunk_tokens", 99)),
    "budgets.sequences_max": (17, every_worker("limits.sequences_max", 17)),
    "budgets.queue_len_max": (
        40,
        {"controller policy.waiting_max": 40} | every_worker("limits.queue_len_max", 40),
    ),
    "budgets.copy_percent": (
        40,
        every_worker("limits.copy_percent", 40) | every_worker("limits.drain_copy_percent", 40),
    ),
    "slo.ttft_s": (0.29, {"controller policy.slo.ttft_ns": 290_000_000}),
    "slo.tpot_s": (0.01, {"controller policy.slo.tpot_ns": 10_000_000}),
    "gateway.host": ("::1", {"gateway/gateway-0 host": "::1"}),
    "gateway.port": (81, {"gateway/gateway-0 port": 81}),
    "gateway.streams_max": (9, {"gateway/gateway-0 limits.streams_max": 9}),
    "gateway.resume_grace_s": (
        5.0,
        {
            "controller limits.resume_grace_ns": 5_000_000_000,
            "gateway/gateway-0 limits.resume_grace_ns": 5_000_000_000,
        },
    ),
    "gateway.resources": (
        {"front": 1.0},
        {"gateway/gateway-0 options.resources.front": 1.0},
    ),
    "gateway.stall_s": (3.5, {"gateway/gateway-0 limits.stall_ns": 3_500_000_000}),
    "controller.queue_len_max": (8, {"controller limits.queue_len_max": 8}),
    "controller.queue_age_s": (4.0, {"controller limits.queue_age_ns": 4_000_000_000}),
    "controller.queue_s_max": (7.0, {"controller limits.queue_ns_max": 7_000_000_000}),
    "controller.heartbeat_s": (0.3, every_worker("limits.heartbeat_ns", 300_000_000)),
    "controller.suspect_after_s": (0.9, {"controller limits.suspect_after_ns": 900_000_000}),
    "controller.load_s_max": (60.0, {"controller limits.load_ns_max": 60_000_000_000}),
    "controller.dead_after_s": (1.5, {"controller limits.dead_after_ns": 1_500_000_000}),
    "record": (
        "/rec",
        {"controller record": "/rec", "gateway/gateway-0 record": "/rec"}
        | every_worker("record", "/rec"),
    ),
    "transport.same_host": ("network", every_worker("same_host", "network")),
    "nccl.pairs_max": (6, every_worker("nccl.pairs_max", 6)),
    "nccl.ctas_max": (2, every_worker("nccl.ctas_max", 2)),
    "nccl.abort_stuck_s": (3.0, every_worker("nccl.abort_stuck_s", 3.0)),
}
# These name or count actors, or are read before there is any: a test of their own.
ELSEWHERE = {
    "model.path": "test_every_actor_is_told_the_models_absolute_path",
    "gateway.count": "test_gateways.py",
    "pools.name": "test_worker_ids_are_the_pools_name_and_a_number",
    "pools.count": "test_worker_ids_are_the_pools_name_and_a_number",
    "ray.namespace": "test_the_namespace_is_the_actors_and_what_they_are_told",
    "ray.address": "test_ray_session.py",
}


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[dict[str, Any], Any]]]:
    """(options, setup) of every actor, in the order of creation."""
    kind = ActorKind(handle=lambda options: options["name"])
    for name in ("controller_class", "gateway_class", "worker_class"):
        monkeypatch.setattr(live, name, lambda: kind)
    yield kind.made
    kind.made.clear()


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, object]]:
    """Every value that is no dataclass and no mapping, by its dotted path."""
    if dataclasses.is_dataclass(value):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        for key, item in value.items():
            yield from leaves(item, f"{path}.{key}" if path else str(key))
    elif "links." not in path:  # measured later, not configured
        yield path, value


def actors(made: list[tuple[dict[str, Any], Any]], tables: dict[str, Any]) -> dict[str, object]:
    """All that the actors of this config are made with."""
    made.clear()
    live._create(build(ClusterConfig, tables, "cluster.toml"))
    return {
        f"{options['name']} {path}": value
        for options, setup in made
        for path, value in [
            *leaves({"options": {k: v for k, v in options.items() if k != "name"}}),
            *leaves(setup),
        ]
    }


def changed(key: str, value: object) -> dict[str, Any]:
    """The config with one key changed; `pools.…` is the decode pool's."""
    section, _, name = key.partition(".")
    if section == "pools":
        first, second = BASE["pools"]
        return BASE | {"pools": [first, second | {name: value}]}
    if not name:
        return BASE | {section: value}
    return BASE | {section: BASE.get(section, {}) | {name: value}}


def config_keys(cls: type[Any] = ClusterConfig, path: str = "") -> Iterator[str]:
    for name, kind in typing.get_type_hints(cls).items():
        inner = typing.get_args(kind)[0] if isinstance(kind, types.GenericAlias) else kind
        if dataclasses.is_dataclass(inner):
            yield from config_keys(typing.cast("type[Any]", inner), f"{path}{name}.")
        else:
            yield f"{path}{name}"


def test_every_key_has_a_case() -> None:
    assert set(config_keys()) == CASES.keys() | ELSEWHERE.keys()


@pytest.mark.parametrize(("key", "value", "effect"), [(k, *v) for k, v in CASES.items()], ids=CASES)
def test_a_key_reaches_its_limit_and_nothing_else(
    made: list[tuple[dict[str, Any], Any]], key: str, value: object, effect: dict[str, object]
) -> None:
    before, after = actors(made, BASE), actors(made, changed(key, value))
    differ = {path: new for path, new in after.items() if before.get(path, ...) != new}
    assert differ == effect
    assert set(before) - set(after) == set()


def test_every_actor_is_told_the_models_absolute_path(
    made: list[tuple[dict[str, Any], Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Actors run in folders of Ray's: `--model ./llama.gguf` would not be found there."""
    (tmp_path / "llama.gguf").touch()
    monkeypatch.chdir(tmp_path)
    found = actors(made, changed("model.path", "llama.gguf"))
    paths = {value for path, value in found.items() if path.endswith(" model_path")}
    assert paths == {str(tmp_path / "llama.gguf")}
    assert found["gateway/gateway-0 model_name"] == "llama"


def test_worker_ids_are_the_pools_name_and_a_number(
    made: list[tuple[dict[str, Any], Any]],
) -> None:
    tables = changed("pools.count", 2) | {"record": "x"}
    tables["pools"][1]["name"] = "d"
    found = actors(made, tables)
    names = [options["name"] for options, _ in made]
    assert names == [
        "controller", "gateway/gateway-0", "worker/prefill-0", "worker/d-0", "worker/d-1",
    ]  # fmt: skip
    assert found["controller worker_ids"] == ("prefill-0", "d-0", "d-1")
    assert found["controller gateway_ids"] == ("gateway-0",)
    assert found["worker/d-1 worker_id"] == "d-1"
    assert found["worker/d-1 pool"] == "d"


def test_the_namespace_is_the_actors_and_what_they_are_told(
    made: list[tuple[dict[str, Any], Any]],
) -> None:
    found = actors(made, changed("ray.namespace", "other"))
    told = {path: value for path, value in found.items() if path.endswith("namespace")}
    assert set(told.values()) == {"other"}
    assert len(told) == 2 * len(made)


def test_the_smallest_times_still_make_a_nanosecond(
    made: list[tuple[dict[str, Any], Any]],
) -> None:
    found = actors(made, changed("slo.ttft_s", 1e-12))
    assert found["controller policy.slo.ttft_ns"] == 1


def test_the_router_never_plans_a_queue_longer_than_a_workers() -> None:
    for given, planned in ((1, 1), (128, 128), (4096, 128)):
        config = build(ClusterConfig, changed("budgets.queue_len_max", given), "cluster.toml")
        setup = live.controller_setup(config, (), ())
        assert dataclasses.asdict(setup.policy)["waiting_max"] == planned  # type: ignore[call-overload]


REFUSED: list[tuple[str, object, str]] = [
    ("slo.ttft_s", float("inf"), "slo.ttft_s: Input should be less than or equal to 1000000"),
    ("gateway.count", 65, "gateway.count: Input should be less than or equal to 64"),
    ("gateway.stall_s", 0.2, "gateway.stall_s: Input should be greater than 0.2"),
    ("controller.queue_len_max", 100_000, "controller.queue_len_max: Input should be less than"),
    ("controller.heartbeat_s", 1.0, "controller.heartbeat_s (1.0) must be below controller.susp"),
    ("budgets.sequences_max", 513, "budgets.sequences_max (513) exceeds budgets.batched_tokens"),
    ("pools.resources", {"CPU": 1.0}, "resources.CPU: use cpus"),
    ("pools.resources", {"rack": -1.0}, "pools[1].resources.rack: Input should be greater than"),
    ("pools.cpus", float("inf"), "pools[1].cpus: Input should be less than or equal to 1000000"),
    ("pools.cpus", 0.00001, "cpus (1e-05) is finer than Ray counts, 0.0001"),
]


@pytest.mark.parametrize(("key", "value", "message"), REFUSED)
def test_what_no_limit_or_ray_could_take_is_refused_by_key(
    key: str, value: object, message: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        build(ClusterConfig, changed(key, value), "cluster.toml")
    assert message in str(refused.value)


def test_the_shortest_silences_that_are_allowed_make_limits(
    made: list[tuple[dict[str, Any], Any]],
) -> None:
    quick = {"heartbeat_s": 0.01, "suspect_after_s": 0.05, "dead_after_s": 0.11}
    found = actors(made, BASE | {"controller": quick, "gateway": {"stall_s": 0.21}})
    assert found["controller limits.dead_after_ns"] == 110_000_000
