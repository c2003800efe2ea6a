"""Bounds are optimistic: no fleet that meets the SLO in a simulation is ever ruled out."""

from dataclasses import replace
from random import Random

import numpy as np
import pytest
from plan_questions import mixed, pair, small_load, small_question, small_types
from splitweave.proto.views import Role
from splitweave.sim.cores import CoreBuilder
from splitweave.sim.planner.bounds import Bounds
from splitweave.sim.planner.demand import (
    decode_s,
    idle_tpot_s,
    idle_ttft_s,
    mixed_s,
    prefill_s,
    requests_of,
)
from splitweave.sim.planner.fleet import Fleet
from splitweave.sim.planner.floor import floor_of
from splitweave.sim.planner.machines import Offer
from splitweave.sim.planner.question import Question
from splitweave.sim.planner.slo import Slo
from splitweave.sim.planner.trace import Load
from splitweave.sim.planner.trial import judge, scenario_of
from splitweave.sim.results.records import Row
from splitweave.sim.run import Run
from splitweave.sim.workloads.arrivals import Arrival, Segment
from splitweave.sim.world import Watching, queue_world

TYPES = small_types(Offer(machines=("L40S", "A10G"), tp_sizes=(1, 2), caps=(1.0, 0.7)))


def random_case(seed: int) -> tuple[Fleet, Question]:
    """A small fleet under a random load: from idle to hopeless."""
    dice = Random(seed)
    load = small_load(
        seed=seed,
        requests=dice.randint(15, 50),
        rate_per_s=dice.choice((1.0, 4.0, 16.0, 60.0)),
        shared=dice.choice((0.0, 0.7)),
    )
    slo = Slo(
        ttft_s=dice.choice((0.3, 1.0, 4.0)),
        tpot_s=dice.choice((0.04, 0.08, 0.3)),
        percent=dice.choice((50.0, 90.0, 100.0)),
    )
    kinds = [TYPES[name] for name in sorted(TYPES)]
    if dice.random() < 0.5:
        fleet = mixed(dice.choice(kinds), dice.randint(1, 3))
    else:
        fleet = pair(dice.choice(kinds), dice.randint(1, 2), dice.choice(kinds), dice.randint(1, 2))
    tokens = dice.choice((None, 256, 1024))
    return fleet, small_question(load, slo, tokens)


@pytest.mark.parametrize("seed", range(40))
def test_a_fleet_that_meets_its_slo_is_never_ruled_out(seed: int) -> None:
    fleet, question = random_case(seed)
    verdict = judge(fleet, question, whole=True)
    bounds = Bounds(question)
    assert verdict.misses >= bounds.certain_misses(fleet.shape)
    if verdict.met:
        assert bounds.allows(fleet)
        assert bounds.possible(fleet.shape, fleet.counts)[-1].all()


def test_the_cases_are_of_both_kinds() -> None:
    told = [judge(*random_case(seed)).met for seed in range(0, 40, 4)]
    ruled_out = [not Bounds(q).allows(f) for f, q in map(random_case, range(40))]
    assert any(told)
    assert not all(told)
    assert sum(ruled_out) >= 8


@pytest.mark.parametrize("seed", range(8))
def test_no_request_is_served_sooner_than_by_an_idle_worker(seed: int) -> None:
    fleet, question = random_case(seed)
    kind, role = fleet.shape.types[0], fleet.shape.roles[0]
    budgets = question.budgets(kind, role)
    requests = requests_of(question.load)
    floors = [
        floor_of(kind, question.model, question.budgets(kind, role))
        for kind, role in zip(fleet.shape.types, fleet.shape.roles, strict=True)
    ]
    first_s = idle_ttft_s(floors[0], requests, budgets)
    rest_s = np.min([idle_tpot_s(floor, requests) for floor in floors], axis=0)
    for index, row in enumerate(rows_of(fleet, question)):
        assert row.ttft_s >= first_s[index]
        if row.output_tokens > 1:
            assert row.tpot_s >= rest_s[index] * (1 - 1e-6)


def rows_of(fleet: Fleet, question: Question) -> list[Row]:
    """Every request in order of its arrival."""
    scenario = scenario_of(fleet, question)
    world = queue_world(scenario, CoreBuilder(scenario), Watching())
    run = Run(world, question.load)
    while not run.done:
        world.scheduler.run_until(world.scheduler.now_ns + 10**9)  # type: ignore[attr-defined]
    return [row for _, row in world.clients.records.by_arrival()]


