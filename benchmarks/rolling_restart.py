"""Every worker is drained and restarted, one after the other, under load: who notices?

    python benchmarks/rolling_restart.py [--together 6] [--seed 1]

2P3D on CPU with the demo model. Requests (greedy and seeded, 32 to 512 prompt
tokens) run without a pause, `--together` at once, until the last worker is back.
No stream may fail, each must have the tokens it has on the undisturbed cluster,
and the recordings of all workers must show no position of any request computed
twice. Exit code 0 if all of it held.
"""

import argparse
import asyncio
import dataclasses
import itertools
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from splitweave.benchmarks.survival.asks import Ask, Mix, draw_asks
from splitweave.benchmarks.survival.chaos_run import PATIENT, TIMEOUT_S, run_all
from splitweave.benchmarks.survival.computed import computed_again
from splitweave.benchmarks.survival.setting import setting
from splitweave.benchmarks.survival.streams import References, Stream, run_stream
from splitweave.client import AsyncClient, DrainProgress
from splitweave.cluster.live.cluster import LiveCluster

MIX = Mix(prompt_tokens=(32, 512), output_tokens=(32, 96))
ASKS = 32
BLOCKS = 320


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--together", type=int, default=6, help="requests open at once")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    console = Console()
    asks = draw_asks(ASKS, MIX, arguments.seed)
    with tempfile.TemporaryDirectory() as folder:
        config = dataclasses.replace(setting(BLOCKS, 64), record=folder)
        with console.status("starting 2P3D"):
            cluster = LiveCluster.start(config)
        try:
            with console.status("undisturbed"):
                alone = asyncio.run(run_all(cluster.address, asks, arguments.together, _ignore))
            known = References({s.ask.index: tuple(s.tokens) for s in alone})
            with _bar(console) as bar:
                streams, last, seconds = asyncio.run(
                    renew(cluster, asks, arguments.together, known, _tell(bar))
                )
        finally:
            cluster.stop()
        again = computed_again(Path(folder), config)
    return _report(console, streams, last, again, seconds)


async def renew(
    cluster: LiveCluster, asks: list[Ask], together: int, known: References, tell: object
) -> tuple[list[Stream], DrainProgress, float]:
    """Drains and restarts everybody while requests run; the streams, and the last report."""
    streams: list[Stream] = []
    over = asyncio.Event()
    waiting = itertools.cycle(asks)

    async def work(client: AsyncClient) -> None:
        while not over.is_set():
            stream = await run_stream(client, next(waiting), TIMEOUT_S)
            if not known.judge(stream):
                stream.outcome = "wrong"
            streams.append(stream)

    async with AsyncClient(cluster.address, retry=PATIENT) as client:
        began_s = time.monotonic()
        load = [asyncio.create_task(work(client)) for _ in range(together)]
        try:
            async for last in client.drain_workers(all=True, restart=True, deadline_s=120.0):
                tell(last, len(streams))  # type: ignore[operator]
        finally:
            over.set()
            await asyncio.gather(*load)
    return streams, last, time.monotonic() - began_s


def _bar(console: Console) -> Progress:
    columns = (BarColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    return Progress(*columns, console=console, refresh_per_second=2)


def _tell(bar: Progress) -> object:
    task = bar.add_task("", total=1)

    def tell(progress: DrainProgress, streams: int) -> None:
        workers = progress.workers
        done = sum(worker.state == "restarted" for worker in workers)
        now = next((w for w in workers if w.state in ("draining", "restarting")), workers[-1])
        said = f"{now.worker_id} {now.state}, {now.left} left; {streams} streams"
        bar.update(task, total=len(workers), completed=done, description=said)

    return tell


def _ignore(_done: int) -> None:
    """No bar for the reference run."""


def _report(
    console: Console,
    streams: list[Stream],
    last: DrainProgress,
    again: dict[str, int],
    seconds: float,
) -> int:
    for worker in last.workers:
        console.print(
            f"{worker.worker_id}: {worker.state}; {worker.requests} requests were there, "
            f"{worker.moved} moved ({worker.transfer_bytes:,} bytes), "
            f"{worker.recomputed} computed again"
        )
    counts = Counter(stream.outcome for stream in streams)
    said = ", ".join(f"{count} {what}" for what, count in sorted(counts.items()))
    migrations = sum(s.result.accounting.migrations for s in streams if s.result)
    pause = max((b - a for s in streams for a, b in s.gaps[1:]), default=0.0)
    console.print(
        f"{len(streams)} streams in {seconds:.0f} s: {said}; {migrations} migrations; "
        f"longest pause between tokens {pause:.2f} s; {sum(again.values())} tokens computed twice"
    )
    for stream in streams:
        if stream.outcome != "done":
            console.print(f"[red]{stream.outcome}: {stream.error or stream.request_id}[/red]")
    return 0 if set(counts) == {"done"} and not again else 1


if __name__ == "__main__":
    sys.exit(main())
