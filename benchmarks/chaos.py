"""Everything that can die, dies, every few seconds; no stream may notice but by a pause.

    python benchmarks/chaos.py [--requests 200] [--every 5] [--seed 1] [--json chaos.json]

2P3D on CPU with the demo model. The requests (greedy and seeded, 32 to 1 024 prompt
tokens) run once undisturbed. Then they run again while every `--every` seconds
one thing is done, drawn by `--seed`: kill -9 a worker, stop one for 10 s, kill the
controller, kill a gateway, cut a pair that KV moves over. Every stream must end with
the tokens it had undisturbed; at the end no request, lease, held block, process
or descriptor may be left over. The table says per kind of fault how long it took
to be noticed, to be whole again, how many requests were there, and the longest
pause that one of them saw. Exit code 0 if all of it held.
"""

import argparse
import asyncio
import json
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from splitweave.benchmarks.survival.asks import draw_asks
from splitweave.benchmarks.survival.chaos_run import (
    MIX,
    Chaos,
    Outcome,
    disturbed,
    longest_gap_s,
    undisturbed,
)
from splitweave.benchmarks.survival.faults import Kind
from splitweave.benchmarks.survival.journal import Journal
from splitweave.benchmarks.survival.setting import setting
from splitweave.cluster.live.cluster import LiveCluster

BLOCKS = 320
QUEUE_LEN_MAX = 256


def main() -> int:
    arguments = _arguments()
    console = Console()
    chaos = Chaos(
        asks=draw_asks(arguments.requests, MIX, arguments.seed),
        together=arguments.together,
        kinds=tuple(Kind),
        every_s=arguments.every,
        seed=arguments.seed,
    )
    with console.status("starting 2P3D"):
        cluster = LiveCluster.start(setting(BLOCKS, QUEUE_LEN_MAX))
    journal = Journal(arguments.journal)
    try:
        with _bar(console) as bar:
            task = bar.add_task("", total=len(chaos.asks))

            def tell(what: str, done: int, total: int) -> None:
                bar.update(task, description=what, completed=done, total=total)

            known = undisturbed(cluster, chaos, tell)
            outcome = asyncio.run(disturbed(cluster, chaos, known, journal, tell))
    finally:
        journal.close()
        cluster.stop()
    report(console, outcome)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures(outcome), indent=1), encoding="utf-8")
    return 0 if outcome.passed else 1


def _bar(console: Console) -> Progress:
    columns = (
        TextColumn("{task.description:<14}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    return Progress(*columns, console=console, refresh_per_second=2)


def report(console: Console, outcome: Outcome) -> None:
    """The table of faults, and what was wrong."""
    table = Table(box=SIMPLE, padding=0, collapse_padding=True, title="seconds: median (most)")
    for name in ("fault", " times", "     noticed", " whole again", " requests", "longest pause"):
        table.add_column(name, justify="left" if name == "fault" else "right", no_wrap=True)
    for row in figures(outcome)["faults"]:
        table.add_row(
            row["kind"],
            str(row["times"]),
            _both(row["noticed_s"]),
            _both(row["back_s"]),
            str(row["requests"]),
            _both(row["longest_gap_s"]),
        )
    console.print(table)
    counts = ", ".join(f"{count} {what}" for what, count in sorted(outcome.counts.items()))
    console.print(f"{len(outcome.streams)} streams in {outcome.seconds:.0f} s: {counts}")
    for stream in outcome.streams:
        if stream.outcome != "done":
            console.print(f"[red]{stream.outcome}: {stream.error or stream.request_id}[/red]")
    for left in outcome.leftovers:
        console.print(f"[red]left over: {left}[/red]")
    if outcome.passed:
        console.print("[green]every stream as undisturbed; nothing left over[/green]")


def figures(outcome: Outcome) -> dict[str, Any]:
    """The report as plain values."""
    by_kind: dict[str, list[Any]] = {}
    for recovery in outcome.recoveries:
        by_kind.setdefault(recovery.fault.kind, []).append(recovery)
    return {
        "passed": outcome.passed,
        "seconds": round(outcome.seconds, 1),
        "streams": dict(outcome.counts),
        "leftovers": outcome.leftovers,
        "faults": [
            {
                "kind": kind,
                "times": len(recoveries),
                "noticed_s": _middle([r.noticed_s for r in recoveries]),
                "back_s": _middle([r.back_s for r in recoveries]),
                "requests": sum(len(r.touched) for r in recoveries),
                "longest_gap_s": _middle(
                    [longest_gap_s(r, outcome.streams) for r in recoveries if r.touched]
                ),
            }
            for kind, recoveries in sorted(by_kind.items())
        ],
    }


def _middle(values: Sequence[float | None]) -> list[float] | None:
    """[median, most] of what is known."""
    known = [value for value in values if value is not None]
    return [round(statistics.median(known), 2), round(max(known), 2)] if known else None


def _both(pair: list[float] | None) -> str:
    return "-" if pair is None else f"{pair[0]:.1f} ({pair[1]:.1f})"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--together", type=int, default=8, help="requests open at once")
    parser.add_argument("--every", type=float, default=5.0, help="seconds between faults")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--journal", type=Path, default=Path("build/chaos.jsonl"))
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
