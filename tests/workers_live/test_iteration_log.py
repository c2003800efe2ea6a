"""A worker's log of its iterations, and what a benchmark tells from two of them."""

from pathlib import Path

import pytest
from splitweave.benchmarks.truths import iterations
from splitweave.benchmarks.truths.iterations import Life, Others, explained, work_of
from splitweave.sim.costs.table import MeasuredTable
from splitweave.sim.costs.work import Prefill, Work
from splitweave.sim.costs.work import work_of as work_of_batch
from splitweave.workers.live.iteration_log import (
    ITERATIONS_KEPT_MAX,
    IterationLog,
    TimedIteration,
)
from splitweave.workers.live.profiling.shapes import Shape
from splitweave.workers.live.profiling.timing import batch_of

MS = 1_000_000
MIXED = batch_of(Shape(prefill_tokens=20, prefill_context=16, decodes=3, decode_context=40), 16)
TABLE = """# engine = ours
# version = 0.1
# kernel = torch
# device = two cores
# model = small
# date = 2026-11-21
prefill_tokens,prefill_context,decodes,decode_context,time_us
10,0,0,0,10000
0,0,1,10,5000
"""


def decode(began_ms: int, ended_ms: int) -> TimedIteration:
    return TimedIteration((), 1, 10, began_ms * MS, ended_ms * MS)


def prefill(began_ms: int, ended_ms: int) -> TimedIteration:
    return TimedIteration(((10, 0),), 0, 0, began_ms * MS, ended_ms * MS)


def test_nothing_is_kept_before_somebody_asks_and_nothing_twice() -> None:
    log = IterationLog()
    log.add(MIXED, 1, 2)
    assert log.take() == []
    log.add(MIXED, 3, 7)
    (kept,) = log.take()
    assert kept == TimedIteration(((20, 16),), 3, 3 * 41, 3, 7)
    assert log.take() == []


def test_the_oldest_go_first() -> None:
    log = IterationLog()
    log.take()
    for number in range(ITERATIONS_KEPT_MAX + 3):
        log.add(MIXED, number, number + 1)
    kept = log.take()
    assert len(kept) == ITERATIONS_KEPT_MAX
    assert kept[0].began_ns == 3


def test_a_logged_iteration_is_the_work_that_the_simulator_would_see() -> None:
    log = IterationLog()
    log.take()
    log.add(MIXED, 0, 1)
    whole = work_of_batch(MIXED)
    assert work_of(log.take()[0]) == Work(whole.prefills, whole.decodes, whole.decode_keys)
    assert whole.prefills == (Prefill(20, 16),)


@pytest.mark.parametrize(
    ("run", "share"),
    [(decode(0, 10), 0.0), (decode(15, 25), 1.0), (decode(5, 15), 0.5), (decode(15, 55), 0.5)],
)
def test_how_long_another_computed_beside_it(run: TimedIteration, share: float) -> None:
    live = {"p": [prefill(10, 20), prefill(20, 30), prefill(50, 60)], "d": [run]}
    assert Others(live, "d").share(run) == pytest.approx(share)
    assert Others({"d": [run]}, "d").share(run) == 0.0


def test_a_miss_is_explained_worker_by_worker(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(TABLE)
    live = {
        "p": [prefill(100, 120)],
        "d": [decode(0, 6), decode(7, 13), decode(105, 115), decode(900, 906)],
    }
    lives = [Life("p", 1, 0.01), Life("d", 2, 0.01)]
    table = explained(lives, live, MeasuredTable(path))
    assert [column.header for column in table.columns] == ["iterations", "p", "d"]
    _, prefills, decodes = (list(column.cells) for column in table.columns)
    assert prefills[:6] == ["1", "1", "10.0", "20.0", "", ""]
    assert decodes[:4] == ["2", "4", "5.0", "7.0"]
    assert decodes[6:8] == ["1.20 (3)", "2.00 (1)"]
    assert decodes[9] == "1.00"


def test_the_pace_of_a_machine_is_one_where_the_profile_is_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "t.csv"
    rows = "64,0,0,0,100\n128,0,0,0,200\n0,0,1,257,10\n0,0,4,257,40\n"
    path.write_text(TABLE[: TABLE.index("10,0")] + rows)
    profile = MeasuredTable(path)
    said = {s: profile.work_ns(iterations._work(s)) / 1e3 for s in iterations.PACE_SHAPES}
    assert sorted(said.values()) == [10, 40, 100, 200]
    monkeypatch.setattr(iterations, "resolve", lambda _: (path, "tiny"))
    monkeypatch.setattr(iterations, "load_engine", lambda *_, **__: None)
    slow = {shape: 1.3 * us for shape, us in said.items()}
    monkeypatch.setattr(iterations, "time_shapes", lambda *_: slow)
    assert iterations.pace(profile) == pytest.approx(1.3)
