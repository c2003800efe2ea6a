"""What the house costs: gateway, router and handoff against the bare engine.

    python benchmarks/overhead.py [--rounds 5] [--json overhead.json]

The same requests run on a 1P1D cluster, timed at the client, and on one engine in
this process that a WorkerCore drives, one thread each: alone and eight at once, in
turns. A bare engine prefills and decodes on its one thread; the cluster has one for
each. Then a second cluster, one that records its cores' events, says where the time
goes: every event carries the clock that all processes of a machine share. Medians.
"""

import argparse
import asyncio
import itertools
import json
import os
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from splitweave.client import AsyncClient
from splitweave.cluster.live.cluster import LiveCluster
from splitweave.cluster.live.config import ClusterConfig, PoolConfig
from splitweave.cluster.live.demo.run import demo_config
from splitweave.cluster.live.front.seams import Served
from splitweave.cluster.live.language import served_model
from splitweave.cluster.live.setups import gateway_setup, worker_setup
from splitweave.proto.batch import Batch
from splitweave.proto.blocks import block_hashes
from splitweave.proto.cluster_events import RequestArrived, WorkerRegistered
from splitweave.proto.effects import RunIteration, ToGateway
from splitweave.proto.gateway_events import GenerateAsked, TokensEmitted
from splitweave.proto.ids import GatewayId, Incarnation, RequestId, WorkerId, WorkerKey
from splitweave.proto.record import read_steps
from splitweave.proto.requests import Request
from splitweave.proto.views import Role, Speed, WorkerInfo
from splitweave.proto.worker_events import (
    HandoverOffered,
    IterationDone,
    LeaseAsked,
    RequestAssigned,
)
from splitweave.workers.core.core import WorkerCore
from splitweave.workers.live.engine import load_engine

LOADS = (1, 8)
WAYS = ("bare", "cluster")
GATEWAY = GatewayId("gateway-0")
SENTENCE = "A river crosses the town and nobody knows where it comes from. "
SENTENCE_TOKENS = 13
KEY = WorkerKey(WorkerId("bare"), Incarnation(1))
T = TypeVar("T")


@dataclass
class Timeline:
    """One request as its asker saw it; clock readings in ns."""

    asked_ns: int
    request_id: str = ""
    tokens_ns: list[int] = field(default_factory=list)

    @property
    def ttft_ms(self) -> float:
        return (self.tokens_ns[0] - self.asked_ns) / 1e6

    @property
    def tpot_ms(self) -> float:
        return (self.tokens_ns[-1] - self.tokens_ns[0]) / (len(self.tokens_ns) - 1) / 1e6


Way = Callable[[int], list[Timeline]]
Seen = dict[tuple[str, int], list[Timeline]]


def config_of(record: str = "") -> ClusterConfig:
    """1P1D on CPU, a thread each."""
    return replace(
        demo_config(),
        pools=[
            PoolConfig(name="prefill", role=Role.PREFILL, cpus=0.4, threads=1),
            PoolConfig(name="decode", role=Role.DECODE, cpus=0.4, threads=1),
        ],
        record=record,
    )


