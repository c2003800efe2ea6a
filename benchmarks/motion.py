"""KV in motion on a real cluster: handoffs that hide, migrations without a pause, recovery.

    python benchmarks/motion.py [--only handoff|migration|recovery] [--rounds 5]
                                [--json motion.json] [--svg motion.svg]

One 1P2D cluster and, beside it, a lone mixed worker, both SmolLM2 on CPU with a
thread per worker. What is compared takes turns; limits are ratios within the run.
Every core records its events, so nothing is instrumented: the workers' recordings
are replayed (`timeline.py`) for the orders that their engines got, and `--svg`
draws one request from them: prefill by chunks, copies, decode, a migration.
"""

import argparse
import asyncio
import itertools
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from splitweave.client import AsyncClient, AsyncStream, Generation
from splitweave.cluster.live.cluster import LiveCluster
from splitweave.cluster.live.config import ClusterConfig, PoolConfig
from splitweave.cluster.live.demo.run import demo_config, lone_config
from splitweave.proto.gateway_events import RequestDisplaced, TokensEmitted
from splitweave.proto.record import read_steps
from splitweave.proto.views import Role
from splitweave.proto.worker_events import RequestAssigned

SECTIONS = ("handoff", "migration", "recovery")
BLOCKS = 640
VOCAB = range(1_000, 40_000)
HANDOFF_PROMPTS = (1_024, 2_048)
CONTEXTS = (256, 4_096)
HIDDEN_MIN, GAP_MAX, TTFT_MAX = 0.90, 1.5, 1.10
DOWNTIME_MAX, CONTEXT_MAX, SLOWDOWN_MAX = 2.0, 1.3, 1.03
BEFORE_TOKENS, AFTER_TOKENS, TOKENS_MAX = 24, 24, 600
KILLED_POLLS = 120


@dataclass(kw_only=True)
class Line:
    """One promise, as measured. `limit` None: told, not judged."""

    section: str
    name: str
    value: float
    limit: float | None = None
    at_least: bool = False
    unit: str = "x"
    samples: list[float] = field(default_factory=list)

    @property
    def holds(self) -> bool | None:
        if self.limit is None:
            return None
        return self.value >= self.limit if self.at_least else self.value <= self.limit


def config_of(record: str) -> ClusterConfig:
    """1P2D, a thread each."""
    pool = PoolConfig(name="prefill", role=Role.PREFILL, cpus=0.4, threads=1, blocks=BLOCKS)
    decode = replace(pool, name="decode", role=Role.DECODE, count=2)
    return replace(demo_config(), pools=[pool, decode], record=record)


def lone_of() -> ClusterConfig:
    """The same model on one mixed worker."""
    lone = lone_config()
    return replace(lone, pools=[replace(lone.pools[0], threads=1, blocks=BLOCKS)])


@dataclass
class Told:
    """One stream as its client saw it, ns."""

    asked_ns: int
    tokens_ns: list[int] = field(default_factory=list)
    result: Generation | None = None

    @property
    def ttft_ms(self) -> float:
        return (self.tokens_ns[0] - self.asked_ns) / 1e6

    @property
    def gaps_ms(self) -> list[float]:
        return [(after - before) / 1e6 for before, after in itertools.pairwise(self.tokens_ns)]


def open_stream(client: AsyncClient, prompt: Sequence[int], tokens: int) -> AsyncStream:
    return client.stream(list(prompt), max_tokens=tokens, ignore_eos=True)


async def ask(client: AsyncClient, prompt: Sequence[int], tokens: int) -> Told:
    """One stream to its end, with the time of every token."""
    told = Told(time.monotonic_ns())
    stream = open_stream(client, prompt, tokens)
    async for delta in stream:
        told.tokens_ns += [time.monotonic_ns()] * len(delta.tokens)
    told.result = await stream.result()
    return told


def median(values: Iterable[float]) -> float:
    return statistics.median(list(values) or [0.0])


# ---- handoff


