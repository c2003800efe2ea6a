"""What other workers of the machine cost: measured in turns, written above the table."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from splitweave.cluster.live.cli.app import app
from splitweave.proto.batch import Batch
from splitweave.sim.costs.slowdown import Kind, read_slowdown
from splitweave.workers.live.profiling.beside import (
    DECODE,
    KINDS,
    PREFILL,
    Beside,
    kind_of,
    measure_beside,
    shapes_beside,
)
from splitweave.workers.live.profiling.neighbours import (
    EngineSetup,
    NeighbourError,
    Neighbours,
)
from splitweave.workers.live.profiling.shapes import Room, Shape
from splitweave.workers.live.profiling.timing import batch_of
from typer.testing import CliRunner

ROOM = Room(
    batched_tokens_max=128, sequences_max=8, context_tokens_max=512, blocks=256, block_tokens=16
)
TINY = Room(
    batched_tokens_max=16, sequences_max=2, context_tokens_max=64, blocks=16, block_tokens=16
)


def beside(prefill: Sequence[float], decode: Sequence[float], neighbours: int = 1) -> Beside:
    """Prefills and decodes by so much, whoever computes beside them."""
    ratios = {Shape(prefill_tokens=n + 1): ratio for n, ratio in enumerate(prefill)}
    ratios |= {Shape(decodes=n + 1): ratio for n, ratio in enumerate(decode)}
    return Beside(neighbours=neighbours, ratios=dict.fromkeys(KINDS, ratios))


@pytest.mark.parametrize("room", [ROOM, TINY])
def test_both_kinds_are_measured_whatever_the_room(room: Room) -> None:
    shapes = shapes_beside(room)
    assert {kind_of(shape) for shape in shapes} == {PREFILL, DECODE}
    assert all(room.holds(shape) for shape in shapes)
    assert kind_of(Shape(prefill_tokens=1, decodes=8)) == PREFILL


class Clock:
    """An engine of the test's own time, and neighbours who slow it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 0.0
        self.loaded: list[str] = []
        self.beside = ""
        monkeypatch.setattr("time.perf_counter", lambda: self.now_s)

    def __len__(self) -> int:
        return 2

    def run(self, batch: Batch, on_layer: Callable[[int], None]) -> tuple[None, ...]:
        prefill = any(len(chunk.token_ids) > 1 for chunk in batch.chunks)
        slower = {"": 1.0, PREFILL: 1.5, DECODE: 1.2}[self.beside]
        self.now_s += 0.01 * batch.tokens * (slower if prefill else 1 + 2 * (slower - 1))
        return ()

    def load(self, batches: Sequence[Batch]) -> None:
        prefill = {any(len(chunk.token_ids) > 1 for chunk in batch.chunks) for batch in batches}
        self.beside = PREFILL if prefill == {True} else DECODE
        self.loaded.append(self.beside)

    def rest(self) -> None:
        self.beside = ""


def test_shapes_take_turns_alone_and_beside_each_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    clock: Any = Clock(monkeypatch)
    seen: list[tuple[int, int]] = []
    found = measure_beside(clock, ROOM, clock, 3, lambda *now: seen.append(now))
    total = 9 * len(shapes_beside(ROOM))
    assert seen == [(count, total) for count in range(1, total + 1)]
    assert clock.loaded == [PREFILL, DECODE] * 3
    assert clock.beside == ""
    assert found.factor(PREFILL, PREFILL) == pytest.approx(1.5)
    assert found.factor(PREFILL, DECODE) == pytest.approx(1.2)
    assert found.factor(DECODE, PREFILL) == pytest.approx(2.0)
    assert found.factor(DECODE, DECODE) == pytest.approx(1.4)
    assert found.neighbours == 2


def test_what_is_written_is_what_the_simulator_reads(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    head = beside([1.2, 1.4, 1.6], [1.1, 1.3], neighbours=2).lines()
    assert head[0] == "# slowdown prefill = 1.400 beside 2 prefill, 1.400 beside 2 decode"
    path.write_text("\n".join([*head, "prefill_tokens", "1"]))
    slowdown = read_slowdown(path)
    assert slowdown is not None
    assert slowdown.factor(Kind.PREFILL, [Kind.DECODE] * 2) == pytest.approx(1.4)
    assert slowdown.factor(Kind.DECODE, [Kind.PREFILL]) == pytest.approx(1.1)


def test_a_neighbour_never_makes_faster_but_what_was_seen_is_said() -> None:
    found = beside([0.9, 0.98], [1.0])
    assert found.factor(PREFILL, DECODE) == 1.0
    assert found.describe(PREFILL, DECODE) == (
        "prefill beside 1 decode: 0.94 x (0.90 to 0.98 by shape)"
    )


def setup_of(model: Path, room: Room) -> EngineSetup:
    return EngineSetup(
        model_path=str(model), device="cpu", threads=1, blocks=room.blocks,
        block_tokens=room.block_tokens,
    )  # fmt: skip


def test_neighbours_compute_until_told_to_rest_and_end_with_their_pipe(tiny_llama: Path) -> None:
    neighbours = Neighbours(setup_of(tiny_llama, TINY), 2)
    with neighbours:
        batches = [batch_of(Shape(prefill_tokens=4), TINY.block_tokens)]
        neighbours.load(batches)
        neighbours.load(batches)
        neighbours.rest()
        neighbours.rest()
        neighbours.load(batches)
    assert all(process.exitcode == 0 for process in neighbours._processes)


def test_a_neighbour_that_cannot_start_is_an_error_that_says_so(tmp_path: Path) -> None:
    with pytest.raises(NeighbourError, match="a neighbour ended"):
        Neighbours(setup_of(tmp_path / "nothing", TINY), 1)


def test_the_command_measures_beside_so_many(tiny_llama: Path, tmp_path: Path) -> None:
    out = tmp_path / "mine.csv"
    given = ["profile", "--model", str(tiny_llama), "--threads", "1", "--rounds", "1"]
    given += ["--blocks", "16", "--batched-tokens", "16", "--sequences", "2", "--context", "64"]
    done = CliRunner().invoke(app, [*given, "--beside", "1", "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert "decode beside 1 prefill" in done.output
    assert read_slowdown(out) is not None
