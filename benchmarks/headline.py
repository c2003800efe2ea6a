"""Splitwise's headline experiments: which cluster bears most load for its power, or its cost?

Each cluster of the paper (iso-power, iso-cost) is loaded until one of the nine percentiles of
its SLO breaks, three ways:

    theirs   splitwise-sim's rules and lookups: what it answers (fidelity.py shows how exactly)
    right    the same rules, decode times looked up by batch and context
    ours     our cores and router with the right times (slow: --ours)

    python benchmarks/headline.py [--only power cost] [--trace conv code] [--seconds 120]
                                  [--step 2.5] [--ours] [--json PATH]
"""

import argparse
import json
import sys
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from splitweave.benchmarks.truths.folders import data_folder
from splitweave.benchmarks.truths.splitwise import (
    RightLookups,
    Series,
    TheirLookups,
    Trace,
    baseline,
    right_table,
    splitwise,
)
from splitweave.benchmarks.truths.splitwise_cluster import Kind
from splitweave.benchmarks.truths.splitwise_designs import (
    ISO_COST,
    ISO_POWER,
    Capacity,
    Design,
    Lengths,
    Search,
    Slo,
)
from splitweave.benchmarks.truths.splitwise_machine import Cost
from splitweave.benchmarks.truths.splitwise_world import Pool
from splitweave.benchmarks.truths.splitwise_world import replay as replay_world
from splitweave.proto.views import Role

SETS = {"power": ISO_POWER, "cost": ISO_COST}
# What the paper says of throughput on the conversation trace: (design, x, of which).
CLAIMS = {
    "power": [("Splitwise-AA", 2.15, "Baseline-A100"), ("Splitwise-HA", 1.18, "Baseline-H100")],
    "cost": [("Splitwise-AA", 1.4, "Baseline-H100")],
}


class Ways:
    """How a design is run."""

    def __init__(self, data: Path) -> None:
        self._folder = data / "splitwise"
        self.names = {"theirs": self.theirs, "right": self.right, "ours": self.ours}

    def theirs(self, design: Design, trace: Trace) -> Series:
        return self._rules(design, trace, "theirs")

    def right(self, design: Design, trace: Trace) -> Series:
        return self._rules(design, trace, "right")

    def ours(self, design: Design, trace: Trace) -> Series:
        """The same machines, our cores."""
        if not design.tokens:
            rows = right_table(self._folder, design.prompt)
            pools = [Pool(role=Role.MIXED, count=design.prompts, rows=rows)]
        else:
            sides = (
                (Role.PREFILL, design.prompts, design.prompt),
                (Role.DECODE, design.tokens, design.token),
            )
            pools = [
                Pool(role=role, count=count, rows=right_table(self._folder, kind))
                for role, count, kind in sides
            ]
        return replay_world(trace, pools, theirs=False)

    def _rules(self, design: Design, trace: Trace, lookups: str) -> Series:
        prompt = Kind(cost=_cost(lookups, self._folder, design.prompt), count=design.prompts)
        if not design.tokens:
            return baseline(trace, prompt)
        token = Kind(cost=_cost(lookups, self._folder, design.token), count=design.tokens)
        return splitwise(trace, prompt, token)


@cache
def _cost(lookups: str, folder: Path, hardware: str) -> Cost:
    if lookups == "theirs":
        return TheirLookups(folder, hardware)
    return RightLookups(folder, hardware)


def _table(title: str, rows: list[dict[str, Any]], ways: list[str]) -> Table:
    drawn = Table(title=title)
    for name in ("design", "machines", "kW", "$/h"):
        drawn.add_column(name, justify="left" if name == "design" else "right")
    for way in ways:
        drawn.add_column(f"{way}, req/s", justify="right")
        drawn.add_column("breaks first")
    for row in rows:
        found = [row[way] for way in ways]
        cells = [(f"{one.rate_per_s:.1f}", one.broken) for one in found]
        drawn.add_row(
            row["name"], row["shape"], f"{row['kilowatts']:.0f}", f"{row['usd_per_h']:.0f}",
            *(cell for pair in cells for cell in pair),
        )  # fmt: skip
    return drawn


def _claims(iso: str, rows: list[dict[str, Any]], ways: list[str]) -> list[str]:
    """The paper's ratios beside ours."""
    said = []
    for design, claimed, against in CLAIMS[iso]:
        rates = {row["name"]: row for row in rows}
        found = ", ".join(
            f"{way} {rates[design][way].rate_per_s / max(1e-9, rates[against][way].rate_per_s):.2f}"
            for way in ways
            if rates[against][way].rate_per_s
        )
        said.append(f"  {design} / {against}: the paper {claimed:g}; {found or 'no rate holds'}")
    return said


def run(data: Path, options: argparse.Namespace, console: Console) -> dict[str, Any]:
    """All tables that are asked for."""
    ways = Ways(data)
    names = ["theirs", "right", *(["ours"] if options.ours else [])]
    found: dict[str, Any] = {}
    for iso in options.only:
        for trace in options.trace:
            rows = _rows(data, options, (iso, trace), {name: ways.names[name] for name in names})
            title = f"iso-{iso}, lengths of Azure {trace}, {options.seconds:g} s"
            console.print(_table(title, rows, names))
            if trace == "conv":
                for line in _claims(iso, rows, names):
                    console.print(line, highlight=False)
            found[title] = [
                {k: asdict(v) if isinstance(v, Capacity) else v for k, v in row.items()}
                for row in rows
            ]
    return found


def _rows(
    data: Path, options: argparse.Namespace, which: tuple[str, str], ways: dict[str, Any]
) -> list[dict[str, Any]]:
    iso, trace = which
    designs = SETS[iso][trace]
    search = Search(
        lengths=Lengths(data / "azure" / f"AzureLLMInferenceTrace_{trace}.csv"),
        slo=Slo(data / "splitwise"),
        seconds=options.seconds,
        step=options.step,
    )
    rows = []
    with Progress(transient=True) as bar:
        task = bar.add_task(f"iso-{iso}, {trace}", total=len(designs) * len(ways) * search.runs)
        for design in designs:
            row: dict[str, Any] = {
                "name": design.name, "shape": design.shape, "machines": design.machines,
                "kilowatts": design.kilowatts, "usd_per_h": design.usd_per_h,
            }  # fmt: skip
            for name, way in ways.items():
                # Our cores take long at a load that they cannot bear: look near the rules' answer.
                most = 1.5 * row["right"].rate_per_s + 5 if name == "ours" else None
                row[name] = search.capacity(design, way, lambda: bar.advance(task), most)
            rows.append(row)
    return rows


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="default: shared/data beside the repository")
    parser.add_argument("--only", nargs="+", choices=sorted(SETS), default=["power", "cost"])
    parser.add_argument("--trace", nargs="+", choices=["conv", "code"], default=["conv", "code"])
    parser.add_argument("--seconds", type=float, default=120.0, help="of arrivals; theirs: 600")
    parser.add_argument("--step", type=float, default=2.5, help="how exactly, requests/s")
    parser.add_argument("--ours", action="store_true", help="our cores too: minutes a cluster")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args(arguments)
    console = Console(width=None if sys.stdout.isatty() else 130)
    data = data_folder(options.data)
    if data is None:
        console.print("no data folder: nothing to compare with (--data FOLDER)")
        return 0
    found = run(data, options, console)
    if options.json is not None:
        options.json.write_text(json.dumps(found, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