async def handoff(bench: "Bench") -> list[Line]:
    """Prompts on the pools and on the lone worker, in turns."""
    seen: dict[tuple[str, int], list[Told]] = defaultdict(list)
    for number in bench.track(range(bench.rounds + 1), "handoff"):
        for tokens in HANDOFF_PROMPTS:
            for way, client in (("pools", bench.client), ("lone", bench.lone)):
                told = await ask(client, bench.prompts(tokens), 24)
                if number:  # the first round warms up
                    seen[way, tokens].append(told)
    lines = []
    for tokens in HANDOFF_PROMPTS:
        pools = seen["pools", tokens]
        moves = [m for t in pools for m in t.result.accounting.moves if m.kind == "handoff"]
        shares = [move.hidden_share for move in moves if move.committed]
        itl = median(gap for told in pools for gap in told.gaps_ms[1:])
        gaps = [told.gaps_ms[0] / itl for told in pools]
        alone = median(told.ttft_ms for told in seen["lone", tokens])
        ttft = [told.ttft_ms / alone for told in pools]
        name = f"{tokens} tokens"
        lines += [
            Line(section="handoff", name=f"{name}: bytes hidden", value=median(shares),
                 limit=HIDDEN_MIN, at_least=True, unit="", samples=shares),
            Line(section="handoff", name=f"{name}: 1st to 2nd token / ITL", value=median(gaps),
                 limit=GAP_MAX, samples=gaps),
            Line(section="handoff", name=f"{name}: TTFT / lone worker's", value=median(ttft),
                 limit=TTFT_MAX, samples=ttft),
        ]  # fmt: skip
    return lines


# ---- migration


async def migration(bench: "Bench") -> list[Line]:
    """One stream is moved between two workers that decode others."""
    rounds = [(n, context) for n in range(bench.rounds + 1) for context in CONTEXTS]
    for number, context in bench.track(rounds, "migration"):
        request_id = await migrate_once(bench, context)
        if number:  # the first round warms up
            bench.migrated.append((request_id, context))
    return []


def paused(migrated: Sequence[tuple[str, int]], folder: Path) -> list[Line]:
    """Downtime: the gap between the last token of one decode worker and the first of the next."""
    heard: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for now_ns, event, _ in read_steps(folder / "gateway-0.jsonl"):
        if isinstance(event, TokensEmitted):
            for chunk in event.chunks:
                heard[chunk.request_id].append((now_ns, event.worker.worker_id))
    downtimes: dict[int, list[float]] = defaultdict(list)
    itls: dict[int, list[float]] = defaultdict(list)
    for request_id, context in migrated:
        told = heard[request_id][1:]  # the first came from the prefill worker
        for (before_ns, before), (after_ns, after) in itertools.pairwise(told):
            gap_ms = (after_ns - before_ns) / 1e6
            (downtimes if before != after else itls)[context].append(gap_ms)
    itl = median(gap for each in itls.values() for gap in each)
    lines = []
    for context, found in downtimes.items():
        name, ratios = f"{context} tokens: downtime", [each / itl for each in found]
        lines += [
            Line(section="migration", name=f"{name} p50 / ITL", value=median(ratios),
                 limit=DOWNTIME_MAX, samples=ratios),
            Line(section="migration", name=name, value=median(found), unit="ms"),
        ]  # fmt: skip
    short, long = (median(downtimes[context]) for context in CONTEXTS)
    name = f"downtime, {CONTEXTS[1]} / {CONTEXTS[0]} tokens"
    ratio = long / short if short else 0.0
    return [*lines, Line(section="migration", name=name, value=ratio, limit=CONTEXT_MAX)]