class Bare:
    """One engine, one core, no messages."""

    def __init__(self, config: ClusterConfig) -> None:
        self._setup = worker_setup(config, config.pools[0], KEY.worker_id)
        self._engine = load_engine(
            self._setup.model_path, self._setup.blocks, self._setup.block_tokens, threads=1
        )
        self.layers = self._engine.spec.layers
        self.run_ms: dict[int, list[float]] = defaultdict(list)  # decode iterations by batch size

    def ask(self, prompts: Sequence[Sequence[int]], output_tokens: int) -> list[Timeline]:
        """All prompts at once, on a core that knows no prefix."""
        core = WorkerCore(self._info(), self._setup.limits, self.layers)
        timelines: dict[str, Timeline] = {}
        orders: list[RunIteration] = []

        def step(event: Any) -> None:
            now_ns = time.monotonic_ns()
            for effect in core.step(event, now_ns):
                if isinstance(effect, RunIteration):
                    orders.append(effect)
                elif isinstance(effect, ToGateway) and isinstance(effect.event, TokensEmitted):
                    for chunk in effect.event.chunks:
                        timelines[chunk.request_id].tokens_ns += [now_ns] * len(chunk.tokens)

        for number, token_ids in enumerate(prompts):
            request = self._request(str(number), token_ids, output_tokens)
            timelines[request.request_id] = Timeline(time.monotonic_ns())
            step(RequestAssigned(request=request))
        while orders:
            batch = orders.pop().batch
            step(IterationDone(iteration=batch.iteration, sampled=self._run(batch)))
        return list(timelines.values())

    def _run(self, batch: Batch) -> Any:
        began_ns = time.monotonic_ns()
        sampled = self._engine.run(batch, lambda _layer: None)
        if batch.tokens == len(batch.chunks):
            self.run_ms[batch.tokens].append((time.monotonic_ns() - began_ns) / 1e6)
        return sampled

    def _request(self, name: str, token_ids: Sequence[int], output_tokens: int) -> Request:
        return Request(
            request_id=RequestId(name),
            gateway_id=GATEWAY,
            token_ids=tuple(token_ids),
            max_tokens=output_tokens,
            block_hashes=block_hashes(token_ids, self._setup.block_tokens),
        )

    def _info(self) -> WorkerInfo:
        setup, spec = self._setup, self._engine.spec
        return WorkerInfo(
            key=KEY, role=Role.MIXED, pool="", node="", pid=0, host="", port=0,
            blocks_total=setup.blocks, block_tokens=setup.block_tokens,
            block_bytes=self._engine.block_bytes, context_tokens_max=spec.context_tokens,
            speed=Speed(iteration_ns=20e6, token_ns=2e6),
        )  # fmt: skip


async def ask_cluster(address: str, prompts: Sequence[str], output_tokens: int) -> list[Timeline]:
    """All prompts at once, timed where the client gets the tokens."""
    async with AsyncClient(address) as client:
        await client.status()  # connects: a client does so once, not once a request

        async def one(prompt: str) -> Timeline:
            timeline = Timeline(time.monotonic_ns())
            stream = client.stream(prompt, max_tokens=output_tokens, ignore_eos=True)
            async for delta in stream:
                timeline.tokens_ns += [time.monotonic_ns()] * len(delta.tokens)
            timeline.request_id = stream.request_id
            return timeline

        return list(await asyncio.gather(*map(one, prompts)))


class Asker:
    """Asks the same of the bare engine and of a cluster; no prompt comes twice."""

    def __init__(self, bare: Bare, served: Served, options: argparse.Namespace) -> None:
        self._bare = bare
        self._encode = served.language.encode
        self._sentences = options.prompt_tokens // SENTENCE_TOKENS
        self._output_tokens = options.output_tokens
        self._numbers = itertools.count(1)
        self.prompt_tokens = len(self._encode(self._prompts(1)[0]))

    def bare(self, load: int) -> list[Timeline]:
        prompts = [self._encode(prompt) for prompt in self._prompts(load)]
        return self._bare.ask(prompts, self._output_tokens)

    def cluster(self, address: str, load: int) -> list[Timeline]:
        return asyncio.run(ask_cluster(address, self._prompts(load), self._output_tokens))

    def _prompts(self, load: int) -> list[str]:
        """They share no block: each begins with its number."""
        numbers = itertools.islice(self._numbers, load)
        return [f"{number * 7919}. " + SENTENCE * self._sentences for number in numbers]


def take_turns(ways: dict[str, Way], rounds: int) -> Seen:
    """Every load on every way in turn; the first round warms up and is not kept."""
    seen: Seen = defaultdict(list)
    for number, load, way in itertools.product(range(rounds + 1), LOADS, ways):
        found = ways[way](load)
        ttft, tpot = median(t.ttft_ms for t in found), median(t.tpot_ms for t in found)
        label = f"round {number}/{rounds}  {load} at once  {way}"
        say(f"{label}: TTFT {ttft:.1f} ms, TPOT {tpot:.2f} ms")
        if number:
            seen[way, load] += found
    return seen


def median(values: Iterable[float]) -> float:
    return statistics.median(list(values) or [0.0])


