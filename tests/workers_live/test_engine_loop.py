"""The engine's thread: one iteration at a time, copies right behind their layers."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from queue import Full, Queue
from typing import Any

import pytest
import torch
from splitweave.proto.batch import Batch, Chunk, Draw
from splitweave.proto.effects import RunIteration
from splitweave.proto.ids import BlockId, Incarnation, MoveId, RequestId, WorkerId, WorkerKey
from splitweave.proto.move import Copy
from splitweave.proto.requests import SampledToken, SamplingParams
from splitweave.proto.worker_events import IterationDone
from splitweave.workers.live.engine import TorchEngine, load_engine
from splitweave.workers.live.engine_loop import EngineLoop

WAIT_S = 60.0
LAYERS = 6


def copy_of(first: int, last: int, blocks: Sequence[int] = (0,), name: str = "") -> Copy:
    ids = tuple(BlockId(block) for block in blocks)
    return Copy(
        copy_id=name or f"{first}-{last}",
        move_id=MoveId("m"),
        lease=1,
        target=WorkerKey(WorkerId("b"), Incarnation(1)),
        first_layer=first,
        last_layer=last,
        source_blocks=ids,
        target_blocks=ids,
    )


def order(iteration: int, *copies: Copy) -> RunIteration:
    return RunIteration(batch=Batch(iteration=iteration, chunks=()), copies=copies)


class Scripted:
    """An engine whose layers a test lets through one by one; it notes what happens when."""

    def __init__(self, stepwise: bool = False) -> None:
        self.log: Queue[Any] = Queue()
        self.layers = threading.Semaphore(0 if stepwise else 1_000_000)
        self.inside = threading.Semaphore(1)
        self.loop = EngineLoop(self, self.log.put, lambda copy: self.log.put(copy.copy_id))

    def run(self, batch: Batch, on_layer: Callable[[int], None]) -> tuple[SampledToken, ...]:
        assert self.inside.acquire(blocking=False), "two iterations at once"
        for layer in range(LAYERS):
            assert self.layers.acquire(timeout=WAIT_S)
            self.log.put((batch.iteration, layer))
            on_layer(layer)
        self.inside.release()
        return (SampledToken(token_id=batch.iteration),)

    def take(self, count: int) -> list[Any]:
        return [self.log.get(timeout=WAIT_S) for _ in range(count)]


@pytest.fixture
def engine() -> Iterator[Scripted]:
    scripted = Scripted()
    yield scripted
    scripted.loop.stop(WAIT_S)


@pytest.fixture
def stepwise() -> Iterator[Scripted]:
    scripted = Scripted(stepwise=True)
    yield scripted
    scripted.layers.release(1000)
    scripted.loop.stop(WAIT_S)


def test_a_copy_starts_right_after_its_last_layer_and_before_the_next(engine: Scripted) -> None:
    engine.loop.run(order(1, copy_of(0, 2), copy_of(2, 4), copy_of(4, 6)))
    layers = [(1, layer) for layer in range(LAYERS)]
    expected = [*layers[:2], "0-2", *layers[2:4], "2-4", *layers[4:], "4-6"]
    assert engine.take(9) == expected
    assert engine.take(1) == [
        IterationDone(iteration=1, sampled=(SampledToken(token_id=1),)),
    ]


def test_copies_of_the_same_layers_start_in_the_order_of_the_order(engine: Scripted) -> None:
    copies = [copy_of(0, LAYERS, name=name) for name in ("z", "a", "m")]
    engine.loop.run(order(1, *copies))
    assert engine.take(LAYERS + 3)[LAYERS:] == ["z", "a", "m"]


def test_copies_do_not_wait_for_the_iterations_end(stepwise: Scripted) -> None:
    stepwise.loop.run(order(1, copy_of(0, 1), copy_of(1, LAYERS)))
    stepwise.layers.release()
    assert stepwise.take(2) == [(1, 0), "0-1"]
    assert stepwise.log.empty()  # the engine stands in layer 1
    stepwise.layers.release(LAYERS)
    assert stepwise.take(LAYERS + 1)[-2:] == [
        "1-6",
        IterationDone(iteration=1, sampled=(SampledToken(token_id=1),)),
    ]


def test_orders_run_one_at_a_time_in_order_and_carry_no_copy_over(stepwise: Scripted) -> None:
    stepwise.loop.run(order(1, copy_of(0, 1)))
    stepwise.loop.run(order(2))
    stepwise.layers.release(1000)
    said = stepwise.take(2 * LAYERS + 3)
    done = [place for place, what in enumerate(said) if isinstance(what, IterationDone)]
    assert [said[place].iteration for place in done] == [1, 2]
    assert [what[0] for what in said[: done[0]] if isinstance(what, tuple)] == [1] * LAYERS
    assert said.count("0-1") == 1


def test_an_order_beyond_the_bound_is_refused_in_the_caller_and_does_not_wait(
    stepwise: Scripted,
) -> None:
    stepwise.loop.run(order(0))
    stepwise.layers.release()
    stepwise.take(1)  # the first is in the engine: two more fit behind it
    stepwise.loop.run(order(1))
    stepwise.loop.run(order(2))
    with pytest.raises(Full):
        stepwise.loop.run(order(3))


def test_iterations_run_beside_the_callers_thread(engine: Scripted) -> None:
    threads: set[int] = set()
    run = engine.run
    engine.run = lambda *arguments: (threads.add(threading.get_ident()), run(*arguments))[1]  # type: ignore[method-assign]
    engine.loop.run(order(1))
    engine.loop.run(order(2))
    engine.take(2 * LAYERS + 2)
    assert len(threads) == 1
    assert threading.get_ident() not in threads


def test_stop_lets_the_iteration_in_flight_end_and_reports_it(stepwise: Scripted) -> None:
    stepwise.loop.run(order(7))
    stepwise.layers.release()
    stepwise.take(1)
    stepwise.layers.release(LAYERS)
    stepwise.loop.stop(WAIT_S)
    assert stepwise.take(LAYERS)[-1].iteration == 7
    assert not stepwise.loop._thread.is_alive()


# ---- with the real engine


@pytest.fixture(scope="module")
def real(tiny_llama: Path) -> TorchEngine:
    return load_engine(tiny_llama, blocks=8, block_tokens=4, threads=1)


def prompt_batch(iteration: int, tokens: Sequence[int], blocks: Sequence[int]) -> Batch:
    chunk = Chunk(
        request_id=RequestId("r"),
        token_ids=tuple(tokens),
        start=0,
        block_table=tuple(BlockId(block) for block in blocks),
        draw=Draw(params=SamplingParams(), position=len(tokens)),
    )
    return Batch(iteration=iteration, chunks=(chunk,))


def test_what_a_copy_reads_when_it_starts_is_what_its_blocks_hold_in_the_end(
    real: TorchEngine,
) -> None:
    """A copy that began a layer too early would read what was there before."""
    blocks = (5, 2, 7)
    real.cache.tensor.fill_(torch.nan)
    read: list[tuple[Copy, torch.Tensor]] = []
    done: Queue[Any] = Queue()

    def start(copy: Copy) -> None:
        held = real.read_blocks(copy.first_layer, copy.last_layer, copy.source_blocks)
        read.append((copy, held))

    loop = EngineLoop(real, done.put, start)
    copies = [copy_of(first, first + 2, blocks) for first in (0, 2, 4)]
    batch = prompt_batch(3, range(1, 13), blocks)
    loop.run(RunIteration(batch=batch, copies=tuple(copies)))
    ended = done.get(timeout=WAIT_S)
    loop.stop(WAIT_S)
    assert ended.iteration == 3
    assert ended.sampled[0] is not None
    assert [copy for copy, _ in read] == copies
    for copy, held in read:
        assert not held.isnan().any()
        now = real.read_blocks(copy.first_layer, copy.last_layer, copy.source_blocks)
        assert torch.equal(held, now)


def test_a_layer_is_announced_before_the_next_one_is_stored(real: TorchEngine) -> None:
    real.cache.tensor.fill_(torch.nan)
    stored: list[int] = []

    def on_layer(layer: int) -> None:
        held = real.cache.tensor[:, :, 4].isnan().flatten(1).any(dim=1)
        stored.append(int((~held).sum()))
        assert layer == len(stored) - 1

    real.run(prompt_batch(1, (1, 2, 3, 4), (4,)), on_layer)
    assert stored == list(range(1, LAYERS + 1))


FAILING = """
import logging, threading
from splitweave.proto.batch import Batch
from splitweave.proto.effects import RunIteration
from splitweave.workers.live.engine_loop import EngineLoop
logging.basicConfig(format="%(levelname)s %(message)s")
class Engine:
    def run(self, batch, on_layer):
        raise RuntimeError("no more memory")
loop = EngineLoop(Engine(), lambda event: print("posted", event, flush=True), print)
loop.run(RunIteration(batch=Batch(iteration=41, chunks=())))
threading.Event().wait(300)
print("outlived", flush=True)
"""


def test_an_engine_that_fails_ends_the_process_with_the_reason_and_no_event() -> None:
    path = os.pathsep.join(entry for entry in sys.path if entry)
    ended = subprocess.run(
        [sys.executable, "-P", "-c", FAILING],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=290,
    )
    assert ended.returncode == 1, ended.stderr
    assert "CRITICAL iteration 41 failed" in ended.stderr
    assert "no more memory" in ended.stderr
    assert ended.stdout == ""


def test_iterations_are_timed_from_the_first_time_that_somebody_asks(engine: Scripted) -> None:
    engine.loop.run(order(1))
    engine.take(LAYERS + 1)
    assert engine.loop.log.take() == []
    for number in (2, 3):
        engine.loop.run(order(number))
    engine.take(2 * LAYERS + 2)
    engine.loop.stop(WAIT_S)
    second, third = engine.loop.log.take()
    assert second.began_ns <= second.ended_ns <= third.began_ns <= third.ended_ns
