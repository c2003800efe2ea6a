"""An hour under load, with cancels, migrations and faults: does anything grow, fail or differ?

    python benchmarks/soak.py [--minutes 60] [--rate 2] [--fault-every 120] [--out soak.jsonl]
    python benchmarks/soak.py --report soak.jsonl        # read a journal again, also of a cut run

2P3D on CPU with the demo model. Requests of 32-256 prompt and 8-24 output tokens
arrive at random, `--rate` a second; some are cancelled, some migrated. Every
`--fault-every` seconds a worker is killed or stopped for 10 s, or the controller
is killed; prefill-0 and decode-0 are spared, so that two workers are seen over
the whole run. Each stream must have the tokens that the same request had before.
Every process is sampled every 10 s. Everything is in the journal (JSON lines) at
once; the table says per role how memory and descriptors moved from the second to
the last quarter, warm-up left out. Exit code 0: no stream failed or differed, and
every process of ours stayed within ±3 % without more descriptors.
"""

import argparse
import asyncio
import dataclasses
import sys
from collections import Counter
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from splitweave.benchmarks.survival.journal import Journal, read_lines
from splitweave.benchmarks.survival.setting import setting
from splitweave.benchmarks.survival.soak_report import WARM_UP_S, draw, report
from splitweave.benchmarks.survival.soaking import Plan, Soak
from splitweave.cluster.live.cluster import LiveCluster

BLOCKS = 160
QUEUE_LEN_MAX = 32


def main() -> int:
    arguments = _arguments()
    console = Console()
    if arguments.report:
        journal = arguments.report
    else:
        journal = arguments.out
        _soak(arguments, console)
    lines = read_lines(journal)
    warm_up_s = min(WARM_UP_S, arguments.minutes * 60 / 4)
    passed = report(console, lines, warm_up_s)
    _draw(console, journal)
    return 0 if passed else 1


def _soak(arguments: argparse.Namespace, console: Console) -> None:
    plan = Plan(
        minutes=arguments.minutes,
        rate=arguments.rate,
        fault_every_s=arguments.fault_every,
        seed=arguments.seed,
    )
    with console.status("starting 2P3D"):
        cluster = LiveCluster.start(setting(BLOCKS, QUEUE_LEN_MAX))
    journal = Journal(arguments.out)
    journal.write("plan", **dataclasses.asdict(plan))
    try:
        with _bar(console) as bar:
            task = bar.add_task("soak", total=plan.minutes * 60, counts="")

            def tell(done_s: float, counts: Counter[str]) -> None:
                said = " ".join(f"{what} {count}" for what, count in sorted(counts.items()))
                bar.update(task, completed=done_s, counts=said)

            asyncio.run(Soak(cluster, plan, journal).run(tell))
    except KeyboardInterrupt:
        console.print("cut short: reporting what there is")
    finally:
        journal.close()
        cluster.stop()


def _bar(console: Console) -> Progress:
    columns = (BarColumn(), TimeRemainingColumn(), TextColumn("{task.fields[counts]}"))
    return Progress(*columns, console=console, refresh_per_second=1)


def _draw(console: Console, journal: Path) -> None:
    picture = journal.with_suffix(".png")
    try:
        draw(read_lines(journal), picture)
    except ImportError:
        console.print(f"no picture: pip install matplotlib, then --report {journal}")
        return
    console.print(f"journal {journal}, picture {picture}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--rate", type=float, default=2.0, help="requests per second")
    parser.add_argument("--fault-every", type=float, default=120.0, help="seconds; 0: no faults")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("build/soak.jsonl"))
    parser.add_argument("--report", type=Path, help="a journal to read instead of a run")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
