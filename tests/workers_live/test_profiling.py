"""A profile of a real engine: every shape that fits, once, in a table that the simulator reads."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from splitweave.cluster.live.cli.app import app
from splitweave.sim.costs.table import COLUMNS as READ
from splitweave.sim.costs.table import MeasuredTable
from splitweave.sim.costs.work import Prefill, Work
from splitweave.workers.live.engine import TorchEngine, load_engine
from splitweave.workers.live.profiling.links import _fitted, measure_links
from splitweave.workers.live.profiling.profile import (
    COLUMNS,
    Host,
    Profile,
    device_name,
    measure,
    table_of,
)
from splitweave.workers.live.profiling.shapes import Room, Shape, left_out, shapes_of
from splitweave.workers.live.profiling.timing import batch_of, host_us
from typer.testing import CliRunner

ROOM = Room(
    batched_tokens_max=16, sequences_max=8, context_tokens_max=100, blocks=64, block_tokens=16
)


@pytest.fixture(scope="module")
def engine(tiny_llama: Path) -> TorchEngine:
    return load_engine(tiny_llama, ROOM.blocks, ROOM.block_tokens, threads=1)


@settings(max_examples=40, deadline=None)
@given(
    st.builds(
        Room,
        batched_tokens_max=st.integers(1, 4096),
        sequences_max=st.integers(1, 128),
        context_tokens_max=st.integers(2, 8192),
        blocks=st.integers(1, 2048),
        block_tokens=st.integers(1, 64),
    )
)
def test_every_shape_fits_the_worker_and_none_comes_twice(room: Room) -> None:
    shapes = shapes_of(room)
    assert len(set(shapes)) == len(shapes)
    assert all(shape.tokens >= 1 and room.holds(shape) for shape in shapes)
    assert left_out(room) >= 0


def test_both_grids_and_mixed_shapes_are_there() -> None:
    shapes = shapes_of(ROOM)
    kinds = {(shape.prefill_tokens > 0, shape.decodes > 0) for shape in shapes}
    assert kinds == {(True, False), (False, True), (True, True)}
    assert {shape.prefill_tokens for shape in shapes if not shape.decodes} == {1, 2, 4, 8, 16}
    assert {shape.decodes for shape in shapes if not shape.prefill_tokens} == {1, 2, 4, 8}


def test_a_batch_is_its_shape_in_blocks_of_its_own() -> None:
    shape = Shape(prefill_tokens=20, prefill_context=16, decodes=3, decode_context=40)
    batch = batch_of(shape, 16)
    blocks = [block for chunk in batch.chunks for block in chunk.block_table]
    assert sorted(blocks) == list(range(shape.blocks(16)))
    assert [len(chunk.token_ids) for chunk in batch.chunks] == [1, 1, 1, 20]
    assert [chunk.start for chunk in batch.chunks] == [40, 40, 40, 16]
    assert all(len(chunk.block_table) * 16 >= chunk.end for chunk in batch.chunks)
    assert batch.tokens == shape.tokens


def test_a_measured_profile_is_a_table_that_the_simulator_reads(
    engine: TorchEngine, tmp_path: Path
) -> None:
    seen: list[tuple[int, int]] = []
    profile = measure(engine, ROOM, "tiny", 2, lambda *now: seen.append(now))
    total = 3 * len(shapes_of(ROOM))
    assert seen == [(count, total) for count in range(1, total + 1)]
    assert all(time_us > 0 for time_us in profile.times_us.values())
    path = tmp_path / "tiny.csv"
    path.write_text(table_of(profile))
    table = MeasuredTable(path)
    assert "engine splitweave" in table.describe()[0]
    assert "model tiny" in table.describe()[0]
    work = Work(decodes=4, decode_keys=4 * 65, longest=65, draws=4)
    measured_us = profile.times_us[Shape(decodes=4, decode_context=64)] + profile.host.us(4)
    assert table.work_ns(work) / 1e3 == pytest.approx(measured_us, rel=0.5)
    mixed = Work(prefills=(Prefill(8, 0),), decodes=2, decode_keys=34, longest=17, draws=3)
    assert table.work_ns(mixed) > 0
    assert table.mixed_error is not None


def test_the_columns_are_those_that_are_read() -> None:
    assert COLUMNS == READ


def test_host_time_is_in_every_row_and_said() -> None:
    profile = Profile(
        times_us={Shape(prefill_tokens=8): 100.0, Shape(decodes=2, decode_context=16): 50.0},
        host=Host(base_us=10, each_us=3), missing=0, device="d", model="m",
    )  # fmt: skip
    lines = table_of(profile).splitlines()
    assert lines[-2:] == ["8,0,0,0,113.0", "0,0,2,16,66.0"]
    assert "# host = 10.0 us and 3.00 us per request, in every row" in lines
    assert any(line.startswith("# date = 20") for line in lines)


@pytest.mark.parametrize("decodes", [1, 7, 32])
def test_a_core_takes_some_time_between_iterations(decodes: int) -> None:
    assert 0 < host_us(decodes, 16) < 1e6


def test_the_machine_has_a_name() -> None:
    assert device_name()


def test_the_command_writes_a_table_and_says_how_to_use_it(
    tiny_llama: Path, tmp_path: Path
) -> None:
    out = tmp_path / "deep" / "mine.csv"
    given = ["profile", "--model", str(tiny_llama), "--threads", "1", "--rounds", "1"]
    given += ["--blocks", "64", "--batched-tokens", "16", "--sequences", "8", "--context", "100"]
    done = CliRunner().invoke(app, [*given, "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert MeasuredTable(out).describe()
    said = done.output.replace("\n", "")
    assert f"wrote {out}" in said
    assert 'kind = "table"' in said
    assert "link_gbytes_per_s" in said


def test_copies_are_timed_through_memory_and_through_sockets(engine: TorchEngine) -> None:
    links = measure_links(engine, rounds=2)
    assert [link.way for link in links] == ["memory", "network"]
    for link in links:
        assert link.bytes_per_s > 1e5
        assert link.latency_us >= 0
        assert link.error >= 0


def test_a_link_is_the_line_through_the_least_and_the_largest_copy() -> None:
    link = _fitted("w", {1_000: 110.0, 4_000: 150.0, 16_000: 260.0})
    assert link.bytes_per_s == pytest.approx(1e8)
    assert link.latency_us == pytest.approx(100.0)
    assert link.error == pytest.approx(0.0)
    assert _fitted("w", {1_000: 10.0}).bytes_per_s == pytest.approx(1e8)
