"""The steps of a plan: each asks a search what to try, tries it, and tells it the outcome."""

from collections.abc import Sequence
from functools import cache

from ...proto.toml_file import ConfigError
from .bounds import Bounds
from .capacity import LOWEST, Race, contenders_of, factor_of
from .drafts import Plan, Tried, Watch, Weakness
from .fleet import Fleet, Shape, shapes_of
from .machines import WorkerType, uncapped
from .prefills import PrefillPools, Range, alone, roomy
from .search import Search, Space
from .slo import Budget, Unit
from .trial import Verdict
from .trials import Trials, Try

BATCH = 4  # fleets tried at once: not the number of processes, so that the plan is the same
MORE_LOAD = 1.2
FRONT_TRIES = 40
OPENING_TRIES = 24  # of the least prefill pools, beside ever more decode workers


class Steps:
    """Fills in one plan. `short` tries fleets on the requests that decide."""

    def __init__(self, plan: Plan, short: Trials, watch: Watch) -> None:
        self._plan, self._ask, self._watch = plan, plan.ask, watch
        self._short, self._long = short, short.on(plan.ask.confirmed)
        self._alone = short.on(lambda factor: alone(plan.ask.tried(factor)))
        self._too_few: list[tuple[WorkerType, int]] = []
        self._doing = ""
        short.told = self._long.told = self._told
        self._alone.told = self._told_alone

    def cheapest(self) -> None:
        """The cheapest fleet that meets the SLO. Raises ConfigError if there is none."""
        ask, plan = self._ask, self._plan
        shapes = tuple(shapes_of(self._kinds(ask.unit), ask.roles))
        bounds = Bounds(ask.tried(1.0))
        search = Search(Space(shapes=shapes, unit=ask.unit, gpus_max=ask.gpus_max), bounds)
        plan.found = search.found
        if not search.found.open:
            raise ConfigError(self._hopeless(bounds, shapes))
        pools = PrefillPools(ask.unit)
        self._prefill_pools(search, pools)
        while search.found.best is None and search.found.tried < OPENING_TRIES:
            opening = [search.opening(kind, count) for kind, count in pools.enclosed()]
            fleets = sorted(
                (fleet for fleet in opening if fleet is not None),
                key=lambda fleet: (fleet.cost(ask.unit), fleet.name),
            )
            if not fleets:
                break
            self._try(search, fleets[:BATCH])
        while search.found.tried < ask.tries_max and search.found.open:
            self._prefill_pools(search, pools)
            self._try(search, search.tries(BATCH))
        if plan.cheapest is None:
            raise ConfigError(
                f"no fleet of at most {ask.gpus_max} GPUs was found that meets the SLO "
                f"({search.found.tried} simulated, {search.found.open} left); allow more GPUs "
                "(--gpus-max) or more tries (--tries-max), loosen --slo, or lower --rate"
            )

    def _try(self, search: Search, fleets: Sequence[Fleet]) -> None:
        self._doing = "cheapest fleet"
        verdicts = self._decided([Try(fleet) for fleet in fleets])
        for fleet, verdict in zip(fleets, verdicts, strict=True):
            (search.met if verdict.met else search.failed)(fleet)
            if search.found.best is fleet:
                self._plan.cheapest = Tried(fleet, verdict)

    def _prefill_pools(self, search: Search, pools: PrefillPools) -> None:
        """Close fleets whose prefill workers are too few whatever decodes."""
        self._doing = "prefill pools"
        while True:
            ranges = [
                Range(kind=kind, least=least, most=most, likely=search.bounds.likely_prefills(kind))
                for kind, least, most in search.prefills()
            ]
            pools.ranges(ranges, cheaper=search.found.best is not None)
            if not (tries := pools.tries()):
                return
            asked = [Try(self._roomy(kind, count)) for kind, count in tries]
            for (kind, count), verdict in zip(tries, self._alone.judge(asked), strict=True):
                pools.ended(kind, count, met=verdict.met)
                if not verdict.met:
                    self._too_few.append((kind, count))
                    search.too_few(kind, count)

    def least_of_the_other(self) -> None:
        """The other end of the front: the least watts (or dollars) that a few tries find."""
        ask = self._ask
        unit = Unit.WATTS if ask.unit is Unit.DOLLARS else Unit.DOLLARS
        self._doing = f"least {unit}"
        shapes = tuple(shapes_of(self._kinds(unit), ask.roles))
        space = Space(shapes=shapes, unit=unit, gpus_max=ask.gpus_max)
        search = Search(space, Bounds(ask.tried(1.0)))
        for kind, count in self._too_few:
            search.too_few(kind, count)
        for one in self._plan.tried:
            if one.factor == 1:
                search.know(one.fleet, met=one.verdict.met)
        pools = PrefillPools(unit)
        while search.found.tried < FRONT_TRIES and search.found.open:
            self._prefill_pools(search, pools)
            self._doing = f"least {unit}"
            fleets = search.tries(BATCH)
            verdicts = self._decided([Try(fleet) for fleet in fleets])
            for fleet, verdict in zip(fleets, verdicts, strict=True):
                (search.met if verdict.met else search.failed)(fleet)

    def within_budget(self, budget: Budget) -> None:
        """The fleet within the budget that meets the SLO at the highest rate.

        Raises ConfigError if none does at any rate.
        """
        ask, plan = self._ask, self._plan
        self._doing = f"best fleet for {budget.value:g} {budget.unit}"
        bounds_at = cache(lambda step: Bounds(ask.tried(factor_of(step))))
        space = Space(
            shapes=tuple(shapes_of(self._kinds(budget.unit), ask.roles)),
            unit=budget.unit,
            gpus_max=ask.gpus_max,
            within=(budget.unit, budget.value),
        )
        known = plan.cheapest
        start = LOWEST - 1
        if known is not None and known.fleet.cost(budget.unit) <= budget.value:
            plan.for_budget, start = known, 0
        race = Race(contenders_of(space, bounds_at), start)
        tried = 0
        while tried < ask.tries_max and (tries := race.tries(BATCH)):
            if self._too_few_there(race, tries):
                continue
            asked = [Try(fleet, factor_of(step)) for fleet, step in tries]
            for (fleet, step), verdict in zip(tries, self._decided(asked), strict=True):
                tried += 1
                race.ended(fleet, step, met=verdict.met)
                if verdict.met and race.leader is fleet:
                    plan.for_budget = Tried(fleet, verdict, factor_of(step))
        plan.budget_open = race.open
        if plan.for_budget is None:
            raise ConfigError(self._too_little(budget))

    def _too_few_there(self, race: Race, tries: Sequence[tuple[Fleet, int]]) -> bool:
        """Whether a prefill pool of these is too small at that rate; all like it are closed."""
        shared = [(fleet, step) for fleet, step in tries if race.shared(fleet)]
        asked = [
            Try(self._roomy(fleet.shape.types[0], fleet.counts[0], step), factor_of(step))
            for fleet, step in shared
        ]
        short = False
        for (fleet, step), verdict in zip(shared, self._alone.judge(asked), strict=True):
            if not verdict.met:
                race.too_few(fleet.shape.types[0], fleet.counts[0], step)
                short = True
        return short

    def _roomy(self, kind: WorkerType, count: int, step: int = 0) -> Fleet:
        return roomy(kind, count, self._plan.types, self._ask.tried(factor_of(step)))

    def strains(self) -> None:
        """How the answer does with more load, and with a worker less in each pool."""
        best = self._plan.best
        if best is None:
            return
        self._doing = "degradation"
        fleet, factor = best.fleet, best.factor
        asked = [("+20 % load", Try(fleet, factor * MORE_LOAD, whole=True))]
        for index, role in enumerate(fleet.shape.roles):
            fewer = fleet.without_one(index)
            if sum(fewer.counts):
                asked.append((f"one {role} worker lost", Try(fewer, factor, whole=True)))
        verdicts = self._short.judge([one for _, one in asked])
        self._plan.strains = [
            Weakness(name, Tried(one.fleet, verdict, one.factor))
            for (name, one), verdict in zip(asked, verdicts, strict=True)
        ]

    def _kinds(self, unit: Unit) -> tuple[WorkerType, ...]:
        """A cap costs time and saves no dollar: by dollars only machines without are looked at."""
        kinds = self._plan.types
        return (uncapped(kinds) or kinds) if unit is Unit.DOLLARS else kinds

    def _decided(self, tries: Sequence[Try]) -> list[Verdict]:
        """On the requests that are tried; those that do well there on more, if asked for."""
        first = self._short.judge(tries)
        if self._ask.confirm <= self._ask.requests:
            return first
        passed = [one for one, verdict in zip(tries, first, strict=True) if verdict.met]
        second = dict(zip(passed, self._long.judge(passed), strict=True))
        return [second.get(one, verdict) for one, verdict in zip(tries, first, strict=True)]

    def _told(self, one: Try, verdict: Verdict) -> None:
        self._plan.tried.append(Tried(one.fleet, verdict, one.factor))
        self._watch(self._plan, self._doing)

    def _told_alone(self, one: Try, verdict: Verdict) -> None:  # noqa: ARG002
        self._plan.pools_tried += 1
        self._watch(self._plan, self._doing)

    def _hopeless(self, bounds: Bounds, shapes: Sequence[Shape]) -> str:
        """Why no fleet can do, and what would help."""
        ask, slo = self._ask, self._ask.question.slo
        misses = min(bounds.certain_misses(shape) for shape in shapes)
        asked = ask.tried(1.0).load.requests
        if misses > slo.misses_max(asked):
            return (
                f"slo: even an idle worker of the fastest kind misses it for {misses} of {asked} "
                f"requests (TTFT {slo.ttft_s:g} s, TPOT {slo.tpot_s:g} s at p{slo.percent:g}); "
                "loosen --slo, or offer faster machines (--machines, --tp)"
            )
        return (
            f"gpus_max ({ask.gpus_max}): by the bounds alone too few for "
            f"{ask.tried(1.0).load.rate_per_s:.2f} requests/s; allow more GPUs (--gpus-max), or "
            "plan for a lower --rate"
        )

    def _too_little(self, budget: Budget) -> str:
        kinds = self._plan.types
        least = min(kinds, key=lambda kind: (kind.cost(budget.unit), kind.name))
        return (
            f"budget ({budget.value:g} {budget.unit}): no fleet within it meets the SLO at "
            f"any rate; the cheapest worker that holds the model is {least.name}, "
            f"{least.cost(budget.unit):g} {budget.unit}"
        )
