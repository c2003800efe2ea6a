"""splitwise-sim's trace through our own cores: batches, blocks, moves and views are ours.

Theirs are the iteration times (a measured table) and, where asked for, the choice of
machines: `LeastTokens` sends a prompt where the fewest prompt tokens and streams are before
it and decodes where the fewest blocks are taken, as their shortest queue and mixed pool do
while nobody is full. The other way is our router, as it is.

What stays ours, and differs from them: prompts are cut at 2 048 tokens an iteration beside
the decodes instead of setting decodes aside; the KV of a handoff crosses real ports, layer by
layer while the prompt is computed; a decode worker is told of a request by letters.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from splitweave.cluster.core.core import ClusterCore
from splitweave.cluster.policy.placement import Candidate, MoveAsk, Placement, PlacementAsk
from splitweave.proto.ids import WorkerKey
from splitweave.proto.move import MoveReport
from splitweave.proto.views import Role
from splitweave.sim.cores import CoreBuilder
from splitweave.sim.costs.specs import ModelSpec, TableSpec
from splitweave.sim.run import Progress, simulate
from splitweave.sim.scenario import LimitsSpec, NetworkSpec, PoolSpec, Scenario
from splitweave.sim.workloads.specs import TraceSpec

from .splitwise import Row, Series, Trace, table_text

BLOOM = ModelSpec(
    layers=70, hidden=14336, heads=112, kv_heads=112, head_dim=128, ffn=57344, vocab=250880
)
BLOCKS = 5_578  # (8 x 80 GiB - 329 GB of weights) / 4.01 MB per token / 16, as they count
ITERATION_TOKENS, SEQUENCES = 2048, 512
LINK_GBYTES_PER_S = 200 * 1024**3 / 1e9
LONG_NS = 10**12


@dataclass(frozen=True, kw_only=True)
class Pool:
    """Machines of one kind and role, and their iteration times."""

    role: Role
    count: int
    rows: Sequence[Row]


class LeastTokens:
    """Their choice of machines. It decides; views and bookings are ours."""

    def place(
        self, _ask: PlacementAsk, candidates: Sequence[Candidate], _now_ns: int
    ) -> Placement | None:
        source = min(
            (c for c in candidates if c.prefills),
            key=lambda c: (c.backlog_tokens + c.streams, c.key),
            default=None,
        )
        if source is None:
            return None
        decode = None
        if source.role is Role.PREFILL:
            targets = [c for c in candidates if c.role is Role.DECODE]
            target = min(targets, key=lambda c: (-c.blocks_available, c.key), default=None)
            if target is None:
                return None
            decode = target.key
        return Placement(
            prefill=source.key, decode=decode, predicted_ttft_ns=0, predicted_tpot_ns=0
        )

    def pick_target(
        self, _ask: MoveAsk, _candidates: Sequence[Candidate], _now_ns: int
    ) -> WorkerKey | None:
        return None

    def observe_move(self, report: MoveReport) -> None:
        """It learns nothing of links."""


class TheirChoice(CoreBuilder):
    """The cores as they are, with that policy."""

    def cluster(self) -> ClusterCore:
        return ClusterCore(self.cluster_limits, LeastTokens(), self._scenario.block_tokens)


def replay(
    trace: Trace, pools: Sequence[Pool], *, theirs: bool, progress: Progress | None = None
) -> Series:
    """TTFT, TBT and E2E of every request, in the trace's order; endless for one turned away."""
    with TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "trace.csv").write_text(_trace_text(trace))
        scenario = _scenario(folder, pools)
        builder = TheirChoice(scenario) if theirs else None
        outcome = simulate(scenario, builder=builder, progress=progress)
    rows = [row for _, row in outcome.world.clients.records.by_arrival()]
    return {
        "TTFT": [row.ttft_s if row.output_tokens else inf for row in rows],
        "TBT": [
            (row.e2e_s - row.ttft_s) / row.output_tokens if row.output_tokens else inf
            for row in rows
        ],
        "E2E": [row.e2e_s if row.output_tokens else inf for row in rows],
    }


def _scenario(folder: Path, pools: Sequence[Pool]) -> Scenario:
    hardware: dict[str, Any] = {}
    specs = []
    for pool in pools:
        path = folder / f"{pool.role.value}.csv"
        path.write_text(table_text(pool.rows))
        name = pool.role.value
        hardware[name] = TableSpec(kind="table", path=str(path))
        specs.append(
            PoolSpec(
                name=name, role=pool.role, hardware=name, count=pool.count, blocks=BLOCKS,
                link_gbytes_per_s=LINK_GBYTES_PER_S, link_latency_us=0.0,
            )
        )  # fmt: skip
    worker: dict[str, int | float] = {
        "batched_tokens_max": ITERATION_TOKENS, "prefill_chunk_tokens": ITERATION_TOKENS,
        "sequences_max": SEQUENCES, "queue_len_max": 4096,
    }  # fmt: skip
    return Scenario(
        model=BLOOM,
        hardware=hardware,
        pools=specs,
        network=NetworkSpec(latency_us=0.0),
        workload=TraceSpec(kind="trace", format="splitwise", path=str(folder / "trace.csv")),
        limits=LimitsSpec(
            worker=worker,
            cluster={"queue_len_max": 20_000, "queue_ns_max": LONG_NS},
            gateway={"stall_ns": LONG_NS},
            link_bytes_per_s=LINK_GBYTES_PER_S * 1e9,
        ),
    )


def _trace_text(trace: Trace) -> str:
    lines = ["arrival_timestamp,prompt_size,token_size"]
    lines += [f"{at_s:.9f},{prompt},{output}" for at_s, prompt, output in trace]
    return "\n".join(lines) + "\n"
