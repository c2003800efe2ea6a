"""Worlds without faults, drawn at random: pools, devices, links, workloads, limits."""

from random import Random
from typing import Any

from splitweave.proto.toml_file import build
from splitweave.sim.scenario import Scenario

MS = 1_000_000
TURNS = 3  # of a session, at most: the last one's prompt holds all before it
SHAPES = ("1P 1D", "2P 1D", "1P 3D", "1M", "3M", "1P 1D 1M", "2P 2D 2M")
ROLES = {"P": "prefill", "D": "decode", "M": "mixed"}
DEVICES: dict[str, dict[str, Any]] = {
    "plain": {"kind": "affine", "iteration_us": 6000.0, "token_us": 37.0},
    "slow": {"kind": "affine", "iteration_us": 21000.0, "token_us": 150.0},
    "roofline": {"kind": "roofline", "tflops_per_s": 3.0, "gbytes_per_s": 12.0},
    "device": {"kind": "device", "device": "L40S"},
}
LENGTHS = {"kind": "uniform", "low": 1}


def calm_world(seed: int) -> Scenario:
    """The world of a seed; the same one always."""
    dice = Random(f"calm {seed}")
    block_tokens = dice.choice((1, 4, 16))
    prompt, output = dice.choice((10, 60, 200)), dice.choice((2, 20, 120))
    batched = dice.choice((16, 64, 512))
    tables: dict[str, Any] = {
        "seed": seed,
        "block_tokens": block_tokens,
        "model": {
            "layers": dice.choice((2, 5)), "hidden": 256, "heads": 4, "kv_heads": 2,
            "head_dim": 64, "ffn": 512, "vocab": 4096,
            "context_tokens_max": dice.choice((150, 100_000)),
        },
        "hardware": DEVICES,
        "pools": _pools(dice, -(-(8 + prompt + TURNS * (output + 8)) // block_tokens)),
        "network": {"latency_us": dice.choice((50.0, 3000.0)), "gateways": dice.choice((1, 3))},
        "workload": _workload(dice, prompt, output),
        "classes": {"interactive": dice.choice((0.0, 0.3)), "batch": dice.choice((0.0, 0.3))},
        "limits": {
            "worker": {
                "batched_tokens_max": batched,
                "prefill_chunk_tokens": min(batched, dice.choice((8, 64, 512))),
                "sequences_max": min(batched, dice.choice((2, 6, 64))),
                "heartbeat_ns": dice.choice((20, 200)) * MS,
                "watermark_blocks": dice.choice((0, 2)),
                "layer_group": dice.choice((1, 2)),
                "moves_max": dice.choice((2, 64)),
            },
            "gateway": {"stall_ns": dice.choice((2000, 10_000)) * MS},
        },
    }  # fmt: skip
    return build(Scenario, tables, f"the calm world {seed}")


def _pools(dice: Random, longest_blocks: int) -> list[dict[str, Any]]:
    """Memory for little more than one whole request, or for many."""
    return [
        {
            "name": ROLES[part[1]], "role": ROLES[part[1]], "count": int(part[0]),
            "hardware": dice.choice(list(DEVICES)),
            "blocks": round(longest_blocks * dice.choice((1.3, 3.0, 30.0))) + 4,
            "link_gbytes_per_s": dice.choice((0.01, 1.0, 25.0)),
            "host_blocks": dice.choice((0, 0, 0, 20)),
        }
        for part in dice.choice(SHAPES).split()
    ]  # fmt: skip


def _workload(dice: Random, prompt: int, output: int) -> dict[str, Any]:
    lengths = {
        "prompt": LENGTHS | {"high": prompt}, "output": LENGTHS | {"high": output},
        "shared_prefix_tokens": dice.choice((0, 8)), "prefix_groups": 2,
    }  # fmt: skip
    poisson = {"kind": "poisson", "rate_per_s": dice.choice((5.0, 60.0)), "requests": 24}
    think = {"median": 0.2, "p90": 0.6, "max": 2.0}
    sessions = {
        "kind": "sessions", "rate_per_s": 8.0, "sessions": 8, "think_s": think,
        "turns_max": TURNS, "message": {"kind": "fixed", "tokens": 8},
    }  # fmt: skip
    batch = {"kind": "batch", "requests": 12, "at_s": 0.1, "within_s": dice.choice((0.4, 100.0))}
    kinds: list[dict[str, Any]] = [poisson | lengths, sessions | lengths, batch | lengths]
    chosen = dice.choice((0, 0, 1, 3))
    return kinds[chosen] if chosen < 2 else {"kind": "mix", "parts": kinds}
