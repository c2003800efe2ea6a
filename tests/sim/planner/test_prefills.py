"""A prefill pool that is too small by itself is too small beside any decode pool."""

from dataclasses import replace
from random import Random

import pytest
from plan_questions import SMALL, mixed, pair, small_load, small_question, small_types
from splitweave.sim.planner.bounds import Bounds
from splitweave.sim.planner.capacity import Contender, Race
from splitweave.sim.planner.fleet import shapes_of
from splitweave.sim.planner.prefills import PrefillPools, Range, alone, roomy
from splitweave.sim.planner.question import Question
from splitweave.sim.planner.search import Search, Space
from splitweave.sim.planner.slo import Slo, Unit
from splitweave.sim.planner.trace import Load
from splitweave.sim.planner.trial import judge

TYPES = small_types(SMALL)
KINDS = [TYPES[name] for name in sorted(TYPES)]


def bursty(seed: int) -> Question:
    """Runs of requests at once, at a rate that some pools bear and some do not."""
    dice = Random(seed)
    load = small_load(seed=seed, requests=30, rate_per_s=dice.choice((4.0, 8.0, 16.0)))
    size = dice.choice((1, 4, 10))
    arrivals = tuple(
        replace(arrival, at_ns=load.arrivals[index // size * size].at_ns)
        for index, arrival in enumerate(load.arrivals)
    )
    slo = Slo(ttft_s=dice.choice((0.4, 0.8, 1.5)), tpot_s=0.2, percent=dice.choice((70.0, 90.0)))
    return small_question(Load("bursts", arrivals), slo)


@pytest.mark.parametrize("seed", range(8))
def test_no_decode_pool_helps_prefill_workers_that_are_too_few_alone(seed: int) -> None:
    question = bursty(seed)
    for kind in KINDS:
        for count in (1, 2):
            by_itself = judge(roomy(kind, count, KINDS, question), alone(question))
            if by_itself.met:
                continue
            for other in KINDS:
                assert not judge(pair(kind, count, other, 3), question).met


def test_the_cases_have_pools_of_both_kinds() -> None:
    told = [
        judge(roomy(kind, 1, KINDS, question), alone(question)).met
        for question in map(bursty, range(8))
        for kind in KINDS
    ]
    assert 5 < sum(told) < len(told) - 5


def test_a_pool_alone_answers_every_prompt_with_one_token_and_has_room_for_all() -> None:
    question = bursty(1)
    asked = alone(question)
    assert [a.output_tokens for a in asked.load.arrivals] == [1] * 30
    assert [a.prompt_tokens for a in asked.load.arrivals] == [
        a.prompt_tokens for a in question.load.arrivals
    ]
    assert asked.slo.misses_max(1000) == pytest.approx(question.slo.misses_max(1000) * 1.1, abs=1)
    assert alone(replace(question, slo=Slo(ttft_s=1, tpot_s=1, percent=100))).slo.percent == 100
    fleet = roomy(KINDS[0], 3, KINDS, question)
    tokens = sum(a.prompt_tokens + a.output_tokens for a in question.load.arrivals)
    assert fleet.counts[0] == 3
    assert fleet.counts[1] * fleet.shape.types[1].blocks.count * 16 > 2 * tokens


def enclose(pools: PrefillPools, need: dict[str, int]) -> tuple[dict[str, int], int]:
    """Until nothing is asked: the most that failed of each type, and how many were tried."""
    failed: dict[str, int] = {}
    tried: set[tuple[str, int]] = set()
    while tries := pools.tries():
        assert len({kind.name for kind, _ in tries}) == len(tries)
        for kind, count in tries:
            assert (kind.name, count) not in tried
            tried.add((kind.name, count))
            pools.ended(kind, count, met=count >= need[kind.name])
            if count < need[kind.name]:
                failed[kind.name] = max(failed.get(kind.name, 0), count)
    return failed, len(tried)


def ranges(seed: int, need: dict[str, int], most: int) -> list[Range]:
    """Bounds below what is needed, guesses on either side of it."""
    dice = Random(seed)
    found = []
    for kind in KINDS:
        least = max(1, need[kind.name] - dice.randint(0, 12))
        likely = max(1, need[kind.name] + dice.randint(-4, 4))
        found.append(Range(kind=kind, least=min(least, most), most=most, likely=likely))
    return found


@pytest.mark.parametrize("seed", range(20))
def test_with_a_fleet_found_every_type_is_enclosed(seed: int) -> None:
    dice = Random(seed)
    need = {kind.name: dice.randint(1, 40) for kind in KINDS}
    pools = PrefillPools(Unit.DOLLARS)
    given = ranges(seed, need, most=32)
    pools.ranges(given, cheaper=True)
    failed, tried = enclose(pools, need)
    assert tried <= 6 * len(KINDS)
    enclosed = {kind.name: count for kind, count in pools.enclosed()}
    for one in given:
        least = need[one.kind.name]
        if least > 32:
            assert failed[one.kind.name] == 32
        else:
            assert enclosed[one.kind.name] == least
            assert failed.get(one.kind.name, one.least - 1) == least - 1


@pytest.mark.parametrize("seed", range(20))
def test_without_one_only_cheap_guesses_are_tried_and_are_enclosed(seed: int) -> None:
    dice = Random(seed)
    need = {kind.name: dice.randint(1, 28) for kind in KINDS}
    pools = PrefillPools(Unit.DOLLARS)
    pools.ranges(ranges(seed, need, most=32), cheaper=False)
    _, tried = enclose(pools, need)
    enclosed = pools.enclosed()
    assert enclosed
    assert tried <= 8 * len(KINDS)
    assert all(count == need[kind.name] for kind, count in enclosed)


def test_a_type_too_small_at_its_most_takes_one_run() -> None:
    pools = PrefillPools(Unit.DOLLARS)
    pools.ranges([Range(kind=KINDS[0], least=3, most=9, likely=5)], cheaper=True)
    assert pools.tries() == [(KINDS[0], 9)]
    pools.ended(KINDS[0], 9, met=False)
    assert pools.tries() == []


def test_a_cheaper_fleet_found_later_leaves_fewer_to_try() -> None:
    pools = PrefillPools(Unit.DOLLARS)
    one = Range(kind=KINDS[0], least=3, most=20, likely=12)
    pools.ranges([one], cheaper=False)
    assert pools.tries() == [(KINDS[0], 12)]
    pools.ended(KINDS[0], 12, met=True)
    assert pools.tries() == [(KINDS[0], 11)]
    pools.ranges([replace(one, most=10)], cheaper=True)
    assert pools.tries() == [(KINDS[0], 10)]
    pools.ended(KINDS[0], 10, met=True)
    assert pools.tries() == [(KINDS[0], 6)]
    pools.ranges([], cheaper=True)
    assert pools.tries() == []


def test_the_first_fleet_tried_has_the_enclosed_pool_and_decode_workers_with_slack() -> None:
    question = small_question(small_load(requests=20))
    space = Space(shapes=tuple(shapes_of(KINDS)), unit=Unit.DOLLARS, gpus_max=6)
    bounds = Bounds(question)
    search = Search(space, bounds)
    fleet = search.opening(KINDS[0], 2)
    assert fleet is not None
    assert fleet.counts[0] == 2
    assert fleet.shape.types[0] is KINDS[0]
    assert fleet.counts[1] >= 1.5 * bounds.least(fleet.shape)[1]
    search.too_few(KINDS[0], 6)
    assert search.opening(KINDS[0], 2) is None


def test_fleets_with_too_few_prefill_workers_are_closed_in_every_shape() -> None:
    question = small_question(small_load(requests=20))
    space = Space(shapes=tuple(shapes_of(KINDS)), unit=Unit.DOLLARS, gpus_max=6)
    search = Search(space, Bounds(question))
    assert {kind.name for kind, _, _ in search.prefills()} == set(TYPES)
    open_before = search.found.open
    kind = TYPES["L40S-TP1"]
    search.too_few(kind, 2)
    found = search.found
    assert found.short == open_before - found.open > 0
    assert {k.name: low for k, low, _ in search.prefills()}["L40S-TP1"] == 3
    search.too_few(kind, 2)
    assert found.short == open_before - found.open
    search.failed(mixed(kind, 1))
    whole = found.beyond_bounds + found.short + found.tried + found.open + found.beyond_others
    assert whole == found.candidates
    assert found.beyond_others >= 0


def test_a_type_that_prefills_for_one_shape_alone_is_not_tried_by_itself() -> None:
    question = small_question(small_load(requests=20))
    space = Space(shapes=tuple(shapes_of(KINDS[:1])), unit=Unit.DOLLARS, gpus_max=6)
    assert Search(space, Bounds(question)).prefills() == []


def test_in_a_race_all_with_as_few_prefill_workers_fall_together() -> None:
    first, second = KINDS[0], KINDS[1]
    fleets = [pair(first, 2, first, 1), pair(first, 2, second, 1), pair(first, 3, second, 1)]
    fleets += [pair(second, 1, first, 1), mixed(first, 1)]
    race = Race([Contender(fleet=fleet, high=9) for fleet in fleets])
    assert [race.shared(fleet) for fleet in fleets] == [True, True, True, False, False]
    race.too_few(first, 2, 4)
    race.ended(fleets[2], 5, met=True)
    assert race.open == 3
    assert not race.shared(fleets[2])
    assert {fleet.name for fleet, _ in race.tries(9)} == {f.name for f in fleets[2:]}