def compared(seen: Seen) -> list[dict[str, Any]]:
    """TTFT and TPOT of each load on both ways, and their ratio."""
    rows = []
    for load, name in itertools.product(LOADS, ("ttft", "tpot")):
        found = {way: median(getattr(t, f"{name}_ms") for t in seen[way, load]) for way in WAYS}
        found["ratio"] = found["cluster"] / found["bare"]
        rows.append({"ms": f"{name.upper()}, {load} at once", **found})
    return rows


@dataclass
class Marks:
    """One request in the recordings; clock readings in ns. Lists go by token."""

    at: dict[str, int] = field(default_factory=dict)
    ordered: list[int] = field(default_factory=list)  # start of the token's iteration
    drawn: list[int] = field(default_factory=list)
    heard: list[int] = field(default_factory=list)  # at the gateway


class Recordings:
    """What the cores of one cluster say of every request. Workers are replayed."""

    def __init__(self, folder: Path, config: ClusterConfig, layers: int) -> None:
        self.marks: dict[str, Marks] = defaultdict(Marks)
        infos: dict[WorkerKey, WorkerInfo] = {}
        for name in ("controller", GATEWAY):
            for now_ns, event, _ in read_steps(folder / f"{name}.jsonl"):
                self._mark(event, now_ns)
                if isinstance(event, WorkerRegistered):
                    infos.setdefault(event.info.key, event.info)
        # Prefill comes first: its token is number 0.
        for info in sorted(infos.values(), key=lambda info: info.role is not Role.PREFILL):
            pool = next(pool for pool in config.pools if pool.name == info.pool)
            limits = worker_setup(config, pool, info.key.worker_id).limits
            path = folder / f"{info.key.worker_id}-{info.key.incarnation}.jsonl"
            self._replay(path, WorkerCore(info, limits, layers), f"ran at {info.role}")

    def _mark(self, event: Any, now_ns: int) -> None:
        match event:
            case GenerateAsked(request=request):
                self.marks[request.request_id].at["gateway"] = now_ns
            case RequestArrived(request=request):
                self.marks[request.request_id].at.setdefault("controller", now_ns)
            case RequestAssigned(request=request):
                self.marks[request.request_id].at.setdefault("worker", now_ns)
            case TokensEmitted(chunks=chunks):
                for chunk in chunks:
                    heard = self.marks[chunk.request_id].heard
                    if chunk.first_index == len(heard):  # not one that was sent again
                        heard += [now_ns] * len(chunk.tokens)
            case _:
                pass  # says nothing of a request's way

    def _replay(self, path: Path, core: WorkerCore, ran: str) -> None:
        moved: dict[str, str] = {}
        order, ordered_ns = None, 0
        for now_ns, event, _ in read_steps(path):
            self._mark(event, now_ns)
            if isinstance(event, LeaseAsked):
                moved[event.move_id] = event.request.request_id
            elif isinstance(event, HandoverOffered):
                self.marks[moved[event.move_id]].at.setdefault("offered", now_ns)
            if isinstance(event, IterationDone) and order is not None:
                for chunk in filter(lambda chunk: chunk.draw, order.batch.chunks):
                    self.marks[chunk.request_id].ordered.append(ordered_ns)
                    self.marks[chunk.request_id].drawn.append(now_ns)
            for effect in core.step(event, now_ns):
                if isinstance(effect, RunIteration):
                    order, ordered_ns = effect, now_ns
                    for chunk in effect.batch.chunks:
                        self.marks[chunk.request_id].at.setdefault(ran, now_ns)