async def migrate_once(bench: "Bench", context: int) -> str:
    """A stream of `context` tokens moves while two others decode; its id."""
    others = [open_stream(bench.client, bench.prompts(64), TOKENS_MAX) for _ in range(2)]
    beside = [asyncio.ensure_future(other.result()) for other in others]
    stream = open_stream(bench.client, bench.prompts(context), TOKENS_MAX)
    moving: asyncio.Future[Any] | None = None
    tokens, last = 0, TOKENS_MAX
    async for delta in stream:
        tokens += len(delta.tokens)
        if moving is None and tokens >= BEFORE_TOKENS:
            moving = asyncio.ensure_future(bench.client.migrate(stream.request_id))
        if moving is not None and moving.done() and last == TOKENS_MAX:
            last = tokens + AFTER_TOKENS
        if tokens >= last:
            break
    if moving is not None:
        await moving
    for each, task in zip((stream, *others), (None, *beside), strict=True):
        if task is None or not task.done():
            await bench.client.cancel(each.request_id)
    await asyncio.gather(*beside)
    return stream.request_id


def slowdown(lives: list[dict[str, Any]]) -> list[Line]:
    """Decode iterations of one batch size at a source, with copies under way and just before."""
    ratios = [ratio for life in lives for ratio in life["slowdowns"]]
    name = "bystanders' iterations while copying / before"
    line = Line(section="migration", name=name, value=median(ratios), limit=SLOWDOWN_MAX,
                samples=ratios)  # fmt: skip
    return [line] if ratios else []


# ---- recovery


async def recovery(bench: "Bench") -> list[Line]:
    """`kill -9` of the decode worker of a stream; the pause is its longest gap after that."""
    for _ in bench.track(range(bench.rounds), "recovery"):
        stream = open_stream(bench.client, bench.prompts(256), 64)
        tokens, stamps = 0, []
        async for delta in stream:
            tokens += len(delta.tokens)
            if stamps:
                stamps.append(time.monotonic_ns())
            elif tokens >= BEFORE_TOKENS:
                stamps.append(await kill_owner(bench.client, stream.request_id))
        _, resumed_ns = max((after - before, after) for before, after in itertools.pairwise(stamps))
        bench.killed.append((stream.request_id, stamps[0], resumed_ns))
        await all_alive(bench.client)
    return []


async def kill_owner(client: AsyncClient, request_id: str) -> int:
    """Kills the process of the worker that runs the request; when."""
    status = await client.status()
    owner = next(r.worker_id for r in status.requests if r.request_id == request_id)
    pid = next(worker.pid for worker in status.workers if worker.worker_id == owner)
    os.kill(pid, signal.SIGKILL)
    return time.monotonic_ns()


async def all_alive(client: AsyncClient) -> None:
    """Until Ray has brought the worker back."""
    for _ in range(KILLED_POLLS):
        await asyncio.sleep(0.5)
        if all(worker.state == "alive" for worker in (await client.status()).workers):
            return


def recovered(killed: Sequence[tuple[str, int, int]], folder: Path) -> list[Line]:
    """Each pause, split where the recordings have a stamp."""
    told: dict[str, int] = {}
    assigned: dict[str, list[int]] = defaultdict(list)
    for path in sorted(folder.glob("*.jsonl")):
        for now_ns, event, _ in read_steps(path):
            if isinstance(event, RequestDisplaced):
                told.setdefault(event.request_id, now_ns)
            elif isinstance(event, RequestAssigned):
                assigned[event.request.request_id].append(now_ns)
    spans: dict[str, list[float]] = defaultdict(list)
    for request_id, killed_ns, resumed_ns in killed:
        again = [at for at in assigned[request_id] if at > killed_ns]
        if request_id not in told or not again:
            continue
        marks = (killed_ns, told[request_id], min(again), resumed_ns)
        names = ("detection", "placement", "re-prefill, to the token")
        for name, (begin, end) in zip(names, itertools.pairwise(marks), strict=True):
            spans[name].append((end - begin) / 1e6)
        spans["kill -9 to the next token"].append((resumed_ns - killed_ns) / 1e6)
    return [
        Line(section="recovery", name=name, value=median(ms), unit="ms", samples=ms)
        for name, ms in spans.items()
    ]


# ---- the run


