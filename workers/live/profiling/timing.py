"""Times iterations of a real engine, and the core that would order them.

Shapes take turns, round by round, so that whatever else the machine does falls on all
of them; a shape's time is the median of its rounds. The first round warms up.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from statistics import median

from ....proto.batch import Batch, Chunk, Draw
from ....proto.effects import RunIteration
from ....proto.ids import BlockId, GatewayId, Incarnation, RequestId, WorkerId, WorkerKey
from ....proto.requests import Request, SampledToken, SamplingParams
from ....proto.views import Role, Speed, WorkerInfo
from ....proto.worker_events import IterationDone, RequestAssigned
from ...core.core import WorkerCore
from ...core.limits import WorkerLimits
from ..engine import Engine
from .shapes import Shape

TOKENS_USED = 250  # ids below any vocabulary's end
HOST_STEPS = 40
Done = Callable[[int], None]  # told how many measurements there have been


def time_shapes(
    engine: Engine, shapes: Sequence[Shape], block_tokens: int, rounds: int, done: Done
) -> dict[Shape, float]:
    """Microseconds of the engine's part of each iteration."""
    seen: dict[Shape, list[float]] = defaultdict(list)
    batches = [(shape, batch_of(shape, block_tokens)) for shape in shapes]
    for number in range(rounds + 1):
        for index, (shape, batch) in enumerate(batches, start=1):
            began_ns = time.perf_counter_ns()
            engine.run(batch, _nothing)
            if number:
                seen[shape].append((time.perf_counter_ns() - began_ns) / 1e3)
            done(number * len(batches) + index)
    return {shape: median(times) for shape, times in seen.items()}


def batch_of(shape: Shape, block_tokens: int) -> Batch:
    """Such an iteration, its requests in blocks of their own."""
    chunks: list[Chunk] = []
    first = 0
    parts = [(1, shape.decode_context)] * shape.decodes
    parts += [(shape.prefill_tokens, shape.prefill_context)] if shape.prefill_tokens else []
    for index, (tokens, start) in enumerate(parts):
        count = -(-(start + tokens) // block_tokens)
        chunks.append(
            Chunk(
                request_id=RequestId(f"r{index}"),
                token_ids=tuple((index * 31 + n * 7) % TOKENS_USED + 1 for n in range(tokens)),
                start=start,
                block_table=tuple(BlockId(block) for block in range(first, first + count)),
                draw=Draw(params=SamplingParams(), position=start + tokens),
            )
        )
        first += count
    return Batch(iteration=0, chunks=tuple(chunks))


def host_us(decodes: int, block_tokens: int) -> float:
    """Microseconds that a WorkerCore takes between two iterations of so many decodes."""
    core, orders = _decoding(decodes, block_tokens)
    times = []
    for _ in range(HOST_STEPS):
        batch = orders[-1].batch
        tokens = (SampledToken(token_id=1),) * len(batch.chunks)
        event = IterationDone(iteration=batch.iteration, sampled=tokens)
        began_ns = time.perf_counter_ns()
        effects = core.step(event, began_ns)
        times.append((time.perf_counter_ns() - began_ns) / 1e3)
        orders += [effect for effect in effects if isinstance(effect, RunIteration)]
    return median(times)


def _decoding(decodes: int, block_tokens: int) -> tuple[WorkerCore, list[RunIteration]]:
    """A core in the middle of a batch of `decodes` requests."""
    info = WorkerInfo(
        key=WorkerKey(WorkerId("profile"), Incarnation(1)), role=Role.MIXED, pool="", node="",
        pid=0, host="", port=0, blocks_total=decodes * (HOST_STEPS * 2 // block_tokens + 4),
        block_tokens=block_tokens, block_bytes=1, context_tokens_max=1 << 20,
        speed=Speed(iteration_ns=1e6, token_ns=1e3),
    )  # fmt: skip
    limits = WorkerLimits(
        sequences_max=decodes, batched_tokens_max=max(1024, 8 * decodes), queue_len_max=decodes,
        prefill_chunk_tokens=8, watermark_blocks=0,
    )  # fmt: skip
    core = WorkerCore(info, limits, layers=1)
    orders: list[RunIteration] = []
    for index in range(decodes):
        request = Request(
            request_id=RequestId(f"r{index}"), gateway_id=GatewayId("g"),
            token_ids=(index % TOKENS_USED + 1, 1), max_tokens=1 << 16,
        )  # fmt: skip
        effects = core.step(RequestAssigned(request=request), 0)
        orders += [effect for effect in effects if isinstance(effect, RunIteration)]
    while len(orders[-1].batch.chunks) < decodes:
        batch = orders[-1].batch
        tokens = (SampledToken(token_id=1),) * len(batch.chunks)
        effects = core.step(IterationDone(iteration=batch.iteration, sampled=tokens), 0)
        orders += [effect for effect in effects if isinstance(effect, RunIteration)]
    return core, orders


def _nothing(_: int) -> None:
    """No copy waits for a layer."""
