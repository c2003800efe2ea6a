"""Plans for Azure's traces: Llama-3.1-70B over A100, H100, H200 and L40S.

Prints each plan, how many fleets there were, how many the bounds ruled out, how many
were simulated, and how long it took, in seconds of the clock and of all processes' CPU;
then loads the config that was written, and renders the values. The traces are not part of
Splitweave: --data names the folder with AzureLLMInferenceTrace_{code,conv}.csv, or one
above it (docs/workloads.md).

    python benchmarks/plan.py [--data FOLDER] [--only NAME] [--budget '60$/h'] [--out FOLDER]
"""

import argparse
import json
import resource
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import helm_python
import yaml
from rich.console import Console
from splitweave.cluster.live.config import load_config
from splitweave.sim.planner.cli import Given, ask_of, write
from splitweave.sim.planner.drafts import Plan
from splitweave.sim.planner.findings import as_json
from splitweave.sim.planner.plan import make_plan, unwatched
from splitweave.sim.planner.report import report

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "azure"
CHART = Path(__file__).resolve().parents[1] / "helm" / "splitweave"
COMMON = Given(
    trace="",
    model="Llama-3.1-70B",
    slo="ttft=2,tpot=0.1@p90",
    machines="A100,H100,H200,L40S",
    requests=1500,
)
PLANS = {
    "conversation": replace(COMMON, trace="AzureLLMInferenceTrace_conv.csv", rate=20.0),
    "code": replace(COMMON, trace="AzureLLMInferenceTrace_code.csv", rate=10.0),
}
console = Console(width=160)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--only", choices=sorted(PLANS))
    parser.add_argument("--budget", help="also the best fleet for that, e.g. '60$/h'")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--out", type=Path, help="keep what is written there, in a folder each")
    parser.add_argument("--json", type=Path, dest="json_path")
    given = parser.parse_args()
    told = {}
    for name in [given.only] if given.only else sorted(PLANS):
        path = _found(given.data, PLANS[name].trace)
        if path is None:
            console.print(f"{name}: no {PLANS[name].trace} in {given.data} (--data)")
            continue
        asked = replace(PLANS[name], trace=str(path), budget=given.budget, jobs=given.jobs)
        with tempfile.TemporaryDirectory() as folder:
            told[name] = planned(name, asked, (given.out or Path(folder)) / name)
    if given.json_path is not None:
        given.json_path.write_text(json.dumps(told, indent=2) + "\n")


def planned(name: str, given: Given, folder: Path) -> dict[str, Any]:
    """Plan, print, write, and try what was written."""
    began, cpu_began = time.perf_counter(), _cpu_s()
    plan = make_plan(Plan(ask=ask_of(given)), unwatched)
    wall_s, cpu_s = time.perf_counter() - began, _cpu_s() - cpu_began
    console.rule(name)
    console.print(report(plan))
    write(plan, folder, given.model)
    config = load_config(folder / "cluster.toml")
    console.print(f"cluster.toml loads: {config.workers} workers in {len(config.pools)} pool(s)")
    console.print(f"values.yaml renders: {', '.join(_rendered(folder / 'values.yaml'))}")
    runs = len(plan.tried) + plan.pools_tried
    console.print(
        f"{wall_s:.0f} s, {cpu_s:.0f} CPU seconds for {plan.found.candidates} fleets of "
        f"{len(plan.shapes)} pairs and pools, {runs} runs, {cpu_s / max(1, runs):.2f} CPU seconds "
        f"a run, in {given.jobs} processes"
    )
    return {"wall_s": wall_s, "cpu_s": cpu_s, **as_json(plan)}


def _rendered(path: Path) -> list[str]:
    """The kinds and names of what the chart makes of those values."""
    values = {"image": {"repository": "registry.example/splitweave"}}
    with helm_python.Chart.load(CHART) as chart:
        files = chart.render(values | yaml.safe_load(path.read_text()), name="p", namespace="m")
    documents = [
        document
        for name, text in files.items()
        if name.endswith(".yaml")
        for document in yaml.safe_load_all(text)
        if document
    ]
    return sorted(document["kind"] for document in documents)


def _found(folder: Path, name: str) -> Path | None:
    return next((path for path in sorted(folder.rglob(name)) if path.is_file()), None)


def _cpu_s() -> float:
    """Of this process and of those that it waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


if __name__ == "__main__":
    main()
