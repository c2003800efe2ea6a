"""The simulator against real measurements: is what it predicts what happened?

    vllm       two recorded vLLM runs, replayed on one mixed worker; --pictures FOLDER draws
               every request, recorded against simulated
    silicon    measured points of dense models on H100 and H200, by the device roofline; --fit
               finds the factors again, on half of the groups (minutes), and judges on the other;
               --operators predicts them by measured operators as well
    splitwise  what splitwise-sim answers on two clusters: its rules over our queue, our cores
               with its lookups, and both with right lookups (--requests: the first so many)

Needs the data folder (see `--data`); says so and exits 0 without it.

    python benchmarks/fidelity.py [--data FOLDER] [--only NAME …] [--fit] [--json PATH]
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from splitweave.benchmarks.truths.comparison import compare, table
from splitweave.benchmarks.truths.folders import data_folder
from splitweave.benchmarks.truths.scatter import draw
from splitweave.benchmarks.truths.silicon_check import check_silicon
from splitweave.benchmarks.truths.splitwise_check import check_splitwise
from splitweave.benchmarks.truths.vllm_run import read_run, replay

WITHIN = {"TTFT": 0.05, "TPOT": 0.05, "E2E": 0.05, "E2E mean": 0.025}
Check = Callable[[Path, argparse.Namespace, Console], dict[str, Any]]


def vllm(data: Path, options: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Both runs; one host time for both."""
    found: dict[str, Any] = {"overhead_us": options.overhead_us}
    for folder in sorted((data / "vllm_runs").glob("*/")):
        run = read_run(folder)
        began = time.process_time()
        outcome, simulated = replay(run, options.overhead_us)
        seconds = time.process_time() - began
        lines = compare(run.recorded(), simulated, WITHIN)
        title = f"{run.name}, vLLM {run.version}: {run.blocks} KV blocks ({run.blocks_origin})"
        console.print(table(title, lines))
        for said in outcome.world.described():
            console.print(f"  {said}", markup=False, highlight=False)
        console.print(f"  {len(run.requests)} requests in {seconds:.1f} CPU seconds\n")
        if options.pictures is not None:
            path = options.pictures / f"vllm-{run.name}.svg"
            draw(path, f"{run.name}, vLLM {run.version}", run.recorded(), simulated)
            console.print(f"  drawn: {path}\n")
        found[run.name] = [asdict(line) | {"error": line.error} for line in lines]
    return found


def silicon(data: Path, options: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Per engine, the half that was fitted and the half that was held back."""
    path = data / "silicon" / "sample.csv"
    return check_silicon(path, console, anew=options.fit, operators_too=options.operators)


def splitwise(data: Path, options: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Its lookups against its own answers; right lookups against its lookups."""
    return check_splitwise(data / "splitwise", options.requests, console)


CHECKS: dict[str, Check] = {"silicon": silicon, "splitwise": splitwise, "vllm": vllm}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="default: shared/data beside the repository")
    parser.add_argument("--only", nargs="+", choices=sorted(CHECKS), default=sorted(CHECKS))
    parser.add_argument("--requests", type=int, default=0, help="of the splitwise trace; 0: all")
    parser.add_argument("--fit", action="store_true", help="fit the silicon factors again")
    parser.add_argument(
        "--operators", action="store_true",
        help="the silicon points by measured operators too (needs the extra aic)",
    )  # fmt: skip
    parser.add_argument("--pictures", type=Path, help="draw the vLLM runs into this folder")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument(
        "--overhead-us", type=float, default=0.0,
        help="host time per iteration of the vLLM runs; they hid it (async_scheduling)",
    )  # fmt: skip
    options = parser.parse_args(arguments)
    console = Console(width=None if sys.stdout.isatty() else 120)
    data = data_folder(options.data)
    if data is None:
        console.print("no data folder: nothing to compare with (--data FOLDER)")
        return 0
    found = {name: CHECKS[name](data, options, console) for name in options.only}
    if options.json is not None:
        options.json.write_text(json.dumps(found, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
