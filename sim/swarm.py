"""A scenario of its own for each seed: which faults, which pools, how tight.

Swarm testing (Groce et al., ISSTA 2012): a run in which everything may happen
seldom gets far in anything. So each seed leaves most kinds of faults out and
does more of the others, in a cluster of its own shape.
"""

from random import Random
from typing import Any

from ..proto.toml_file import build
from .scenario import Scenario

S = 1_000_000_000
MS = 1_000_000
SHAPES = (
    "1P 1D", "1P 2D", "2P 1D", "2P 2D", "2P 3D", "3P 4D", "1M", "2M", "4M", "1P 1D 1M", "1P 2D 2M"
)  # fmt: skip
ROLES = {"P": "prefill", "D": "decode", "M": "mixed"}
KIND_CHANCE = 0.4  # of each kind of fault to be on
MORE_CHANCE = 0.6  # of those that moves hang on
MORE = ("migrations", "stage_faults", "late_letters", "gateway_crashes")
# The most of each kind that is on.
KINDS: dict[str, int] = {
    "crashes": 3,
    "freezes": 3,
    "message_troubles": 4,
    "cuts": 2,
    "slow_links": 3,
    "copy_troubles": 5,
    "controller_restarts": 2,
    "gateway_crashes": 4,
    "migrations": 60,
    "drains": 2,
    "role_switches": 2,
    "stage_faults": 60,
    "partitions": 3,
    "kind_losses": 6,
    "full_memories": 3,
    "stuck_transports": 2,
    "late_letters": 60,
    "host_troubles": 4,
}
FETCHING_CHANCE = 0.25  # of a seed to be about prefix fetches
GRACES_NS = (100 * MS, 1 * S, 10 * S)


