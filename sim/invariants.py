"""What must hold after every step, and what must hold when all is quiet.

The cores' own `check()` sees to their tables; `clients.py` to the streams;
`inbound.py` to blocks under copies. Here: each step's outside appearance, and
that nothing is left when nothing runs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..proto.cluster_events import WorkerRegistered, WorkerViewed
from ..proto.effects import RunIteration, ToController, ToWorker
from ..proto.views import WorkerView
from ..proto.worker_events import LeaseOpened
from .errors import InvariantBroken
from .inbound import Inbound
from .shell import QueueShell, Shell

if TYPE_CHECKING:
    from .world import World


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


def leftovers(world: "World") -> list[str]:
    """What is still held though every stream has ended; empty is right."""
    found: list[str] = []
    for party in world.mail.workers.values():
        view = party.core.view(world.scheduler.now_ns)
        check_view(view)
        held = {
            "requests": [str(held.request_id) for held in view.requests],
            "blocks held": view.blocks_held,
            "blocks leased": view.blocks_leased,
            "blocks quarantined": view.blocks_quarantined,
            "leases open": party.engine.leases_open,
            "backlog tokens": view.backlog_tokens,
            "timers": _timers(party.shell),
        }
        found += [f"worker {party.key}: {what} {count}" for what, count in held.items() if count]
    return found + _control_leftovers(world)


def _control_leftovers(world: "World") -> list[str]:
    found: list[str] = []
    for gateway in world.mail.gateways.values():
        held: dict[str, object] = {"streams": len(gateway.core), "timers": _timers(gateway.shell)}
        found += [f"{gateway.gateway_id}: {what} {count}" for what, count in held.items() if count]
    if world.mail.controller is not None:
        status = world.mail.controller.core.status(world.scheduler.now_ns)
        requests = [f"{request.request_id} ({request.state})" for request in status.requests]
        moves = [str(move.move_id) for move in status.moves]
        found += [f"controller: requests {requests}"] if requests else []
        found += [f"controller: moves {moves}"] if moves else []
    return found


def _timers(shell: Shell) -> list[str]:
    """Timers about something; those of the core's own beat have no subject."""
    keys = shell.timers if isinstance(shell, QueueShell) else []
    return [f"{key.kind} {key.subject}" for key in keys if key.subject]
