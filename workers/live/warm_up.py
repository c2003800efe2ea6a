"""Runs a few batches before a worker registers: nothing is slow the first time a
request needs it (compiled kernels load, weights are paged in), and the router's
first view of this worker's speed is measured, not guessed.
"""

import time

from ...proto.batch import Batch, Chunk, Draw
from ...proto.ids import BlockId, RequestId
from ...proto.requests import SamplingParams
from ...proto.views import Speed
from .engine import Engine

PREFILL_TOKENS = 64
ROUNDS = 3


def warm_up(engine: Engine, block_tokens: int) -> Speed:
    """The engine's speed: iteration_ns + tokens x token_ns. Writes unheld blocks only.

    Must be called before anything else uses the engine.
    """
    many = min(PREFILL_TOKENS, engine.spec.context_tokens, block_tokens * engine.blocks)
    one_ns = min(_time(engine, 1, block_tokens) for _ in range(ROUNDS))
    many_ns = min(_time(engine, many, block_tokens) for _ in range(ROUNDS))
    token_ns = max(0.0, (many_ns - one_ns) / max(1, many - 1))
    return Speed(iteration_ns=max(1.0, one_ns - token_ns), token_ns=token_ns)


def _time(engine: Engine, tokens: int, block_tokens: int) -> int:
    blocks = tuple(BlockId(block) for block in range(-(-tokens // block_tokens)))
    chunk = Chunk(
        request_id=RequestId("warm-up"),
        token_ids=(0,) * tokens,
        start=0,
        block_table=blocks,
        draw=Draw(params=SamplingParams(), position=tokens),
    )
    started_ns = time.perf_counter_ns()
    engine.run(Batch(iteration=0, chunks=(chunk,)), _ignore_layer)
    return time.perf_counter_ns() - started_ns


def _ignore_layer(_layer: int) -> None:
    """No copy waits for a warm-up."""
