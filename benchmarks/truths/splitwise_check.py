"""splitwise-sim's answers beside ours, on both of its recorded clusters."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import inf
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress
from splitweave.proto.views import Role

from .comparison import compare, table
from .splitwise import (
    RightLookups,
    Row,
    Series,
    TheirLookups,
    Trace,
    baseline,
    read_trace,
    reported,
    right_table,
    splitwise,
    their_table,
)
from .splitwise_cluster import Kind
from .splitwise_designs import H100
from .splitwise_world import Pool, replay

BOUNDS = {"TTFT": 0.05, "TBT": 0.05, "E2E": 0.05}


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """A cluster of DGX-H100 that splitwise-sim was run on."""

    name: str
    folder: str
    prompts: int
    tokens: int

    def by_rules(self, trace: Trace, cost: "TheirLookups | RightLookups") -> Series:
        prompt = Kind(cost=cost, count=self.prompts)
        if not self.tokens:
            return baseline(trace, prompt)
        return splitwise(trace, prompt, Kind(cost=cost, count=self.tokens))

    def pools(self, rows: Sequence[Row]) -> list[Pool]:
        if not self.tokens:
            return [Pool(role=Role.MIXED, count=self.prompts, rows=rows)]
        return [
            Pool(role=Role.PREFILL, count=self.prompts, rows=rows),
            Pool(role=Role.DECODE, count=self.tokens, rows=rows),
        ]


RECORDED = [
    Recorded(
        name="Baseline-H100 40", folder="reported_baselineH100_40_conv70_2min",
        prompts=40, tokens=0,
    ),
    Recorded(
        name="Splitwise-HH 25P15T", folder="reported_splitwiseHH_25P15T_conv70_2min",
        prompts=25, tokens=15,
    ),
]  # fmt: skip


def check_splitwise(folder: Path, requests: int, console: Console) -> dict[str, Any]:
    """Five ways through each cluster, one changed at a time; four tables each."""
    trace = read_trace(folder, requests)
    found: dict[str, Any] = {}
    for cluster in RECORDED:
        said = reported(folder / cluster.folder, requests)
        rules = cluster.by_rules(trace, TheirLookups(folder, H100))
        right = cluster.by_rules(trace, RightLookups(folder, H100))
        ours = _world(trace, cluster.pools(their_table(folder, H100)), theirs=True)
        router = _world(trace, cluster.pools(right_table(folder, H100)), theirs=False)
        for title, before, after, bounds in (
            ("splitwise-sim -> its rules and lookups over our queue", said, rules, BOUNDS),
            ("splitwise-sim -> our cores, its lookups and choice of machines", said, ours, BOUNDS),
            ("its lookups -> right lookups, its rules", rules, right, {}),
            ("its rules -> our cores and router, right lookups", right, router, {}),
        ):
            lines = compare(before, _served(after, console), bounds)
            console.print(table(f"{cluster.name}: {title}", lines))
            found[f"{cluster.name}: {title}"] = [
                asdict(line) | {"error": line.error} for line in lines
            ]
    return found


def _world(trace: Trace, pools: Sequence[Pool], *, theirs: bool) -> Series:
    with Progress(transient=True) as bar:
        task = bar.add_task("our cores", total=len(trace))

        def progress(ended: int, _total: int | None) -> None:
            bar.update(task, completed=ended)

        return replay(trace, pools, theirs=theirs, progress=progress)


def _served(times: Series, console: Console) -> Series:
    """Without those that were turned away, which are counted."""
    away = sum(value == inf for value in times["E2E"])
    if away:
        total = len(times["E2E"])
        console.print(f"  {away} of {total} requests were turned away; times are of the others")
    return {name: [v for v in values if v != inf] for name, values in times.items()}