@dataclass
class Bench:
    """Both clusters' clients, and what the sections leave for the recordings."""

    client: AsyncClient
    lone: AsyncClient
    dice: random.Random
    rounds: int
    progress: Progress
    migrated: list[tuple[str, int]] = field(default_factory=list)
    killed: list[tuple[str, int, int]] = field(default_factory=list)

    def prompts(self, tokens: int) -> list[int]:
        """Token ids that share no block with any earlier prompt."""
        return self.dice.choices(VOCAB, k=tokens)

    def track(self, items: Sequence[Any], name: str) -> Iterable[Any]:
        return self.progress.track(items, description=name)


RUN = {"handoff": handoff, "migration": migration, "recovery": recovery}


async def measure(addresses: tuple[str, str], options: argparse.Namespace) -> tuple[Any, Bench]:
    """The sections that were chosen, one after the other."""
    with Progress(console=Console(stderr=True)) as progress:
        async with AsyncClient(addresses[0]) as client, AsyncClient(addresses[1]) as lone:
            bench = Bench(client, lone, random.Random(1), options.rounds, progress)
            lines = [line for name in options.only for line in await RUN[name](bench)]
    return lines, bench


def replayed(folder: Path, options: argparse.Namespace, request: str) -> list[dict[str, Any]]:
    """The workers' recordings, replayed; one request drawn if a picture is wanted."""
    command = [sys.executable, Path(__file__).with_name("timeline.py"), folder]
    command += ["--json", folder / "spans.json"]
    if options.svg and request:
        command += ["--request", request, "--svg", options.svg]
    subprocess.run([str(word) for word in command], check=True)
    return list(json.loads((folder / "spans.json").read_text()))


def run(options: argparse.Namespace, folder: Path) -> list[Line]:
    """Start, measure, stop, read the recordings."""
    print("starting 1P2D and a lone worker", file=sys.stderr)
    cluster = LiveCluster.start(config_of(str(folder)))
    try:
        lone = LiveCluster.start_beside(lone_of())
        try:
            lines, bench = asyncio.run(measure((cluster.address, lone.address), options))
        finally:
            lone.stop()
    finally:
        cluster.stop()
    print("replaying the recordings", file=sys.stderr)
    lives = replayed(folder, options, bench.migrated[-1][0] if bench.migrated else "")
    if "migration" in options.only:
        lines += paused(bench.migrated, folder) + slowdown(lives)
    return [*lines, *recovered(bench.killed, folder)]


def draw_table(lines: Sequence[Line]) -> Table:
    table = Table("SECTION", "WHAT", "MEDIAN", "LIMIT", "N", "", box=None, pad_edge=False)
    for line in lines:
        limit = "" if line.limit is None else f"{'>=' if line.at_least else '<='} {line.limit:g}"
        verdict = {None: "", True: "[green]holds[/green]", False: "[red]missed[/red]"}[line.holds]
        count = str(len(line.samples) or "")
        table.add_row(
            line.section, line.name, f"{line.value:.4g} {line.unit}", limit, count, verdict
        )
    return table


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS),
                        help="sections to run (default: all)")  # fmt: skip
    parser.add_argument("--rounds", type=int, default=5, help="rounds kept (default: 5)")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write all figures there")
    parser.add_argument("--svg", type=Path, metavar="PATH", help="draw one migrated request")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep the recordings there")
    return parser.parse_args()


def main() -> None:
    options = parse()
    load = [os.getloadavg()[0]]
    with tempfile.TemporaryDirectory() as temporary:
        lines = run(options, options.keep or Path(temporary))
    load.append(os.getloadavg()[0])
    console = Console() if sys.stdout.isatty() else Console(width=120)
    console.print(draw_table(lines))
    console.print(f"load average {load[0]:.1f} before, {load[1]:.1f} after")
    if options.json:
        rows = [{**asdict(line), "holds": line.holds} for line in lines]
        figures = {"load_average": load, "rounds": options.rounds, "lines": rows}
        options.json.write_text(json.dumps(figures, indent=2) + "\n")
    sys.exit(any(line.holds is False for line in lines))


if __name__ == "__main__":
    main()
