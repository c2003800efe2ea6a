"""Small simulated scenarios and the words they are made of, for the simulator's tests."""

import json
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter
from splitweave.cluster.core.core import ClusterCore
from splitweave.cluster.policy.round_robin import RoundRobin
from splitweave.proto.batch import Batch, Chunk, Draw
from splitweave.proto.ids import BlockId, GatewayId, Incarnation, RequestId, WorkerId, WorkerKey
from splitweave.proto.requests import Request, SampledToken, SamplingParams
from splitweave.proto.toml_file import build
from splitweave.sim.cores import CoreBuilder
from splitweave.sim.run import Outcome, Run, arrivals_of, simulate
from splitweave.sim.scenario import Scenario
from splitweave.sim.workloads.source import Source
from splitweave.sim.workloads.specs import WorkloadSpec
from splitweave.sim.world import Watching, World, queue_world

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
MODEL = {"layers": 2, "hidden": 64, "heads": 2, "kv_heads": 2, "head_dim": 16, "ffn": 128}
HARDWARE = {"kind": "affine", "iteration_us": 5000, "token_us": 20}


def key(name: str, incarnation: int = 1) -> WorkerKey:
    return WorkerKey(WorkerId(name), Incarnation(incarnation))


def request(name: str = "r", prompt: tuple[int, ...] = tuple(range(100, 110)), **more: Any) -> Any:
    values: dict[str, Any] = {"max_tokens": 20, "sampling": SamplingParams(seed=5)}
    return Request(
        request_id=RequestId(name), gateway_id=GatewayId("g"), token_ids=prompt, **(values | more)
    )


def chunk(
    token_ids: tuple[int, ...], start: int, table: tuple[int, ...], *, draws: bool = True
) -> Chunk:
    """Of request `r`: `token_ids` at `start`, over the blocks of `table`."""
    draw = Draw(params=SamplingParams(seed=5), position=start + len(token_ids))
    return Chunk(
        request_id=RequestId("r"),
        token_ids=token_ids,
        start=start,
        block_table=tuple(BlockId(block) for block in table),
        draw=draw if draws else None,
    )


def batch(*chunks: Chunk) -> Batch:
    return Batch(iteration=1, chunks=chunks)


def tokens(*token_ids: int) -> tuple[SampledToken, ...]:
    return tuple(SampledToken(token_id=token_id) for token_id in token_ids)


def pool(name: str, role: str, **changes: Any) -> dict[str, Any]:
    return {"name": name, "role": role, "hardware": "a", "blocks": 400} | changes


def poisson(rate_per_s: float, requests: int, prompt: int, output: int, **more: Any) -> Any:
    """A workload of fixed lengths."""
    lengths = {
        name: {"kind": "fixed", "tokens": count}
        for name, count in (("prompt", prompt), ("output", output))
    }
    return {"kind": "poisson", "rate_per_s": rate_per_s, "requests": requests, **lengths, **more}


def source(table: dict[str, Any], seed: int = 1, context_tokens_max: int = 131072) -> Source:
    """The workload of a `[workload]` table."""
    spec = TypeAdapter(WorkloadSpec).validate_json(json.dumps(table))
    return Source(spec, seed, context_tokens_max)


def scenario(**changes: Any) -> Scenario:
    """One prefill and one decode worker, 25 short requests; `changes` as in a file."""
    tables: dict[str, Any] = {
        "model": MODEL,
        "hardware": {"a": HARDWARE},
        "pools": [pool("prefill", "prefill"), pool("decode", "decode")],
        "workload": poisson(20, 25, 40, 9),
        "end_within_s": 60,
    }
    return build(Scenario, tables | changes, "test")


def world_of(given: Scenario, **watching: Any) -> tuple[World, Run, Any]:
    """A world with its arrivals to come; time is the caller's to move."""
    world = queue_world(given, CoreBuilder(given), Watching(**{"checked": True, **watching}))
    return world, Run(world, arrivals_of(given)), world.scheduler


class InTurn(CoreBuilder):
    """A controller that places by RoundRobin."""

    def cluster(self) -> ClusterCore:
        return ClusterCore(self.cluster_limits, RoundRobin(), self._scenario.block_tokens)


def simulate_in_turn(given: Scenario) -> Outcome:
    return simulate(given, builder=InTurn(given))
