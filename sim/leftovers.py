"""What must hold when all is quiet: nothing is left when nothing runs."""

from .invariants import check_view
from .shell import QueueShell, Shell
from .world import World


def leftovers(world: World) -> list[str]:
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


def _control_leftovers(world: World) -> list[str]:
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
