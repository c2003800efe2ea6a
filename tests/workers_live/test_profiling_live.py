"""What a live worker takes beside the bare engine: gathered, fitted, and put into the table."""

import pytest
from splitweave.cluster.live.profile_live import CHUNK_TOKENS, cluster_of, loads_of
from splitweave.workers.live.iteration_log import TimedIteration
from splitweave.workers.live.profiling.live import (
    Host,
    LiveCost,
    LiveSamples,
    shape_of,
    shapes_seen,
)
from splitweave.workers.live.profiling.profile import Profile, table_of
from splitweave.workers.live.profiling.shapes import Room, Shape

US = 1_000
ROOM = Room(
    batched_tokens_max=512, sequences_max=32, context_tokens_max=2048, blocks=1024, block_tokens=16
)
TINY = Room(
    batched_tokens_max=16, sequences_max=2, context_tokens_max=64, blocks=16, block_tokens=16
)
COST = LiveCost(prefill=1.1, decode=1.5, between=Host(base_us=100, each_us=10))


def decodes(count: int, began_us: int, took_us: int) -> TimedIteration:
    return TimedIteration((), count, 40 * count, began_us * US, (began_us + took_us) * US)


def prefill(tokens: int, before: int, began_us: int, took_us: int) -> TimedIteration:
    return TimedIteration(((tokens, before),), 0, 0, began_us * US, (began_us + took_us) * US)


def test_an_iteration_is_a_shape_that_the_bare_engine_can_compute() -> None:
    assert shape_of(decodes(3, 0, 1)) == Shape(decodes=3, decode_context=32)
    assert shape_of(prefill(20, 128, 0, 1)) == Shape(prefill_tokens=20, prefill_context=128)
    two = TimedIteration(((20, 0), (30, 16)), 0, 0, 0, 1)
    assert shape_of(two) == Shape(prefill_tokens=50, prefill_context=16)
    mixed = TimedIteration(((20, 0),), 2, 80, 0, 1)
    runs = [decodes(3, 0, 1), prefill(8, 0, 2, 1), mixed, decodes(3, 5, 1)]
    assert shapes_seen(runs) == [shape_of(runs[0]), shape_of(runs[1])]


def test_engine_and_hand_offs_are_told_apart() -> None:
    samples = LiveSamples()
    one = [decodes(1, 0, 1000), decodes(1, 1130, 1000), decodes(1, 2260, 1000)]
    many = [decodes(8, 0, 3000), decodes(8, 3200, 3000), decodes(8, 900_000, 3000)]
    samples.add(one, {shape_of(one[0]): 800.0})
    samples.add(many, {shape_of(many[0]): 2400.0})
    samples.add([prefill(8, 0, 0, 440)], {Shape(prefill_tokens=8): 400.0})
    cost = samples.cost()
    assert cost.decode == pytest.approx(1.25)
    assert cost.prefill == pytest.approx(1.1)
    assert cost.between.us(1) == pytest.approx(130)
    assert cost.between.us(8) == pytest.approx(200)


def test_a_live_worker_is_never_faster_than_its_engine() -> None:
    samples = LiveSamples()
    runs = [decodes(1, 0, 700), decodes(1, 720, 700)]
    samples.add(runs, {shape_of(runs[0]): 800.0})
    assert samples.cost().decode == 1.0
    assert samples.cost().prefill == 1.0


def test_the_table_holds_a_live_workers_iterations_if_they_were_timed() -> None:
    profile = Profile(
        times_us={Shape(prefill_tokens=8): 100.0, Shape(decodes=2, decode_context=16): 50.0},
        host=Host(base_us=7, each_us=3), missing=0, device="d", model="m", live=COST,
    )  # fmt: skip
    lines = table_of(profile).splitlines()
    assert lines[-2:] == ["8,0,0,0,220.0", "0,0,2,16,195.0"]
    said = "engine x 1.100 in prefills, x 1.500 in decodes, 100 us and 10.0 us per request"
    assert f"# live = {said} between two, in every row" in lines
    assert not any(line.startswith("# host") for line in lines)


@pytest.mark.parametrize("room", [ROOM, TINY])
def test_the_loads_fit_the_worker(room: Room) -> None:
    loads = loads_of(room)
    assert loads[-1].output_tokens == 2
    assert {load.streams for load in loads} >= {1}
    for load in loads:
        assert load.streams <= room.sequences_max
        assert load.prompt_tokens + load.output_tokens <= room.context_tokens_max
        each = -(-(load.prompt_tokens + load.output_tokens) // room.block_tokens)
        assert load.streams * each <= room.blocks


@pytest.mark.parametrize("room", [ROOM, TINY])
def test_the_cluster_is_one_worker_of_that_room(room: Room) -> None:
    config = cluster_of("demo", "cpu", 1, room)
    (pool,) = config.pools
    assert (pool.count, pool.blocks, pool.threads, pool.gpus) == (1, room.blocks, 1, 0.0)
    assert config.budgets.prefill_chunk_tokens == min(CHUNK_TOKENS, room.batched_tokens_max)
    assert cluster_of("demo", "cuda", 1, room).pools[0].gpus == 1.0