def stages_of(timeline: Timeline, marks: Marks) -> dict[str, list[float]]:
    """Milliseconds per stage, in order of a request's life."""
    at, ordered, drawn, heard = marks.at, marks.ordered, marks.drawn, marks.heard
    seen, prefill, decode = timeline.tokens_ns, at["ran at prefill"], at["ran at decode"]
    spans: dict[str, tuple[Any, Any]] = {
        "1st token: client to gateway core": (timeline.asked_ns, at["gateway"]),
        "1st token: gateway to controller": (at["gateway"], at["controller"]),
        "1st token: controller to prefill worker": (at["controller"], at["worker"]),
        "1st token: the worker's queue": (at["worker"], prefill),
        "1st token: prefill iterations": (prefill, drawn[0]),
        "1st token: worker to gateway core": (drawn[0], heard[0]),
        "1st token: gateway core to client": (heard[0], seen[0]),
        "2nd token: handover offered to decode worker": (drawn[0], at["offered"]),
        "2nd token: last copies land, iteration ends": (at["offered"], decode),
        "2nd token: its iteration": (decode, drawn[1]),
        "later tokens: order to result": (ordered[2:], drawn[2:]),
        "later tokens: result to next order": (drawn[1:-1], ordered[2:]),
        "later tokens: worker to gateway core *": (drawn[2:], heard[2:]),
        "later tokens: gateway core to client *": (heard[2:], seen[2:]),
    }
    return {name: _ms(begin, end) for name, (begin, end) in spans.items()}


def _ms(begins: Any, ends: Any) -> list[float]:
    if isinstance(begins, int):
        return [(ends - begins) / 1e6]
    return [(end - begin) / 1e6 for begin, end in zip(begins, ends, strict=True)]


def stage_rows(seen: Seen, recordings: Recordings, bare: Bare) -> list[dict[str, Any]]:
    """One row per stage with the median of each load, in ms."""
    rows: dict[str, dict[str, Any]] = {}
    for (_, load), timelines in seen.items():
        spans: dict[str, list[float]] = defaultdict(list)
        for timeline in timelines:
            marks = recordings.marks[timeline.request_id]
            for name, found in stages_of(timeline, marks).items():
                spans[name] += found
        spans["  in it: the bare engine with that batch"] = bare.run_ms[load]
        spans["seen: TTFT"] = [timeline.ttft_ms for timeline in timelines]
        spans["seen: TPOT"] = [timeline.tpot_ms for timeline in timelines]
        for name, found in spans.items():
            rows.setdefault(name, {"stage, ms": name})[f"{load} at once"] = median(found)
    return list(rows.values())


def print_rows(rows: Sequence[dict[str, Any]]) -> None:
    """A column per key; the first names the row."""
    title, *columns = rows[0]
    print(f"\n{title:<46}" + "".join(f"{column:>11}" for column in columns))
    for row in rows:
        print(f"{row[title]:<46}" + "".join(f"{row[column]:>11.2f}" for column in columns))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5, help="rounds kept (default: 5)")
    parser.add_argument("--prompt-tokens", type=int, default=128, help="about (default: 128)")
    parser.add_argument("--output-tokens", type=int, default=32, help="per request, >= 3")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write all figures there")
    return parser.parse_args()


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def on_cluster(config: ClusterConfig, work: Callable[[str], T]) -> T:
    """`work(address)` on a cluster that lives as long."""
    say("starting 1P1D")
    cluster = LiveCluster.start(config)
    try:
        return work(cluster.address)
    finally:
        cluster.stop()


def main() -> None:
    options = parse()
    figures: dict[str, Any] = {"load_average_before": os.getloadavg()[0], **vars(options)}
    say("loading the bare engine")
    bare = Bare(config_of())
    asker = Asker(bare, served_model(gateway_setup(config_of(), GATEWAY)), options)

    def compare(address: str) -> Seen:
        ways: dict[str, Way] = {"bare": asker.bare, "cluster": partial(asker.cluster, address)}
        return take_turns(ways, options.rounds)

    def record(address: str) -> Seen:
        return take_turns({"recorded": partial(asker.cluster, address)}, options.rounds)

    seen = on_cluster(config_of(), compare)
    figures["comparison"] = compared(seen)
    print_rows(figures["comparison"])
    with tempfile.TemporaryDirectory() as folder:
        config = config_of(record=folder)
        seen = on_cluster(config, record)
        recordings = Recordings(Path(folder), config, bare.layers)
    figures["stages"] = stage_rows(seen, recordings, bare)
    print_rows(figures["stages"])
    print("* while the next iteration runs: not part of TPOT")
    print(f"prompts of {asker.prompt_tokens} tokens")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2, default=str) + "\n")


if __name__ == "__main__":
    main()
