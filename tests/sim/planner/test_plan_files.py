"""What a plan writes: a config that loads, values that say the same."""

import json
from pathlib import Path

import pytest
from plan_questions import WELL, mixed, pair, small_ask, small_types
from splitweave.cluster.live.config import load_config
from splitweave.proto.views import Role
from splitweave.sim.planner.drafts import Plan, Tried
from splitweave.sim.planner.fleet import Fleet
from splitweave.sim.planner.machines import Offer
from splitweave.sim.planner.written import cluster_toml, helm_values, values_yaml

TYPES = small_types(Offer(machines=("L40S", "H100", "MI300X"), tp_sizes=(1, 2), caps=(1.0, 0.6)))
FLEETS = [
    mixed(TYPES["L40S-TP1"], 3),
    pair(TYPES["H100-TP2"], 2, TYPES["L40S-TP2"], 5),
    pair(TYPES["H100-TP1-420W"], 1, TYPES["MI300X-TP1"], 1),
]


@pytest.mark.parametrize("fleet", FLEETS, ids=lambda fleet: fleet.name)
def test_the_config_loads_and_has_the_fleet(fleet: Fleet, tmp_path: Path) -> None:
    plan = Plan(ask=small_ask())
    path = tmp_path / "cluster.toml"
    path.write_text(cluster_toml(plan, Tried(fleet, WELL), "/models/Llama-3.1-8B"))
    config = load_config(path)
    assert config.workers == sum(fleet.counts)
    assert [pool.role for pool in config.pools] == list(fleet.shape.roles)
    assert [pool.gpus for pool in config.pools] == [kind.gpus for kind in fleet.shape.types]
    assert [pool.blocks for pool in config.pools] == [k.blocks.count for k in fleet.shape.types]
    assert {pool.device for pool in config.pools} == {"cuda"}
    assert config.model.path == "/models/Llama-3.1-8B"
    assert (config.slo.ttft_s, config.slo.tpot_s) == (1.0, 0.06)
    budgets = plan.ask.question.budgets(fleet.shape.types[0], fleet.shape.roles[0])
    assert config.budgets.batched_tokens_max == budgets.batched_tokens_max
    assert config.budgets.sequences_max == budgets.sequences_max


def test_the_values_say_the_same_pools_and_where_they_run() -> None:
    plan = Plan(ask=small_ask())
    values = helm_values(plan, Tried(FLEETS[2], WELL), "/models/m")
    assert json.loads(values_yaml(values)) == values
    first, second = values["pools"]
    assert first == {
        "name": "prefill", "replicas": 1, "gpus": 1, "accelerator": "H100", "powerCapWatts": 420.0,
        "nodeSelector": {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"},
        "gpuResource": "nvidia.com/gpu",
    }  # fmt: skip
    assert second["accelerator"] == "AMD-Instinct-MI300X-OAM"
    assert second["gpuResource"] == "amd.com/gpu"
    assert "powerCapWatts" not in second
    assert values["config"].startswith("# Written by `splitweave plan`")
    assert "capped at 420 W per GPU" in values["config"]
    assert Role.PREFILL.value in values["config"]
