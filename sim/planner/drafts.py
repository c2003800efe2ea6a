"""What a plan is asked, and what is known of its answer so far."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from ...proto.views import Role
from .fleet import Fleet, Shape
from .machines import Offer, WorkerType
from .question import Question
from .search import Found
from .slo import Budget, Unit
from .trial import Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """What a plan is for. `question` has the whole load, of which so many `requests` are tried.

    `confirm`: an answer must also hold on so many; if that is no more than `requests`, nothing.
    """

    question: Question
    offer: Offer = field(default_factory=Offer)
    requests: int = 1500
    confirm: int = 0
    budget: Budget | None = None
    roles: tuple[Role, ...] = tuple(Role)
    gpus_max: int = 64
    tries_max: int = 400
    jobs: int = 2

    @property
    def unit(self) -> Unit:
        """What fleets are compared by."""
        return Unit.DOLLARS if self.budget is None else self.budget.unit

    def tried(self, factor: float) -> Question:
        """The question at that many times the rate, on the requests that are tried."""
        return self._of(self.requests, factor)

    def confirmed(self, factor: float) -> Question:
        """The same on those that an answer must hold on."""
        return self._of(max(self.confirm, self.requests), factor)

    def _of(self, requests: int, factor: float) -> Question:
        """At a higher rate more of them, so that they take as long, as far as there are more."""
        load = self.question.load
        count = round(requests * max(1.0, factor))
        return self.question.on(replace(load, arrivals=load.arrivals[:count])).faster(factor)


@dataclass(frozen=True, slots=True)
class Tried:
    """A fleet, what its run came to, and at how many times the rate it was."""

    fleet: Fleet
    verdict: Verdict
    factor: float = 1.0


@dataclass(frozen=True, slots=True)
class Weakness:
    """The answer under a strain: what was changed, and what came of it."""

    name: str
    tried: Tried


@dataclass(slots=True, kw_only=True)
class Plan:
    """What is known so far; whole when `finished`."""

    ask: Ask
    types: tuple[WorkerType, ...] = ()
    shapes: tuple[Shape, ...] = ()
    found: Found = field(default_factory=Found)
    cheapest: Tried | None = None
    for_budget: Tried | None = None
    budget_open: int = 0
    strains: list[Weakness] = field(default_factory=list)
    tried: list[Tried] = field(default_factory=list)
    pools_tried: int = 0
    finished: bool = False

    @property
    def proven(self) -> bool:
        """Whether every fleet that would be cheaper is ruled out."""
        looked_at = self.found.candidates > 0 and self.found.open == 0
        return self.cheapest is not None and looked_at

    @property
    def best(self) -> Tried | None:
        """The fleet to write down: for the budget if one was asked for, else the cheapest."""
        return self.for_budget or self.cheapest


Watch = Callable[[Plan, str], None]
