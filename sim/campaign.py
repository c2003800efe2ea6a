"""Many seeds of one scenario, checked: the simulator as a test of the cores."""

import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from .cores import CoreBuilder
from .coverage import Coverage
from .errors import InvariantBroken
from .run import simulate
from .scenario import Scenario

Build = Callable[[Scenario], CoreBuilder]


@dataclass(frozen=True, slots=True, kw_only=True)
class SeedResult:
    """How one seed went; `error` is empty if every rule held."""

    seed: int
    error: str = ""
    trace: str = ""
    events: int = 0
    requests: int = 0
    faults: int = 0


def run_seed(
    scenario: Scenario,
    seed: int,
    build: Build = CoreBuilder,
    coverage: Coverage | None = None,
) -> SeedResult:
    """One checked run. A core that raises is a failure like a broken rule."""
    chosen = replace(scenario, seed=seed, checked=True)
    try:
        outcome = simulate(chosen, builder=build(chosen), coverage=coverage)
    except InvariantBroken as error:
        return SeedResult(seed=seed, error=str(error), trace=traceback.format_exc())
    except (AssertionError, LookupError, TypeError, ValueError, AttributeError) as error:
        shown = f"{type(error).__name__}: {error}"
        return SeedResult(seed=seed, error=shown, trace=traceback.format_exc())
    return SeedResult(
        seed=seed,
        events=outcome.events,
        requests=outcome.world.clients.asked,
        faults=len(outcome.plan),
    )


def run_seeds(
    scenario: Scenario, seeds: Iterable[int], build: Build = CoreBuilder
) -> Iterator[SeedResult]:
    """One result per seed, as they come."""
    for seed in seeds:
        yield run_seed(scenario, seed, build)


def first_failure(
    scenario: Scenario, seeds: Iterable[int], build: Build = CoreBuilder
) -> SeedResult | None:
    """The first seed that fails; None if all hold."""
    return next((r for r in run_seeds(scenario, seeds, build) if r.error), None)
