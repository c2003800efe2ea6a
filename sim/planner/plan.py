"""A whole plan: the cheapest fleet, the best one for a budget, what binds it.

Fleets are tried on the first requests of the load; one that would be the answer must, if
that is asked for, also meet the SLO on more. Every trial is kept, so that later searches
ask again for nothing.
"""

from ...proto.toml_file import ConfigError
from .drafts import Plan, Watch
from .fleet import shapes_of
from .machines import worker_types
from .steps import Steps
from .trials import trials


def make_plan(plan: Plan, watch: Watch) -> Plan:
    """Fill in `plan`, telling `watch` after every step. Raises ConfigError."""
    ask, question = plan.ask, plan.ask.question
    block_tokens = question.block_tokens
    longest = question.load.longest_tokens
    if longest > question.model.context_tokens_max:
        raise ConfigError(
            f"trace: its longest request has {longest} tokens, prompt and output; the model takes "
            f"{question.model.context_tokens_max}"
        )
    plan.types = worker_types(ask.offer, question.model, block_tokens, longest)
    plan.shapes = tuple(shapes_of(plan.types, ask.roles))
    with trials(ask.tried, ask.jobs) as short:
        steps = Steps(plan, short, watch)
        steps.cheapest()
        if ask.budget is not None:
            steps.within_budget(ask.budget)
        steps.least_of_the_other()
        steps.strains()
    plan.finished = True
    return plan


def unwatched(plan: Plan, doing: str) -> None:
    """Nobody watches."""
