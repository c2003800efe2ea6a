"""Plans for Azure's traces: Llama-3.1-70B over A100, H100, H200 and L40S.

Prints each plan, how many fleets there were, how many the bounds ruled out, how many
were simulated, and how long it took. The traces are not part of Splitweave: --data names
the folder with AzureLLMInferenceTrace_{code,conv}.csv (docs/workloads.md).

    python benchmarks/plan.py [--data FOLDER] [--only NAME] [--budget '60$/h'] [--json PATH]
"""

import argparse
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from splitweave.cluster.live.config import load_config
from splitweave.sim.planner.cli import Given, ask_of, write
from splitweave.sim.planner.drafts import Plan
from splitweave.sim.planner.findings import as_json
from splitweave.sim.planner.plan import make_plan, unwatched
from splitweave.sim.planner.report import report

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "azure"
COMMON = Given(
    trace="",
    model="Llama-3.1-70B",
    slo="ttft=2,tpot=0.1@p90",
    machines="A100,H100,H200,L40S",
    requests=1500,
)
PLANS = {
    "conversation": replace(COMMON, trace="AzureLLMInferenceTrace_conv.csv", rate=20.0),
    "code": replace(COMMON, trace="AzureLLMInferenceTrace_code.csv", rate=5.0),
}
console = Console(width=160)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--only", choices=sorted(PLANS))
    parser.add_argument("--budget", help="also the best fleet for that, e.g. '60$/h'")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--json", type=Path, dest="json_path")
    given = parser.parse_args()
    told = {}
    for name in [given.only] if given.only else sorted(PLANS):
        path = given.data / PLANS[name].trace
        if not path.is_file():
            console.print(f"{name}: no {path} (--data)")
            continue
        told[name] = planned(
            name, replace(PLANS[name], trace=str(path), budget=given.budget, jobs=given.jobs)
        )
    if given.json_path is not None:
        given.json_path.write_text(json.dumps(told, indent=2) + "\n")


def planned(name: str, given: Given) -> dict[str, Any]:
    """Plan, print, and load what was written."""
    began = time.perf_counter()
    plan = make_plan(Plan(ask=ask_of(given)), unwatched)
    wall_s = time.perf_counter() - began
    console.rule(name)
    console.print(report(plan))
    with tempfile.TemporaryDirectory() as folder:
        write(plan, Path(folder), given.model)
        config = load_config(Path(folder) / "cluster.toml")
    console.print(f"cluster.toml loads: {config.workers} workers in {len(config.pools)} pool(s)")
    runs = len(plan.tried)
    console.print(
        f"{wall_s:.0f} s for {plan.found.candidates} fleets of {len(plan.shapes)} pairs and pools, "
        f"{runs} runs, {wall_s / max(1, runs):.2f} s a run in {given.jobs} processes"
    )
    return {"wall_s": wall_s, **as_json(plan)}


if __name__ == "__main__":
    main()
