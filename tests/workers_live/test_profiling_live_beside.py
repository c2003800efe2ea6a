"""Which iterations of live workers lay beside others' is told from their logs."""

from itertools import product

import pytest
from splitweave.workers.live.iteration_log import TimedIteration
from splitweave.workers.live.profiling.beside import DECODE, KINDS, PREFILL, Beside
from splitweave.workers.live.profiling.live import Host, LiveCost
from splitweave.workers.live.profiling.live_beside import BesideSamples
from splitweave.workers.live.profiling.shapes import Shape

MS = 1_000_000
BETWEEN = Host(base_us=0, each_us=0)
PLAIN = LiveCost(prefill=1.0, decode=1.0, between=BETWEEN)
ONE, LONG = Shape(decodes=1, decode_context=32), Shape(prefill_tokens=128)
BARE_US = {ONE: 10_000.0, LONG: 100_000.0}


def decode(began_ms: float, took_ms: float) -> TimedIteration:
    return TimedIteration((), 1, 40, round(began_ms * MS), round((began_ms + took_ms) * MS))


def prefill(began_ms: float, took_ms: float) -> TimedIteration:
    end = round((began_ms + took_ms) * MS)
    return TimedIteration(((128, 0),), 0, 0, round(began_ms * MS), end)


def seen(
    *logs: list[TimedIteration], cost: LiveCost = PLAIN
) -> dict[tuple[str, Shape], list[float]]:
    samples = BesideSamples(cost, len(logs) - 1)
    samples.add(logs, BARE_US)
    return {key: [round(ratio, 6) for ratio in found] for key, found in samples.seen.items()}


def test_an_iteration_counts_if_another_worker_computed_nearly_all_of_its_time() -> None:
    decodes = [decode(12.5 * number, 12.0) for number in range(12)]  # to 149.5, pauses of 0.5
    assert seen(decodes, [prefill(0, 125.0)]) == {
        (PREFILL, ONE): [1.2] * 10,
        (DECODE, LONG): [1.25],
    }


def test_one_that_was_half_alone_says_nothing() -> None:
    assert seen([decode(0, 12.0)], [prefill(6.0, 100.0)]) == {}


def test_beside_two_neighbours_both_must_have_computed() -> None:
    busy = [prefill(0, 200.0)]
    assert seen([decode(10, 15.0)], busy, busy)[PREFILL, ONE] == [1.5]
    assert (PREFILL, ONE) not in seen([decode(10, 15.0)], busy, [])


def test_beside_a_decode_and_a_prefill_at_once_is_beside_neither() -> None:
    assert (PREFILL, ONE) not in seen([decode(1, 15.0)], [prefill(0, 99.0)], [decode(0, 99.0)])
    assert (DECODE, ONE) not in seen([decode(1, 15.0)], [prefill(0, 99.0)], [decode(0, 99.0)])


def test_what_a_live_worker_takes_by_itself_is_in_the_table_already() -> None:
    cost = LiveCost(prefill=1.25, decode=1.2, between=BETWEEN)
    found = seen([decode(10, 18.0)], [prefill(0, 125.0)], cost=cost)
    assert found == {(PREFILL, ONE): [1.5]}
    assert seen([prefill(0, 125.0)], [decode(0, 125.0)], cost=cost)[DECODE, LONG] == [1.0]


def test_a_shape_that_the_bare_engine_did_not_compute_says_nothing() -> None:
    mixed = TimedIteration(((128, 0),), 3, 120, 0, 100 * MS)
    assert seen([mixed], [prefill(0, 100.0)]) == {(PREFILL, LONG): [1.0]}, "only the other"


def test_medians_go_above_the_table_and_what_was_not_seen_is_taken_from_the_others() -> None:
    samples = BesideSamples(PLAIN, 1)
    for took_ms in (11.0, 12.0, 30.0):
        samples.add([[decode(0, took_ms)], [prefill(0, 120.0)]], BARE_US)
    found = samples.beside()
    assert found.factor("decode", "prefill") == pytest.approx(1.2)
    assert found.factor("decode", "decode") == pytest.approx(1.2), "never beside a decode"
    assert found.describe("decode", "decode").endswith("not seen")
    assert "1.20 x" in found.describe("decode", "prefill")


def test_where_nothing_was_seen_nothing_slows() -> None:
    empty = Beside(neighbours=1, ratios={kind: {} for kind in KINDS})
    assert {empty.factor(kind, other) for kind, other in product(KINDS, KINDS)} == {1.0}
    assert len(empty.lines()) == 2
