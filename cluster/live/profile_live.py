"""Times the iterations of a real worker process, in turns with the bare engine."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random
from statistics import median

import ray

from ...client import AsyncClient
from ...proto.views import Role
from ...workers.live.engine import Engine
from ...workers.live.iteration_log import TimedIteration
from ...workers.live.profiling.beside import Beside
from ...workers.live.profiling.live import LiveCost, LiveSamples, shapes_seen
from ...workers.live.profiling.live_beside import BesideSamples
from ...workers.live.profiling.shapes import Room, Shape
from ...workers.live.profiling.timing import TOKENS_USED, batch_of
from .cluster import LiveCluster
from .config import (
    BudgetConfig,
    ClusterConfig,
    GatewayConfig,
    ModelConfig,
    PoolConfig,
    RayConfig,
)

STREAMS = (1, 4, 8)
PROMPT_TOKENS, LONG_PROMPT_TOKENS, OUTPUT_TOKENS = 32, 256, 24
BARE_TIMES = 3
PROMPTS_AT_ONCE = 3  # times
CHUNK_TOKENS = 128
Done = Callable[[int, int], None]  # (loads done, in all)


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """So many streams at once."""

    streams: int
    prompt_tokens: int
    output_tokens: int


def loads_of(room: Room) -> list[Load]:
    """Batches of decodes, and a long prompt by itself, as far as there is room."""
    quarter = room.context_tokens_max // 4
    prompt, output = min(PROMPT_TOKENS, quarter), min(OUTPUT_TOKENS, quarter)
    long = min(LONG_PROMPT_TOKENS, 2 * quarter)
    blocks = -(-(prompt + output) // room.block_tokens) + 1
    counts = [n for n in STREAMS if n <= room.sequences_max and n * blocks <= room.blocks]
    streams = [Load(streams=n, prompt_tokens=prompt, output_tokens=output) for n in counts]
    return [*streams, Load(streams=1, prompt_tokens=long, output_tokens=2)]


def cluster_of(
    model: str, device: str, threads: int, room: Room, workers: int = 1
) -> ClusterConfig:
    """Workers that do both, of that room."""
    chunk = min(CHUNK_TOKENS, room.batched_tokens_max)
    return ClusterConfig(
        model=ModelConfig(path=model),
        pools=[
            PoolConfig(
                name="profile", role=Role.MIXED, count=workers, device=device, cpus=0.4,
                gpus=float(device == "cuda"), threads=threads, blocks=room.blocks,
            )
        ],
        budgets=BudgetConfig(
            block_tokens=room.block_tokens, batched_tokens_max=room.batched_tokens_max,
            prefill_chunk_tokens=chunk, sequences_max=room.sequences_max,
        ),
        gateway=GatewayConfig(port=0),
        ray=RayConfig(address="local", namespace="splitweave-profile"),
    )  # fmt: skip


def measure_live(
    engine: Engine, config: ClusterConfig, room: Room, rounds: int, done: Done
) -> LiveCost:
    """Starts that cluster, asks it for streams, and ends it. Raises ConfigError."""
    cluster = LiveCluster.start(config)
    try:
        (actor,) = cluster.actors.workers.values()
        samples, loads, dice = LiveSamples(), loads_of(room), Random(1)
        for number in range(rounds + 1):
            for index, load in enumerate(loads, start=1):
                ray.get(actor.iterations.remote())
                asyncio.run(_ask(cluster.address, load, dice))
                runs: list[TimedIteration] = ray.get(actor.iterations.remote())
                if number:  # the first round warms up
                    samples.add(runs, _bare_us(engine, room, runs))
                done(number * len(loads) + index, (rounds + 1) * len(loads))
    finally:
        cluster.stop()
    return samples.cost()


def measure_live_beside(
    engine: Engine, config: ClusterConfig, room: Room, rounds: int, cost: LiveCost, done: Done
) -> Beside:
    """The same of a cluster of several workers, whose iterations lie beside each other's.

    `cost` is what `measure_live` found of one. Raises ConfigError.
    """
    cluster = LiveCluster.start(config)
    try:
        actors = list(cluster.actors.workers.values())
        samples, dice = BesideSamples(cost, len(actors) - 1), Random(2)
        for number in range(rounds + 1):
            for index, ask in enumerate(TOGETHER, start=1):
                ray.get([actor.iterations.remote() for actor in actors])
                asyncio.run(ask(cluster.address, room, len(actors), dice))
                logs = ray.get([actor.iterations.remote() for actor in actors])
                if number:  # the first round warms up
                    samples.add(logs, _bare_us(engine, room, [run for log in logs for run in log]))
                done(number * len(TOGETHER) + index, (rounds + 1) * len(TOGETHER))
    finally:
        cluster.stop()
    return samples.beside()


async def _decodes(address: str, room: Room, workers: int, dice: Random) -> None:
    """A stream for each worker."""
    short = loads_of(room)[0]
    await _ask(address, replace(short, streams=workers), dice)


async def _prefills(address: str, room: Room, workers: int, dice: Random) -> None:
    """Long prompts, as many at once as there are workers."""
    for _ in range(PROMPTS_AT_ONCE):
        await _ask(address, replace(loads_of(room)[-1], streams=workers), dice)


async def _both(address: str, room: Room, workers: int, dice: Random) -> None:
    """Streams on all workers but one, which gets long prompts, one after the other."""
    short, *_, long = loads_of(room)
    streams = replace(short, streams=workers - 1, output_tokens=2 * short.output_tokens)
    decoding = asyncio.create_task(_ask(address, streams, dice))
    while not decoding.done():
        await _ask(address, long, dice)
    await decoding


TOGETHER = (_decodes, _prefills, _both)


async def _ask(address: str, load: Load, dice: Random) -> None:
    async with AsyncClient(address) as client:
        await asyncio.gather(
            *(
                client.generate(
                    dice.choices(range(1, TOKENS_USED), k=load.prompt_tokens),
                    max_tokens=load.output_tokens,
                    ignore_eos=True,
                )
                for _ in range(load.streams)
            )
        )


def _bare_us(engine: Engine, room: Room, runs: list[TimedIteration]) -> dict[Shape, float]:
    shapes = [shape for shape in shapes_seen(runs) if room.holds(shape)]
    return {shape: _time_us(engine, shape, room.block_tokens) for shape in shapes}


def _time_us(engine: Engine, shape: Shape, block_tokens: int) -> float:
    batch = batch_of(shape, block_tokens)
    times = []
    for _ in range(BARE_TIMES):
        began_ns = time.perf_counter_ns()
        engine.run(batch, lambda _: None)
        times.append((time.perf_counter_ns() - began_ns) / 1e3)
    return median(times)
