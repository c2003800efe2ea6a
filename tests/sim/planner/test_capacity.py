"""The best fleet for a budget is the one that carries most."""

from random import Random

import pytest
from plan_questions import SMALL, mixed, pair, small_ask, small_load, small_question, small_types
from splitweave.proto.toml_file import ConfigError
from splitweave.sim.planner.bounds import Bounds
from splitweave.sim.planner.capacity import (
    LOWEST,
    Contender,
    Race,
    contenders_of,
    factor_of,
)
from splitweave.sim.planner.drafts import Plan
from splitweave.sim.planner.fleet import shapes_of
from splitweave.sim.planner.plan import make_plan, unwatched
from splitweave.sim.planner.search import Space
from splitweave.sim.planner.slo import Budget, Unit
from splitweave.sim.planner.trial import judge

TYPES = small_types(SMALL)


@pytest.mark.parametrize("seed", range(20))
def test_the_race_is_won_by_the_one_that_can_do_most(seed: int) -> None:
    dice = Random(seed)
    can = {mixed(TYPES["L40S-TP1"], count): dice.randint(-20, 30) for count in range(1, 25)}
    fleets = [Contender(fleet=f, high=step + dice.randint(0, 12)) for f, step in can.items()]
    race = Race(fleets)
    runs = 0
    while tries := race.tries(1 + seed % 4):
        for fleet, step in tries:
            runs += 1
            race.ended(fleet, step, met=step <= can[fleet])
    assert race.leader is not None
    assert race.best == max(can.values()) == can[race.leader]
    assert race.open == 0
    assert runs < 150


def test_a_race_that_begins_with_a_record_needs_to_beat_it() -> None:
    race = Race([Contender(fleet=mixed(TYPES["L40S-TP1"], 1), high=3)], start=0)
    assert [step for _, step in race.tries(4)] == [1]
    race.ended(race.tries(1)[0][0], 1, met=False)
    assert race.tries(4) == []
    assert race.leader is None


def test_only_the_largest_fleets_within_the_budget_run() -> None:
    question = small_question(small_load(requests=30))
    kinds = [TYPES["L40S-TP1"], TYPES["A10G-TP1"]]
    space = Space(
        shapes=tuple(shapes_of(kinds)), unit=Unit.DOLLARS, gpus_max=64, within=(Unit.DOLLARS, 5.6)
    )
    found = contenders_of(space, lambda step: Bounds(question.faster(factor_of(step))))
    names = {contender.fleet.name for contender in found}
    assert mixed(kinds[0], 3).name in names
    assert mixed(kinds[0], 2).name not in names
    assert pair(kinds[0], 2, kinds[1], 2).name in names
    assert pair(kinds[0], 1, kinds[1], 3).name in names
    assert all(contender.fleet.dollars_per_hour <= 5.6 for contender in found)
    assert all(contender.high >= LOWEST for contender in found)


def test_a_plan_for_a_budget_meets_the_slo_at_its_rate_and_not_a_step_above() -> None:
    question = small_question(small_load(requests=40, rate_per_s=2))
    ask = small_ask(question, budget=Budget(3.0, Unit.DOLLARS), requests=40)
    plan = make_plan(Plan(ask=ask), unwatched)
    best = plan.for_budget
    assert best is not None
    assert best.fleet.dollars_per_hour <= 3.0
    assert plan.budget_open == 0
    assert judge(best.fleet, ask.tried(best.factor)).met
    assert plan.cheapest is not None
    assert best.factor >= 1.0


def test_watts_are_a_budget_too() -> None:
    question = small_question(small_load(requests=30, rate_per_s=2))
    ask = small_ask(question, budget=Budget(700.0, Unit.WATTS))
    plan = make_plan(Plan(ask=ask), unwatched)
    assert plan.cheapest is not None
    assert plan.for_budget is not None
    assert plan.for_budget.fleet.watts <= 700
    assert plan.found.best is plan.cheapest.fleet


def test_too_small_a_budget_says_what_a_worker_costs() -> None:
    ask = small_ask(small_question(small_load(requests=20)), budget=Budget(0.2, Unit.DOLLARS))
    with pytest.raises(ConfigError, match=r"budget \(0.2 \$/h\).*cheapest worker.*A10G-TP1, 1 "):
        make_plan(Plan(ask=ask), unwatched)
