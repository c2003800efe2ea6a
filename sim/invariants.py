"""What must hold after every step.

The cores' own `check()` sees to their tables; `clients.py` to the streams;
`inbound.py` to blocks under copies; `leftovers.py` to what is there when all is
quiet. Here: each step's outside appearance.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..proto.cluster_events import WorkerRegistered, WorkerViewed
from ..proto.effects import RunIteration, ToController, ToWorker
from ..proto.views import WorkerView
from ..proto.worker_events import LeaseOpened
from .errors import InvariantBroken
from .inbound import Inbound


@dataclass(frozen=True, slots=True)
class Watched:
    """A core under watch; `inbound` if it is a worker's."""

    name: str
    core: Any
    inbound: Inbound | None = None


def check_step(watched: Watched, now_ns: int, event: Any, effects: Sequence[Any]) -> None:
    """Everything that can be said of one step of one core. Raises InvariantBroken."""
    name, inbound = watched.name, watched.inbound
    try:
        watched.core.check()
    except AssertionError as error:
        raise InvariantBroken(f"{name} at {now_ns} after {event!r}: {error}") from error
    if sum(isinstance(effect, RunIteration) for effect in effects) > 1:
        raise InvariantBroken(f"{name} at {now_ns}: two iterations at once after {event!r}")
    for effect in effects:
        if isinstance(effect, ToWorker) and isinstance(effect.event, LeaseOpened) and inbound:
            inbound.check_lease(effect.event)
        if isinstance(effect, ToController) and isinstance(
            effect.event, WorkerRegistered | WorkerViewed
        ):
            check_view(effect.event.view)


def check_view(view: WorkerView) -> None:
    """Every block is in exactly one state. Raises InvariantBroken."""
    parts = (
        view.blocks_free,
        view.blocks_held,
        view.blocks_cached,
        view.blocks_leased,
        view.blocks_quarantined,
    )
    if sum(parts) != view.blocks_total or min(parts) < 0:
        raise InvariantBroken(
            f"worker {view.key}: free + held + cached + leased + quarantined = "
            f"{' + '.join(map(str, parts))}, total is {view.blocks_total}"
        )
