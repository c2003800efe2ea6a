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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from splitweave.client import AsyncClient
from splitweave.cluster.live.cluster import LiveCluster
from splitweave.cluster.live.config import (
    ClusterConfig,
    GatewayConfig,
    ModelConfig,
    PoolConfig,
    RayConfig,
)
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
from splitweave.workers.live.engine import TorchEngine, load_engine

LOADS = (1, 8)
GATEWAY = GatewayId("gateway-0")
SENTENCE = "A river crosses the town and nobody knows where it comes from. "
SENTENCE_TOKENS = 13
KEY = WorkerKey(WorkerId("bare"), Incarnation(1))
Say = Callable[[str], None]
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


@dataclass(frozen=True)
class Shape:
    """What every request asks for."""

    prompt_tokens: int
    output_tokens: int

    def prompt(self, number: int) -> str:
        """Text that shares no block with another number's."""
        return f"{number * 7919}. " + SENTENCE * (self.prompt_tokens // SENTENCE_TOKENS)


def config_of(record: str = "") -> ClusterConfig:
    """1P1D on CPU, a thread each."""
    return ClusterConfig(
        model=ModelConfig(path="demo"),
        pools=[
            PoolConfig(name="prefill", role=Role.PREFILL, cpus=0.4, threads=1),
            PoolConfig(name="decode", role=Role.DECODE, cpus=0.4, threads=1),
        ],
        gateway=GatewayConfig(port=0),
        ray=RayConfig(address="local", namespace="splitweave-overhead"),
        record=record,
    )


# ---- the bare engine


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
        core = WorkerCore(self._info(self._engine), self._setup.limits, self.layers)
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

    def _info(self, engine: TorchEngine) -> WorkerInfo:
        return WorkerInfo(
            key=KEY,
            role=Role.MIXED,
            pool="bare",
            node="here",
            pid=os.getpid(),
            host="",
            port=0,
            blocks_total=self._setup.blocks,
            block_tokens=self._setup.block_tokens,
            block_bytes=engine.block_bytes,
            context_tokens_max=engine.spec.context_tokens,
            speed=Speed(iteration_ns=20e6, token_ns=2e6),
        )


# ---- the cluster


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


class Rounds:
    """Takes turns: bare and cluster, each load, round after round."""

    def __init__(self, shape: Shape, bare: Bare, encode: Callable[[str], Sequence[int]]) -> None:
        self._shape = shape
        self._bare = bare
        self._encode = encode
        self._numbers = itertools.count(1)
        self.prompt_tokens = len(encode(shape.prompt(1)))

    def compare(self, address: str, rounds: int, say: Say) -> list[dict[str, Any]]:
        """TTFT and TPOT of both, and their ratio; the first round warms up."""
        seen: dict[tuple[int, str], list[Timeline]] = defaultdict(list)
        for number, load in itertools.product(range(rounds + 1), LOADS):
            for way in ("bare", "cluster"):
                found = self._bare_round(load) if way == "bare" else self.cluster(address, load)
                say(f"round {number}/{rounds}  {load} at once  {way}: {summary(found)}")
                if number:
                    seen[load, way] += found
        return [compared(load, seen[load, "bare"], seen[load, "cluster"]) for load in LOADS]

    def cluster(self, address: str, load: int) -> list[Timeline]:
        """One round on the cluster."""
        return asyncio.run(ask_cluster(address, self._prompts(load), self._shape.output_tokens))

    def _bare_round(self, load: int) -> list[Timeline]:
        prompts = [self._encode(prompt) for prompt in self._prompts(load)]
        return self._bare.ask(prompts, self._shape.output_tokens)

    def _prompts(self, load: int) -> list[str]:
        return [self._shape.prompt(next(self._numbers)) for _ in range(load)]


def median(values: Iterable[float]) -> float:
    return statistics.median(list(values) or [0.0])


def summary(found: Sequence[Timeline]) -> str:
    ttft, tpot = median(t.ttft_ms for t in found), median(t.tpot_ms for t in found)
    return f"TTFT {ttft:.1f} ms, TPOT {tpot:.2f} ms"


def compared(load: int, bare: Sequence[Timeline], cluster: Sequence[Timeline]) -> dict[str, Any]:
    row: dict[str, Any] = {"at_once": load}
    for name in ("ttft_ms", "tpot_ms"):
        ours, theirs = ([getattr(t, name) for t in found] for found in (cluster, bare))
        row |= {f"bare_{name}": median(theirs), f"cluster_{name}": median(ours)}
        row[f"{name.split('_')[0]}_ratio"] = median(ours) / median(theirs)
    return row


# ---- where the time goes


@dataclass
class Marks:
    """One request in the recordings; clock readings in ns. Lists go by token."""

    at: dict[str, int] = field(default_factory=dict)
    ordered_ns: list[int] = field(default_factory=list)  # start of the token's iteration
    drawn_ns: list[int] = field(default_factory=list)
    heard_ns: list[int] = field(default_factory=list)  # at the gateway


class Recordings:
    """What the cores of one cluster say of every request. Workers are replayed."""

    def __init__(self, folder: Path, config: ClusterConfig, layers: int) -> None:
        self.marks: dict[str, Marks] = defaultdict(Marks)
        self.step_us: dict[int, list[float]] = defaultdict(list)  # a decode's end, by batch size
        self._config = config
        self._layers = layers
        infos = self._read_controller(folder / "controller.jsonl")
        self._read_gateway(folder / f"{GATEWAY}.jsonl")
        for info in infos:
            path = folder / f"{info.key.worker_id}-{info.key.incarnation}.jsonl"
            self._read_worker(path, info)

    def _read_controller(self, path: Path) -> list[WorkerInfo]:
        infos: dict[WorkerKey, WorkerInfo] = {}
        for now_ns, event, _ in read_steps(path):
            if isinstance(event, WorkerRegistered):
                infos.setdefault(event.info.key, event.info)
            elif isinstance(event, RequestArrived):
                self.marks[event.request.request_id].at.setdefault("controller", now_ns)
        # Prefill comes first: its token is number 0.
        return sorted(infos.values(), key=lambda info: info.role is not Role.PREFILL)

    def _read_gateway(self, path: Path) -> None:
        for now_ns, event, _ in read_steps(path):
            if isinstance(event, GenerateAsked):
                self.marks[event.request.request_id].at["gateway"] = now_ns
            elif isinstance(event, TokensEmitted):
                for chunk in event.chunks:
                    heard = self.marks[chunk.request_id].heard_ns
                    if chunk.first_index == len(heard):  # not one that was sent again
                        heard += [now_ns] * len(chunk.tokens)

    def _read_worker(self, path: Path, info: WorkerInfo) -> None:
        pool = next(pool for pool in self._config.pools if pool.name == info.pool)
        limits = worker_setup(self._config, pool, info.key.worker_id).limits
        core = WorkerCore(info, limits, self._layers)
        moved: dict[str, str] = {}
        order, ordered_ns = None, 0
        for now_ns, event, _ in read_steps(path):
            self._mark(event, moved, now_ns)
            began = time.perf_counter()
            effects = core.step(event, now_ns)
            spent_us = (time.perf_counter() - began) * 1e6
            if isinstance(event, IterationDone) and order is not None:
                self._draw(order, ordered_ns, now_ns)
                if order.batch.tokens == len(order.batch.chunks):
                    self.step_us[order.batch.tokens].append(spent_us)
                order = None
            for effect in effects:
                if isinstance(effect, RunIteration):
                    order, ordered_ns = effect, now_ns
                    for chunk in effect.batch.chunks:
                        at = self.marks[chunk.request_id].at
                        at.setdefault(f"ran at {info.role}", now_ns)

    def _mark(self, event: Any, moved: dict[str, str], now_ns: int) -> None:
        match event:
            case RequestAssigned(request=request):
                self.marks[request.request_id].at.setdefault("worker", now_ns)
            case LeaseAsked(move_id=move_id, request=request):
                moved[move_id] = request.request_id
            case HandoverOffered(move_id=move_id):
                self.marks[moved[move_id]].at.setdefault("offered", now_ns)

    def _draw(self, order: RunIteration, ordered_ns: int, now_ns: int) -> None:
        for chunk in order.batch.chunks:
            if chunk.draw is not None:
                marks = self.marks[chunk.request_id]
                marks.ordered_ns.append(ordered_ns)
                marks.drawn_ns.append(now_ns)


def stages_of(timeline: Timeline, marks: Marks) -> dict[str, list[float]]:
    """Milliseconds per stage, in order of a request's life."""
    at, drawn, heard, seen = marks.at, marks.drawn_ns, marks.heard_ns, timeline.tokens_ns
    first_decode_ns = at[f"ran at {Role.DECODE}"]
    later = range(2, len(seen))
    spans = {
        "first token: client to gateway core (gRPC, validation, tokenizer)": [
            at["gateway"] - timeline.asked_ns
        ],
        "first token: gateway to controller": [at["controller"] - at["gateway"]],
        "first token: controller to prefill worker": [at["worker"] - at["controller"]],
        "first token: worker's queue": [at[f"ran at {Role.PREFILL}"] - at["worker"]],
        "first token: prefill iterations": [drawn[0] - at[f"ran at {Role.PREFILL}"]],
        "first token: worker to gateway core": [heard[0] - drawn[0]],
        "first token: gateway core to client (text, gRPC)": [seen[0] - heard[0]],
        "second token: handover offered to decode worker": [at["offered"] - drawn[0]],
        "second token: last copies land, iteration in flight ends": [
            first_decode_ns - at["offered"]
        ],
        "second token: its iteration": [drawn[1] - first_decode_ns],
        "each later token: from order to result": [drawn[i] - marks.ordered_ns[i] for i in later],
        "each later token: from result to next order": [
            marks.ordered_ns[i] - drawn[i - 1] for i in later
        ],
        "each later token: worker to gateway core (beside the next iteration)": [
            heard[i] - drawn[i] for i in later
        ],
        "each later token: gateway core to client (beside the next iteration)": [
            seen[i] - heard[i] for i in later
        ],
    }
    return {name: [span / 1e6 for span in found] for name, found in spans.items()}


def stage_rows(
    seen: dict[int, list[Timeline]], recordings: Recordings, bare: Bare
) -> list[dict[str, Any]]:
    """One row per stage with the median of each load, in ms."""
    rows: dict[str, dict[str, Any]] = {}
    for load, timelines in seen.items():
        spans: dict[str, list[float]] = defaultdict(list)
        for timeline in timelines:
            marks = recordings.marks[timeline.request_id]
            for name, found in stages_of(timeline, marks).items():
                spans[name] += found
        spans["of that: the bare engine's iteration, same batch"] = bare.run_ms[load]
        spans["of that: the worker core's step (replayed)"] = [
            us / 1e3 for us in recordings.step_us[load]
        ]
        spans["seen: TTFT"] = [timeline.ttft_ms for timeline in timelines]
        spans["seen: TPOT"] = [timeline.tpot_ms for timeline in timelines]
        for name, found in spans.items():
            rows.setdefault(name, {"stage": name})[f"at_once_{load}_ms"] = median(found)
    return list(rows.values())


# ---- the report


def print_comparison(rows: Sequence[dict[str, Any]]) -> None:
    print(f"\n{'ms':<16}{'bare':>9}{'cluster':>9}{'ratio':>7}")
    for row, name in itertools.product(rows, ("ttft", "tpot")):
        bare, ours = row[f"bare_{name}_ms"], row[f"cluster_{name}_ms"]
        label = f"{name.upper()}, {row['at_once']} at once"
        print(f"{label:<16}{bare:>9.2f}{ours:>9.2f}{row[f'{name}_ratio']:>7.2f}")


def print_stages(rows: Sequence[dict[str, Any]]) -> None:
    print(f"\n{'stage, ms':<70}" + "".join(f"{f'{load} at once':>11}" for load in LOADS))
    for row in rows:
        cells = "".join(f"{row[f'at_once_{load}_ms']:>11.2f}" for load in LOADS)
        print(f"{row['stage']:<70}{cells}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5, help="rounds kept (default: 5)")
    parser.add_argument("--prompt-tokens", type=int, default=128, help="about (default: 128)")
    parser.add_argument("--output-tokens", type=int, default=32, help="per request, >= 3")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write all figures there")
    options = parser.parse_args()
    if options.rounds < 1 or options.output_tokens < 3:
        parser.error("--rounds must be >= 1 and --output-tokens >= 3")
    return options


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main() -> None:
    options = parse()
    load_before = os.getloadavg()[0]
    config = config_of()
    say("loading the bare engine")
    bare = Bare(config)
    served = served_model(gateway_setup(config, GATEWAY))
    shape = Shape(options.prompt_tokens, options.output_tokens)
    rounds = Rounds(shape, bare, served.language.encode)
    comparison = run_on(config, lambda address: rounds.compare(address, options.rounds, say))
    print_comparison(comparison)
    with tempfile.TemporaryDirectory() as folder:
        stages = measure_stages(Path(folder), rounds, bare, options.rounds)
    print_stages(stages)
    print(f"\nload average before: {load_before:.1f}; prompt tokens: {rounds.prompt_tokens}")
    if options.json:
        figures = {
            "rounds": options.rounds,
            "prompt_tokens": rounds.prompt_tokens,
            "output_tokens": shape.output_tokens,
            "load_average_before": load_before,
            "comparison": comparison,
            "stages": stages,
        }
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


def run_on(config: ClusterConfig, work: Callable[[str], T]) -> T:
    """`work(address)` on a cluster that lives as long."""
    say("starting 1P1D")
    cluster = LiveCluster.start(config)
    try:
        return work(cluster.address)
    finally:
        cluster.stop()


def measure_stages(folder: Path, rounds: Rounds, bare: Bare, count: int) -> list[dict[str, Any]]:
    """The stages of `count` recorded rounds, after one that warms up."""
    config = config_of(record=str(folder))
    seen: dict[int, list[Timeline]] = {load: [] for load in LOADS}

    def work(address: str) -> None:
        for number, load in itertools.product(range(count + 1), LOADS):
            found = rounds.cluster(address, load)
            say(f"recorded round {number}/{count}  {load} at once: {summary(found)}")
            if number:
                seen[load] += found

    run_on(config, work)
    return stage_rows(seen, Recordings(folder, config, bare.layers), bare)


if __name__ == "__main__":
    main()