def test_what_a_worker_computed_took_at_least_what_the_demand_says() -> None:
    question = small_question(small_load(requests=40, rate_per_s=8))
    kind = TYPES["L40S-TP1"]
    verdict = judge(mixed(kind, 1), question, whole=True)
    busy_s = verdict.busy[0] * verdict.span_s
    budgets = question.budgets(kind, Role.MIXED)
    floor = floor_of(kind, question.model, budgets)
    loose = replace(question.slo, tpot_s=1e9)
    least_s = mixed_s(floor, requests_of(question.load), budgets, loose).sum()
    assert 0.4 * busy_s < least_s <= busy_s


def test_a_pool_s_own_work_is_no_more_than_both_works_together() -> None:
    question = small_question()
    kind = TYPES["L40S-TP1"]
    budgets = question.budgets(kind, Role.MIXED)
    floor, requests = floor_of(kind, question.model, budgets), requests_of(question.load)
    both = mixed_s(floor, requests, budgets, question.slo).sum()
    assert prefill_s(floor, requests, budgets).sum() <= both
    assert decode_s(floor, requests, budgets, question.slo).sum() <= both


def test_only_tokens_that_no_earlier_prompt_begins_with_are_counted() -> None:
    system = Segment("system", 512)
    prompts = [
        (system, Segment("own/0", 100)),
        (system, Segment("own/1", 100)),
        (Segment("own/2", 50),),
        (system,),
        (system, Segment("chat", 64)),
        (system, Segment("chat", 200)),
        (system, Segment("chat", 64), Segment("own/6", 10)),
    ]
    arrivals = tuple(
        Arrival(at_ns=index, segments=segments, output_tokens=5)
        for index, segments in enumerate(prompts)
    )
    requests = requests_of(Load("prefixes", arrivals))
    assert requests.shares_prefixes
    assert requests.fresh.tolist() == [612, 100, 50, 1, 64, 136, 10]
    assert requests.pairs[1] == 100 * 512 + 100 * 101 / 2


def test_more_load_needs_more_workers() -> None:
    shape = mixed(TYPES["L40S-TP1"], 1).shape
    question = small_question(small_load(requests=80, rate_per_s=2))
    needs = [Bounds(question.faster(factor)).least(shape)[0] for factor in (1.0, 2.0, 4.0, 8.0)]
    assert needs == sorted(needs)
    assert needs[-1] > 2 * needs[0]


def test_a_prefill_pool_s_spare_time_counts_for_decodes() -> None:
    question = small_question(small_load(requests=60, rate_per_s=6))
    kind = TYPES["A10G-TP2"]
    shape = pair(kind, 1, kind, 1).shape
    possible = Bounds(question).possible(shape, (6, 6))
    least = [int(row.argmax()) + 1 if row.any() else 7 for row in possible]
    assert least == sorted(least, reverse=True)
    assert possible[-1, -1]


def test_bursts_need_more_workers_than_their_mean_does() -> None:
    calm = small_load(requests=120, rate_per_s=4)
    bursts = tuple(
        replace(arrival, at_ns=index // 20 * 20 * 250_000_000)
        for index, arrival in enumerate(calm.arrivals)
    )
    shape = mixed(TYPES["A10G-TP1"], 1).shape
    needs = [
        Bounds(small_question(load, Slo(ttft_s=0.6, tpot_s=0.2))).least(shape)[0]
        for load in (calm, Load("bursts", bursts))
    ]
    assert needs[1] >= 2 * needs[0]


@pytest.mark.parametrize("seed", range(100, 116))
def test_a_fleet_that_copes_with_bursts_is_never_ruled_out(seed: int) -> None:
    dice = Random(seed)
    load = small_load(seed=seed, requests=48, rate_per_s=8)
    size = dice.choice((4, 8, 16))
    arrivals = tuple(
        replace(arrival, at_ns=index // size * size * 10**9 // 8)
        for index, arrival in enumerate(load.arrivals)
    )
    slo = Slo(ttft_s=dice.choice((0.5, 1.0, 2.0)), tpot_s=0.3, percent=dice.choice((60.0, 90.0)))
    question = small_question(Load("bursts", arrivals), slo)
    kind = TYPES[dice.choice(("L40S-TP1", "A10G-TP2", "L40S-TP2"))]
    for count in (1, 2, 3, 4):
        fleet = mixed(kind, count)
        if judge(fleet, question).met:
            assert Bounds(question).allows(fleet)
