"""How fast the simulator is: requests per CPU second, by trace and by size of the cluster.

Llama-3.1-70B on H100s, TP8 per worker, prefill and decode apart. The load grows with the
cluster. Every figure of a run in jumps is that of a run step by step, whose speed is measured on
the same machine in the same run. Peers, as published or seen on two cores: splitwise-sim
120 to 330 requests/s (8 to 80 machines), Dynamo's mocker 2 100 to 2 400 (8 GPUs).

    python benchmarks/simulator.py [--data FOLDER] [--requests N] [--workers 8,40,80] [--json PATH]
    python benchmarks/simulator.py --long 1000000    a long run of short chats, for its memory

Times are CPU seconds of one process, each run in a process of its own; the world is built before
the clock starts. Without --data (Azure's and Mooncake's traces) their synthetic likes are used.
"""

import argparse
import json
import multiprocessing
import resource
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track
from rich.table import Table
from splitweave.proto.toml_file import build
from splitweave.sim.scenario import Scenario

MODEL = {
    "layers": 80, "hidden": 8192, "heads": 64, "kv_heads": 8, "head_dim": 128, "ffn": 28672,
    "vocab": 128256,
}  # fmt: skip
LONG = "short chats"  # quick, so that a million of them are over soon
TRACES = {
    "azure-conversation": ("azure", "azure/AzureLLMInferenceTrace_conv.csv", 1.75),
    "mooncake-conversation": ("mooncake", "mooncake/mooncake_fast25_conversation_trace.jsonl", 0.3),
    LONG: ("poisson", "", 40.0),
}  # with the requests/s per worker
SHORT = {"prompt": {"kind": "uniform", "low": 16, "high": 200},
         "output": {"kind": "uniform", "low": 2, "high": 20}}  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One run to be timed."""

    trace: str
    workers: int
    requests: int
    fast_forward: bool = True


@dataclass(frozen=True)
class Speed:
    """What it took. `memory_mib` is the most that the process had."""

    case: Case
    requests_per_s: float
    us_per_request: float
    events_per_request: float
    virtual_s: float
    memory_mib: float


def scenario_of(case: Case, data: Path | None) -> Scenario:
    """5 prefill workers for 3 that decode, as in Splitwise's iso-power design for conversations."""
    form, name, rate = TRACES[case.trace]
    workload: dict[str, Any] = {"kind": "synthetic", "like": case.trace}
    if data is not None:
        workload = {"kind": "trace", "format": form, "path": str(data / name)}
    roles = {"prefill": max(1, round(case.workers * 5 / 8))}
    roles["decode"] = case.workers - roles["prefill"]
    if case.trace == LONG:
        workload, roles = {"kind": form} | SHORT, {"mixed": case.workers}
    pool = {"hardware": "h100", "link_gbytes_per_s": 200.0}
    tables = {
        "seed": 1, "model": MODEL, "fast_forward": case.fast_forward,
        "hardware": {"h100": {"kind": "device", "device": "H100", "tp": 8}},
        "pools": [
            pool | {"name": role, "role": role, "count": count} for role, count in roles.items()
        ],
        "workload": workload | {"rate_per_s": rate * case.workers, "requests": case.requests},
        "slo": {"ttft_s": 2.0, "tpot_s": 0.1},
        # Two messages per handoff: the 80 layers of a prompt's blocks are large ones.
        "limits": {"worker": {
            "layer_group": 40, "batched_tokens_max": 4096, "prefill_chunk_tokens": 4096,
        }},
    }  # fmt: skip
    return build(Scenario, tables, "the benchmark")


def timed(case: Case, data: Path | None) -> Speed:
    """The run, in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_run, (case, data))


def _run(case: Case, data: Path | None) -> Speed:
    from splitweave.sim.run import simulate

    scenario = scenario_of(case, data)
    first = replace(scenario, workload=replace(scenario.workload, requests=1))  # type: ignore[call-arg]
    spent_s = []
    for given in (first, scenario):  # the first one: what a world costs before any request
        began = time.process_time()
        outcome = simulate(given)
        spent_s.append(time.process_time() - began)
    cpu_s = spent_s[1] - spent_s[0]
    return Speed(
        case=case,
        requests_per_s=case.requests / cpu_s,
        us_per_request=cpu_s / case.requests * 1e6,
        events_per_request=outcome.events / case.requests,
        virtual_s=outcome.wall_ns / 1e9,
        memory_mib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    )


def cases(requests: int, sizes: list[int]) -> list[Case]:
    """Both traces on 40 workers, in jumps and step by step; then the sizes."""
    azure, mooncake, _ = TRACES
    listed = [
        Case(azure, 40, requests),
        Case(azure, 40, requests // 4, fast_forward=False),
        Case(azure, 40, 3 * requests),
        Case(mooncake, 40, requests // 2),
        Case(mooncake, 40, requests // 8, fast_forward=False),
    ]
    return listed + [Case(azure, size, requests) for size in sizes if size != 40]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="the folder that holds azure/ and mooncake/")
    parser.add_argument("--requests", type=int, default=4000)
    parser.add_argument("--workers", default="8,40,80,400,1000", help="sizes of the cluster")
    parser.add_argument("--long", type=int, metavar="N", help="only this: N requests on 4 workers")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    if given.long:
        given.data, listed = None, [Case(LONG, 4, given.long)]
    else:
        listed = cases(given.requests, [int(size) for size in given.workers.split(",")])
    speeds = [timed(case, given.data) for case in track(listed, "runs")]
    Console(width=120).print(_table(speeds))
    if given.json is not None:
        given.json.write_text(json.dumps([asdict(speed) for speed in speeds], indent=2) + "\n")


def _table(speeds: list[Speed]) -> Table:
    table = Table(
        "trace", "workers", "requests", "how", "requests/s", "µs each", "events each", "MiB",
        "× of 40 workers", title="The simulator, CPU time",
    )  # fmt: skip
    first = {}
    for speed in speeds:
        case = speed.case
        base = first.setdefault(case.trace, speed.us_per_request)
        table.add_row(
            case.trace, str(case.workers), str(case.requests),
            "in jumps" if case.fast_forward else "step by step", f"{speed.requests_per_s:,.0f}",
            f"{speed.us_per_request:,.0f}", f"{speed.events_per_request:.0f}",
            f"{speed.memory_mib:.0f}", f"{speed.us_per_request / base:.2f}",
        )  # fmt: skip
    return table


if __name__ == "__main__":
    main()
