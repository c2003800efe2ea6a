"""A live CPU cluster and the simulator, side by side, on the same trace.

    python benchmarks/live_fidelity.py --data FOLDER [--minutes 10] [--rate 1.0] [--json PATH]

First `splitweave profile` measures a worker (or give --profile FILE). Then Azure's conversation
trace, with lengths divided by --shrink and at --rate requests/s, is asked of a live cluster with
the demo model, one thread per worker, and simulated with that profile. TTFT and TPOT are the
client's: TPOT is (last - first) / (tokens - 1). Workers share this machine's compute: the profile
is taken with `--beside` as many as there are others, and the scenario puts all on one node. Beside
the profile the simulation is told one thing that was measured apart: what a message costs
(benchmarks/overhead.py: about 1.4 ms a hop). A second table explains a miss: iterations live and
simulated, and those of the live workers against the profile's word on the very same batches.
Before and after the live run the bare engine is timed again: where that is not what the profile
says (less about 3 %, the live worker's share), the machine has changed, and the run says nothing.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, replace
from itertools import takewhile
from pathlib import Path
from random import Random
from typing import Any

from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from splitweave.benchmarks.truths.comparison import Line, statistics
from splitweave.benchmarks.truths.iterations import Life, explained, live_iterations, pace
from splitweave.client import AsyncClient
from splitweave.cluster.live.cluster import LiveCluster
from splitweave.cluster.live.config import ClusterConfig, PoolConfig
from splitweave.cluster.live.demo.run import demo_config
from splitweave.cluster.live.setups import worker_setup
from splitweave.proto.ids import WorkerId
from splitweave.proto.toml_file import build
from splitweave.proto.views import Role
from splitweave.sim.costs.table import MeasuredTable
from splitweave.sim.run import simulate
from splitweave.sim.scenario import Scenario
from splitweave.sim.workloads.source import Source
from splitweave.sim.workloads.specs import TraceSpec

TRACE = "azure/AzureLLMInferenceTrace_conv.csv"
CONTEXT = 2048
TOKEN_IDS = range(1000, 40000)  # of the demo model's vocabulary: words, nothing special
# Not where half of the requests are: goodput would measure noise.
SLO = {"ttft_s": 2.0, "tpot_s": 0.2}
BOUNDS = {"TTFT p50": 0.1, "TTFT p90": 0.1, "TPOT p50": 0.1, "TPOT p90": 0.1}
GOODPUT_BOUND = 0.05
SHAPES = {"1P1D": (Role.PREFILL, Role.DECODE), "1M": (Role.MIXED,)}


@dataclass(frozen=True)
class Ask:
    """One request of the trace."""

    at_s: float
    prompt_tokens: int
    output_tokens: int


@dataclass(frozen=True)
class Answer:
    """What its client saw, seconds."""

    ttft_s: float
    tpot_s: float | None

    @property
    def meets(self) -> bool:
        return self.ttft_s <= SLO["ttft_s"] and (self.tpot_s or 0.0) <= SLO["tpot_s"]


def config_of(shape: str) -> ClusterConfig:
    """Workers on CPU, a thread each: prefill and decode apart, or one that does both."""
    pools = [PoolConfig(name=role.value, role=role, cpus=0.4, threads=1) for role in SHAPES[shape]]
    return replace(demo_config(), pools=pools)


def asks_of(data: Path, rate_per_s: float, shrink: int, seconds: float) -> list[Ask]:
    """The trace's first minutes at that rate, its lengths divided by `shrink`."""
    spec = TraceSpec(kind="trace", format="azure", path=str(data / TRACE), rate_per_s=rate_per_s)
    arrivals = takewhile(lambda a: a.at_ns < seconds * 1e9, Source(spec, 1, 1 << 20))
    return [
        Ask(
            at_s=arrival.at_ns / 1e9,
            prompt_tokens=max(8, sum(s.tokens for s in arrival.segments) // shrink),
            output_tokens=max(2, arrival.output_tokens // shrink),
        )
        for arrival in arrivals
    ]


def profiled(console: Console, path: Path, beside: int) -> Path:
    """Measures a worker as `splitweave profile` does, and what so many others cost it."""
    command = [
        str(Path(sys.executable).with_name("splitweave")), "profile", "--out", str(path),
        "--threads", "1", "--context", str(CONTEXT), "--rounds", "3",
        "--live", "--beside", str(beside),
    ]  # fmt: skip
    console.print("profiling:", " ".join(command[1:]), soft_wrap=True)
    subprocess.run(command, check=True)
    return path


async def replay(address: str, asks: list[Ask], progress: Progress) -> list[Answer]:
    """Each request at its time, whatever became of those before."""
    task = progress.add_task("live", total=len(asks))
    dice = Random(1)
    prompts = [dice.choices(TOKEN_IDS, k=ask.prompt_tokens) for ask in asks]
    async with AsyncClient(address) as client:
        await client.generate(prompts[0][::-1], max_tokens=4, ignore_eos=True)  # warms up
        began = time.monotonic()

        async def one(ask: Ask, prompt: list[int]) -> Answer:
            await asyncio.sleep(began + ask.at_s - time.monotonic())
            asked = time.monotonic()
            times: list[float] = []
            options: Any = {"max_tokens": ask.output_tokens, "ignore_eos": True}
            async for delta in client.stream(prompt, **options):
                times += [time.monotonic()] * len(delta.tokens)
            progress.advance(task)
            tpot_s = (times[-1] - times[0]) / (len(times) - 1) if len(times) > 1 else None
            return Answer(times[0] - asked, tpot_s)

        return list(await asyncio.gather(*map(one, asks, prompts)))


def scenario_of(config: ClusterConfig, trace: Path, table: Path, hop_us: float) -> Scenario:
    """That cluster, its limits included, on that table."""
    limits = worker_setup(config, config.pools[0], WorkerId("worker-0")).limits
    pools = [
        {"name": pool.name, "role": pool.role.value, "hardware": "cpu", "blocks": pool.blocks,
         "node_group": "machine", "link_gbytes_per_s": 1.5, "link_latency_us": 500.0}
        for pool in config.pools
    ]  # fmt: skip
    tables = {
        "model": {"layers": 30, "hidden": 576, "heads": 9, "kv_heads": 3, "head_dim": 64,
                  "ffn": 1536, "vocab": 49152, "dtype_bytes": 4},
        "block_tokens": config.budgets.block_tokens,
        "hardware": {"cpu": {"kind": "table", "path": str(table)}},
        "pools": pools,
        "network": {"latency_us": hop_us},
        "workload": {"kind": "trace", "format": "splitweave", "path": str(trace)},
        "slo": SLO,
        "limits": {
            "worker": asdict(limits),
            "policy": {"chunk_tokens": config.budgets.batched_tokens_max},
        },
    }  # fmt: skip
    return build(Scenario, tables, "the live cluster")


def simulated(scenario: Scenario, hop_us: float) -> tuple[list[Answer], list[Life]]:
    """What the simulator says. Between client and gateway there is a hop each way."""
    world = simulate(scenario).world
    answers = [
        Answer(row.ttft_s + 2e-6 * hop_us, row.tpot_s if row.output_tokens > 1 else None)
        for _, row in world.clients.records.by_arrival()
    ]
    engines = [party.engine for party in world.mail.workers.values()]
    lives = [Life(str(e.key.worker_id), e.iterations, e.busy_ns / 1e9) for e in engines]
    return answers, lives


def compared(live: list[Answer], simulation: list[Answer], seconds: float) -> list[Line]:
    """Every figure of both; goodput is requests within the SLO per second."""
    lines = []
    for metric, name in (("TTFT", "ttft_s"), ("TPOT", "tpot_s")):
        both = [
            statistics([v for a in answers if (v := getattr(a, name)) is not None])
            for answers in (live, simulation)
        ]
        lines += [
            Line(
                metric=metric, statistic=key, recorded=both[0][key], simulated=both[1][key],
                bound=BOUNDS.get(f"{metric} {key}", float("inf")),
            )
            for key in both[0]
        ]  # fmt: skip
    goodput = [sum(a.meets for a in answers) / seconds for answers in (live, simulation)]
    lines.append(
        Line(
            metric="goodput",
            statistic="per s",
            recorded=goodput[0],
            simulated=goodput[1],
            bound=GOODPUT_BOUND,
        )
    )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="the folder that holds azure/")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument(
        "--rate", type=float, default=1.0, help="requests per second, of the whole trace"
    )
    parser.add_argument("--shape", choices=list(SHAPES), default="1P1D", help="of the cluster")
    parser.add_argument("--shrink", type=int, default=8, help="divides the trace's lengths")
    parser.add_argument("--hop-us", type=float, default=1400.0, help="what a message costs")
    parser.add_argument("--profile", type=Path, help="a table that was measured before")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    console, seconds = Console(), given.minutes * 60
    beside = len(SHAPES[given.shape]) - 1
    table = (given.profile or profiled(console, Path("live_profile.csv"), beside)).resolve()
    asks = asks_of(given.data, given.rate, given.shrink, seconds)
    trace = Path("live_trace.jsonl").resolve()
    trace.write_text("".join(json.dumps(asdict(ask)) + "\n" for ask in asks))
    config = config_of(given.shape)
    simulation, lives = simulated(scenario_of(config, trace, table, given.hop_us), given.hop_us)
    paces = [pace(MeasuredTable(table))]
    with console.status(f"starting {given.shape}"):
        cluster = LiveCluster.start(config, lambda *_: None)
    try:
        live_iterations(cluster)  # from now on they are kept
        with Progress(console=console) as progress:
            live = asyncio.run(replay(cluster.address, asks, progress))
        seen = live_iterations(cluster)
    finally:
        cluster.stop()
    lines = compared(live, simulation, seconds)
    console.print(_table(lines, f"{len(asks)} requests on {given.shape}, CPU"))
    paces.append(pace(MeasuredTable(table)))
    console.print(explained(lives, seen, MeasuredTable(table)))
    console.print(f"the bare engine / the profile: before {paces[0]:.3f}, after {paces[1]:.3f}")
    if given.json is not None:
        rows = [asdict(line) | {"error": line.error, "holds": line.holds} for line in lines]
        given.json.write_text(json.dumps(rows, indent=2) + "\n")


def _table(lines: list[Line], title: str) -> Table:
    table = Table("", "", "live", "simulated", "error", "bound", title=title)
    for line in lines:
        judged = f"{line.bound:.0%} {'holds' if line.holds else 'missed'}"
        table.add_row(
            line.metric, line.statistic, f"{line.recorded:.4f}", f"{line.simulated:.4f}",
            f"{line.error:+.1%}", "" if line.bound == float("inf") else judged,
        )  # fmt: skip
    return table


if __name__ == "__main__":
    main()
