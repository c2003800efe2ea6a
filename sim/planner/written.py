"""The files of a plan: `cluster.toml` for `splitweave serve`, values for the Helm chart."""

import json
from typing import Any

from ...proto.views import Role
from .drafts import Plan, Tried
from .machines import WorkerType

# Ray's accelerator types and the labels of NVIDIA's and AMD's device plugins.
RAY_TYPES = {"MI300X": "AMD-Instinct-MI300X-OAM"}
NODE_LABELS = {
    "A100-80G": ("nvidia.com/gpu.product", "NVIDIA-A100-SXM4-80GB"),
    "H100": ("nvidia.com/gpu.product", "NVIDIA-H100-80GB-HBM3"),
    "H200": ("nvidia.com/gpu.product", "NVIDIA-H200"),
    "L40S": ("nvidia.com/gpu.product", "NVIDIA-L40S"),
    "A10G": ("nvidia.com/gpu.product", "NVIDIA-A10G"),
    "MI300X": ("amd.com/gpu.product-name", "AMD_Instinct_MI300X_OAM"),
}
# The chart's Service leads to the head's pod, which alone has the resource `gateway`.
ON_KUBERNETES = """
[gateway]
host = "0.0.0.0"
resources = { gateway = 1 }
"""
Pool = tuple[Role, WorkerType, int]


def pools_of(tried: Tried) -> list[Pool]:
    """Role, machine and count of each pool."""
    fleet = tried.fleet
    return list(zip(fleet.shape.roles, fleet.shape.types, fleet.counts, strict=True))


def cluster_toml(plan: Plan, tried: Tried, model_path: str) -> str:
    """A config that `splitweave serve --config` loads; `model_path` is yours to set."""
    slo = plan.ask.question.slo
    fleet = tried.fleet
    budgets = plan.ask.question.budgets(fleet.shape.types[0], fleet.shape.roles[0])
    lines = [
        f"# Written by `splitweave plan`: {fleet.name}.",
        f"# {fleet.dollars_per_hour:.2f} $/h; {fleet.watts:.0f} W, the GPUs' power limits.",
        "# Planned with `gpus` GPUs per worker in tensor parallel. The KV blocks are derived, not",
        "# measured: take what your engine prints at its start.",
        "",
        "[model]",
        f"path = {json.dumps(model_path)} # put the weights here, or their path",
        "",
    ]
    for role, kind, count in pools_of(tried):
        cap = kind.spec.power_cap_w
        lines += [
            "[[pools]]" + (f" # capped at {cap:g} W per GPU: nvidia-smi -pl" if cap else ""),
            f'name = "{role.value}"',
            f'role = "{role.value}"',
            f"count = {count}",
            'device = "cuda"',
            f"accelerator = {json.dumps(ray_type(kind))}",
            f"gpus = {kind.gpus}",
            f"blocks = {kind.blocks.count}",
            "",
        ]
    lines += [
        "[budgets]",
        f"block_tokens = {budgets.block_tokens}",
        f"batched_tokens_max = {budgets.batched_tokens_max}",
        f"prefill_chunk_tokens = {budgets.prefill_chunk_tokens}",
        f"sequences_max = {budgets.sequences_max}",
        "",
        "[slo]",
        f"ttft_s = {slo.ttft_s!r}",
        f"tpot_s = {slo.tpot_s!r}",
        "",
    ]
    return "\n".join(lines)


def helm_values(plan: Plan, tried: Tried, model_path: str) -> dict[str, Any]:
    """Values for `helm/splitweave`: a worker group per pool, and the config they run."""
    return {
        "pools": [_group(role, kind, count) for role, kind, count in pools_of(tried)],
        "config": cluster_toml(plan, tried, model_path) + ON_KUBERNETES,
    }


def values_yaml(values: dict[str, Any]) -> str:
    """JSON is YAML: nothing in it can be misread."""
    return json.dumps(values, indent=2) + "\n"


def ray_type(kind: WorkerType) -> str:
    """What Ray calls the accelerator."""
    return RAY_TYPES.get(kind.spec.device, kind.spec.device)


def _group(role: Role, kind: WorkerType, count: int) -> dict[str, Any]:
    group: dict[str, Any] = {
        "name": role.value,
        "replicas": count,
        "gpus": kind.gpus,
        "accelerator": ray_type(kind),
    }
    if kind.spec.device in NODE_LABELS:
        label, value = NODE_LABELS[kind.spec.device]
        group["nodeSelector"] = {label: value}
        group["gpuResource"] = label.partition(".")[0] + ".com/gpu"
    if kind.spec.power_cap_w is not None:
        group["powerCapWatts"] = kind.spec.power_cap_w
    return group