def swarm(seed: int) -> Scenario:
    """The scenario of a seed; the same one always."""
    dice = Random(f"swarm {seed}")
    block_tokens = dice.choice((1, 2, 4, 8, 16))
    prompt = dice.choice((12, 40, 90))
    output = dice.choice((6, 30, 70))
    layers = dice.choice((1, 2, 3, 4))
    graces = Random(f"graces {seed}")
    tables: dict[str, Any] = {
        "seed": seed,
        "checked": True,
        "block_tokens": block_tokens,
        "stop_chance": dice.choice((0.0, 0.02)),
        "end_within_s": 120.0,
        "model": {
            "layers": layers, "hidden": 256, "heads": 8, "kv_heads": 8, "head_dim": 64,
            "ffn": 512, "vocab": 4096, "context_tokens_max": dice.choice((80, 131072)),
        },
        "hardware": {
            "quick": {"kind": "affine", "iteration_us": 4000.0, "token_us": 200.0},
            "slow": {"kind": "affine", "iteration_us": 9000.0, "token_us": 100.0},
            "sluggish": {"kind": "affine", "iteration_us": 30000.0, "token_us": 500.0},
        },
        "pools": _pools(dice, -(-(prompt + output) // block_tokens)),
        "network": {
            "latency_us": dice.choice((50.0, 500.0, 5000.0)),
            "jitter_us": dice.choice((0.0, 500.0, 5000.0)),
            "gateways": dice.choice((1, 2, 3)),
        },
        "workload": _workload(dice, prompt, output),
        "classes": Random(f"classes {seed}").choice(CLASSES),
        "slo": {"ttft_s": 1.0, "tpot_s": 0.1},
        "faults": _faults(dice),
        "limits": {
            "worker": _worker_limits(dice, layers),
            "gateway": {
                "stall_ns": 4 * S, "ended_max": dice.choice((3, 20000)),
                "resume_grace_ns": graces.choice(GRACES_NS),
            },
            "cluster": {
                "moves_per_worker_max": dice.choice((1, 4, 8)),
                "resume_grace_ns": graces.choice(GRACES_NS),
            },
            **dice.choice(ROUTERS),
        },
    }  # fmt: skip
    fetching = Random(f"fetching {seed}")
    if fetching.random() < FETCHING_CHANCE:
        _make_fetch(fetching, tables)
    return build(Scenario, tables, f"the swarm's seed {seed}")


def _make_fetch(dice: Random, tables: dict[str, Any]) -> None:
    """Prefixes that peers have, and copies of them that take their time: fetches get hurt."""
    drawn_tokens, tables["block_tokens"] = tables["block_tokens"], 1
    tables["limits"] |= KEEN
    tables["limits"]["worker"] |= {"copy_blocks_max": 1, "fetch_ns": 2000 * MS}
    tables["workload"] |= {"shared_prefix_tokens": 64, "prefix_groups": 3}
    # Who comes back through another gateway may fetch while the first one's words arrive.
    tables["network"]["gateways"] = 3
    tables["faults"] |= {"gateway_crashes": 8, "late_letters": 60, "ask_again_s": 0.005}
    if dice.random() < 0.5:  # words to a gateway's former life are answered by its next one
        tables["faults"] |= {"message_troubles": 4, "message_loss": 0.0, "message_delay_s": 3.0}
        tables["faults"] |= {"crashes": 3, "freezes": 3}
        tables["limits"]["gateway"]["resume_grace_ns"] = 100 * MS
    for pool in tables["pools"]:
        # As many tokens as before, or a few more: prefixes stay, or are fetched again.
        pool["blocks"] = pool["blocks"] * drawn_tokens + dice.choice((0, 16, 64))
        pool["link_gbytes_per_s"] = 10**-3.5


CLASSES: tuple[dict[str, float], ...] = ({}, {}, {"interactive": 0.3, "batch": 0.4})


# Two that fetch whatever prefix a peer has, and one that hardly ever does.
KEEN: dict[str, Any] = {
    "policy": {"fetch_tokens_min": 1, "link_latency_ns": 0}, "link_bytes_per_s": 1e12
}  # fmt: skip
ROUTERS: tuple[dict[str, Any], ...] = (KEEN, KEEN, {})


def _pools(dice: Random, longest_blocks: int) -> list[dict[str, Any]]:
    """`longest_blocks` is what one whole request may need; memory is a few times that."""
    pools: list[dict[str, Any]] = []
    for part in dice.choice(SHAPES).split():
        count, kind = int(part[:-1]), part[-1]
        blocks = round(longest_blocks * 10 ** dice.uniform(0.1, 1.0)) + 4
        pools.append({
            "name": ROLES[kind], "role": ROLES[kind], "count": count,
            "hardware": dice.choice(("quick", "slow", "sluggish")), "blocks": blocks,
            "link_gbytes_per_s": 10 ** dice.uniform(-2.5, 0.0),
            "link_latency_us": dice.choice((10.0, 2000.0, 50000.0)),
            "host_blocks": dice.choice((0, 0, 8, 64)),
            "host_gbytes_per_s": 10 ** dice.uniform(-3.0, 0.0),
        })  # fmt: skip
    return pools


def _workload(dice: Random, prompt: int, output: int) -> dict[str, Any]:
    return {
        "kind": "poisson",
        "rate_per_s": dice.choice((4.0, 8.0, 16.0)),
        "requests": dice.choice((8, 24, 48)),
        "prompt": {"kind": "uniform", "low": 1, "high": prompt},
        "output": {"kind": "uniform", "low": 1, "high": output},
        "shared_prefix_tokens": dice.choice((0, 16, 64)),
        "prefix_groups": dice.choice((0, 1, 3, 8)),
    }


def _faults(dice: Random) -> dict[str, Any]:
    faults = {
        "until_s": dice.choice((3.0, 5.0)),
        "freeze_s_max": dice.choice((0.5, 4.0)),
        "message_loss": dice.choice((0.0, 0.1, 0.5)),
        "message_duplicate": dice.choice((0.0, 0.2, 1.0)),
        "message_delay_s": dice.choice((0.05, 0.5, 3.0)),
        "migrate_again_s": 0.05,
        "cancels": dice.choice((0.0, 0.15, 0.6)),
        "told_late_s": dice.choice((0.0, 0.0, 0.02, 0.5)),
        "ask_again_s": dice.choice((0.005, 0.05, 0.3)),
        "deadlines": dice.choice((0.0, 0.0, 0.3)),
        "deadline_s_max": dice.choice((0.5, 3.0)),
        "clock_offset_s": dice.choice((0.0, 0.5, 1e6)),
        "clock_drift": dice.choice((0.0, 0.001, 0.05)),
    }
    chances = {kind: MORE_CHANCE if kind in MORE else KIND_CHANCE for kind in KINDS}
    return faults | {kind: KINDS[kind] for kind in KINDS if dice.random() < chances[kind]}


def _worker_limits(dice: Random, layers: int) -> dict[str, int]:
    batched = dice.choice((8, 48, 256))
    chunk = min(dice.choice((4, 16, 64)), batched)
    return {
        "batched_tokens_max": batched,
        "prefill_chunk_tokens": chunk,
        "sequences_max": min(dice.choice((2, 8, 32)), batched),
        "queue_len_max": dice.choice((4, 64)),
        "watermark_blocks": dice.choice((0, 1, 3)),
        "heartbeat_ns": dice.choice((50, 200)) * MS,
        "lease_ns": dice.choice((200, 1000, 5000)) * MS,
        "lease_ask_ns": dice.choice((30, 100)) * MS,
        "lease_asks_max": dice.choice((2, 10)),
        "copy_ns": dice.choice((100, 500, 2000)) * MS,
        "handover_ns": dice.choice((100, 500, 2000)) * MS,
        "handover_blocks_max": dice.choice((1, 2, 8)),
        "layer_group": dice.randint(1, layers),
        "copy_blocks_max": dice.choice((1, 4, 64)),
        "copies_in_flight_max": dice.choice((1, 2, 8)),
        "moves_max": dice.choice((1, 4, 64)),
        "resend_ns": dice.choice((200, 500)) * MS,
        "finished_max": dice.choice((2, 1024)),
        "fetch_ns": dice.choice((100, 500, 2000)) * MS,
        "spill_ahead_blocks": dice.choice((0, 4, 256)),
        "spill_again_ns": dice.choice((20, 500)) * MS,
    }
