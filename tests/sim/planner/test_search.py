"""The search finds what looking at every fleet finds."""

from itertools import product
from random import Random

import numpy as np
import pytest
from plan_questions import SMALL, small_ask, small_load, small_question, small_types
from splitweave.proto.toml_file import ConfigError
from splitweave.sim.planner.bounds import Bounds
from splitweave.sim.planner.drafts import Plan
from splitweave.sim.planner.fleet import Fleet, shapes_of
from splitweave.sim.planner.machines import Offer
from splitweave.sim.planner.plan import make_plan, unwatched
from splitweave.sim.planner.search import Search, Space, largest
from splitweave.sim.planner.slo import Slo, Unit
from splitweave.sim.planner.trial import judge

TYPES = small_types(Offer(machines=("L40S", "A10G"), tp_sizes=(1, 2), caps=(1.0, 0.7)))
SHAPES = tuple(shapes_of([TYPES[name] for name in sorted(TYPES)]))


def every_fleet(space: Space) -> list[Fleet]:
    found = []
    for shape in space.shapes:
        most = [space.gpus_max // kind.gpus for kind in shape.types]
        for counts in product(*(range(1, count + 1) for count in most)):
            fleet = Fleet(shape, counts)
            if fleet.gpus <= space.gpus_max:
                found.append(fleet)
    return found


class Needs:
    """A made-up world: a shape does from certain counts on. Bounds know a part of it."""

    def __init__(self, seed: int, hidden: float) -> None:
        dice = Random(seed)
        self._needs = {
            shape.name: tuple(dice.uniform(0.2, 9.0) for _ in shape.types) for shape in SHAPES
        }
        self._hidden = hidden

    def met(self, fleet: Fleet) -> bool:
        needs = self._needs[fleet.shape.name]
        return all(count >= need for count, need in zip(fleet.counts, needs, strict=True))

    def least(self, shape: object) -> tuple[float, ...]:
        return tuple(need * self._hidden for need in self._needs[shape.name])  # type: ignore[attr-defined]

    def possible(self, shape: object, most: tuple[int, ...]) -> np.ndarray:  # type: ignore[type-arg]
        counts = np.indices(most) + 1
        enough = [count >= need for count, need in zip(counts, self.least(shape), strict=True)]
        return np.logical_and.reduce(enough)


def run(search: Search, met: object, batch: int) -> list[Fleet]:
    tried = []
    while fleets := search.tries(batch):
        for fleet in fleets:
            tried.append(fleet)
            (search.met if met(fleet) else search.failed)(fleet)  # type: ignore[operator]
    return tried


@pytest.mark.parametrize("unit", list(Unit))
@pytest.mark.parametrize("seed", range(30))
def test_the_cheapest_of_all_is_found(seed: int, unit: Unit) -> None:
    world = Needs(seed, hidden=(seed % 5) / 5)
    space = Space(shapes=SHAPES, unit=unit, gpus_max=12)
    search = Search(space, world)  # type: ignore[arg-type]
    tried = run(search, world.met, batch=1 + seed % 4)
    fleets = every_fleet(space)
    costs = [fleet.cost(unit) for fleet in fleets if world.met(fleet)]
    best = search.found.best
    assert (best is None) == (not costs)
    if best is not None:
        assert best.cost(unit) == pytest.approx(min(costs))
        assert world.met(best)
    assert search.found.candidates == len(fleets)
    assert len(tried) == len({fleet.name for fleet in tried}) == search.found.tried
    assert search.found.open == 0


def test_few_of_many_fleets_are_tried() -> None:
    world = Needs(4, hidden=0.8)
    search = Search(Space(shapes=SHAPES, unit=Unit.DOLLARS, gpus_max=24), world)  # type: ignore[arg-type]
    run(search, world.met, batch=4)
    assert search.found.candidates > 5000
    assert search.found.tried < search.found.candidates / 50


def test_nothing_is_tried_that_costs_more_of_another_unit_than_may_be() -> None:
    world = Needs(2, hidden=0.5)
    space = Space(shapes=SHAPES, unit=Unit.DOLLARS, gpus_max=12, within=(Unit.WATTS, 1500.0))
    tried = run(Search(space, world), world.met, batch=2)  # type: ignore[arg-type]
    assert tried
    assert all(fleet.watts <= 1500 for fleet in tried)


@pytest.mark.parametrize("seed", range(6))
def test_what_another_search_found_is_not_tried_again(seed: int) -> None:
    world = Needs(seed, hidden=0.4)
    first = Search(Space(shapes=SHAPES, unit=Unit.DOLLARS, gpus_max=12), world)  # type: ignore[arg-type]
    known = run(first, world.met, batch=3)
    space = Space(shapes=SHAPES, unit=Unit.WATTS, gpus_max=12)
    second = Search(space, world)  # type: ignore[arg-type]
    for fleet in known:
        second.know(fleet, met=world.met(fleet))
    assert second.found.tried == 0
    again = run(second, world.met, batch=3)
    assert not {fleet.name for fleet in again} & {fleet.name for fleet in known}
    met = [fleet.watts for fleet in every_fleet(space) if world.met(fleet)]
    assert (second.found.best is None) == (not met)
    if second.found.best is not None:
        assert second.found.best.watts == pytest.approx(min(met))


def test_the_largest_cells_have_no_open_neighbour_above() -> None:
    cells = np.array([[1, 1, 1], [1, 1, 0], [0, 1, 0]], dtype=bool)
    assert np.argwhere(largest(cells)).tolist() == [[0, 2], [2, 1]]
    assert np.argwhere(largest(np.array([True, True, False]))).tolist() == [[1]]


@pytest.mark.parametrize(
    ("seed", "rate_per_s", "slo"),
    [
        (1, 3.0, Slo(ttft_s=1.0, tpot_s=0.06, percent=90)),
        (2, 6.0, Slo(ttft_s=0.6, tpot_s=0.05, percent=80)),
        (3, 10.0, Slo(ttft_s=2.0, tpot_s=0.1, percent=95)),
    ],
)
def test_simulating_every_fleet_finds_the_same_optimum(
    seed: int, rate_per_s: float, slo: Slo
) -> None:
    load = small_load(seed=seed, requests=20, rate_per_s=rate_per_s)
    question = small_question(load, slo)
    ask = small_ask(question, gpus_max=4)
    plan = make_plan(Plan(ask=ask), unwatched)
    shapes = tuple(shapes_of(list(small_types(SMALL).values())))
    fleets = every_fleet(Space(shapes=shapes, unit=Unit.DOLLARS, gpus_max=4))
    meeting = [fleet for fleet in fleets if judge(fleet, question).met]
    assert plan.found.candidates == len(fleets)
    assert plan.cheapest is not None
    least = min(fleet.dollars_per_hour for fleet in meeting)
    assert plan.cheapest.fleet.dollars_per_hour == pytest.approx(least)
    assert plan.cheapest.fleet.name in {fleet.name for fleet in meeting}
    assert plan.proven
    assert plan.found.tried < len(fleets)
    bounds = Bounds(question)
    assert all(bounds.allows(fleet) for fleet in meeting)


def test_no_fleet_large_enough_says_what_to_do() -> None:
    question = small_question(small_load(requests=60, rate_per_s=300))
    with pytest.raises(ConfigError, match=r"gpus_max \(2\).*--gpus-max.*--rate"):
        make_plan(Plan(ask=small_ask(question, gpus_max=2)), unwatched)


def test_an_slo_that_nobody_meets_says_what_to_do() -> None:
    question = small_question(slo=Slo(ttft_s=0.001, tpot_s=0.06))
    with pytest.raises(ConfigError, match=r"even an idle worker .* loosen --slo"):
        make_plan(Plan(ask=small_ask(question)), unwatched)
