"""A recorded vLLM run, and the same requests through the simulator.

One mixed worker with the run's own limits, block count and layer profile. The
recorded arrival times are of another clock than the engine's: the offset is the
least difference between arrival and queueing, that of the request that waited least.
TTFT: arrival to first token. TPOT: (last - first) / (tokens - 1). E2E: arrival to last.
"""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from splitweave.proto.views import Role
from splitweave.sim.costs.specs import LayersSpec, ModelSpec
from splitweave.sim.run import Outcome, simulate
from splitweave.sim.scenario import LimitsSpec, NetworkSpec, PoolSpec, Scenario
from splitweave.sim.workloads.specs import TraceSpec

# No block count was recorded for this run: its KV is never full, so any number beyond
# 128 sequences of the longest request says the same.
BLOCKS_UNSAID = 33_000
LONG_NS = 10**13  # waits for minutes are the point here, not a failure


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """One request: seconds since the first arrival."""

    prompt_tokens: int
    output_tokens: int
    arrived_s: float
    first_s: float
    last_s: float


@dataclass(frozen=True, kw_only=True)
class VllmRun:
    """A whole run."""

    name: str
    requests: list[Recorded]
    blocks: int
    blocks_origin: str
    sequences_max: int
    batched_tokens_max: int
    profile: Path
    skew: bool  # whether the profile's own notes say that skew was measured
    version: str

    def recorded(self) -> dict[str, list[float]]:
        """TTFT, TPOT and E2E of every request, seconds."""
        return {
            "TTFT": [r.first_s - r.arrived_s for r in self.requests],
            "TPOT": [(r.last_s - r.first_s) / (r.output_tokens - 1) for r in self.requests],
            "E2E": [r.last_s - r.arrived_s for r in self.requests],
        }


def read_run(folder: Path) -> VllmRun:
    """The run in a folder of `vllm_runs`."""
    meta = json.loads((folder / "meta.json").read_text())
    lines = (folder / "requests.jsonl").read_text().splitlines()
    rows = sorted((json.loads(line) for line in lines), key=lambda row: row["arrival_time"])
    offset = min(row["queued_ts"] - row["arrival_time"] for row in rows)
    start = rows[0]["arrival_time"]
    blocks = meta.get("kv_cache", {}).get("num_gpu_blocks")
    engine = meta["engine_kwargs"]
    return VllmRun(
        name=folder.name,
        requests=[
            Recorded(
                prompt_tokens=row["input_toks"],
                output_tokens=row["output_toks"],
                arrived_s=row["arrival_time"] - start,
                first_s=row["first_token_ts"] - offset - start,
                last_s=row["last_token_ts"] - offset - start,
            )
            for row in rows
        ],
        blocks=blocks or BLOCKS_UNSAID,
        blocks_origin="recorded" if blocks else "not recorded, never full",
        sequences_max=engine["max_num_seqs"],
        batched_tokens_max=engine["max_num_batched_tokens"],
        profile=folder / "profile" / "bf16" / "tp1",
        skew="skew_fit:\n  enabled: true" in (folder / "profile/bf16/meta.yaml").read_text(),
        version=meta["vllm_version"],
    )


def replay(run: VllmRun, overhead_us: float) -> tuple[Outcome, dict[str, list[float]]]:
    """The outcome, and TTFT, TPOT and E2E of every request in the order of `run.requests`."""
    with TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.csv"
        trace.write_text(_azure_csv(run))
        outcome = simulate(_scenario(run, trace, overhead_us))
    rows = [row for _, row in outcome.world.clients.records.by_arrival()]
    return outcome, {
        "TTFT": [row.ttft_s for row in rows],
        "TPOT": [row.tpot_s for row in rows],
        "E2E": [row.e2e_s for row in rows],
    }


def _scenario(run: VllmRun, trace: Path, overhead_us: float) -> Scenario:
    worker: dict[str, int | float] = {
        "batched_tokens_max": run.batched_tokens_max,
        "prefill_chunk_tokens": run.batched_tokens_max,
        "sequences_max": run.sequences_max,
        "queue_len_max": len(run.requests),
        "watermark_blocks": 0,
    }
    cluster: dict[str, int | float] = {
        "queue_len_max": 2 * len(run.requests),
        "queue_ns_max": LONG_NS,
    }
    return Scenario(
        model=ModelSpec(),  # Llama-3.1-8B
        hardware={
            "card": LayersSpec(
                kind="layers", path=str(run.profile), overhead_us=overhead_us, skew=run.skew
            )
        },
        pools=[PoolSpec(name="card", role=Role.MIXED, hardware="card", blocks=run.blocks)],
        network=NetworkSpec(latency_us=0.0),
        workload=TraceSpec(kind="trace", format="azure", path=str(trace)),
        limits=LimitsSpec(worker=worker, cluster=cluster, gateway={"stall_ns": LONG_NS}),
    )


def _azure_csv(run: VllmRun) -> str:
    rows = ["TIMESTAMP,ContextTokens,GeneratedTokens"]
    for request in run.requests:
        stamp = datetime.fromtimestamp(request.arrived_s, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
        rows.append(f"{stamp},{request.prompt_tokens},{request.output_tokens}")
    return "\n".join(rows) + "\n"
