"""What operators ask. Each ask ends in one `AnswerAsk`; an error names the id and the limit.

An error that begins with "unknown" means that there is no such id.
"""

from ...proto.cluster_events import DrainAsked, MigrateAsked, RoleAsked
from ...proto.ids import WorkerId, WorkerKey
from ...proto.views import Role
from ..policy.placement import blocks_for
from .drain import assign_role, finish_drains, stop_drain, wish_drain
from .membership import WorkerRecord, WorkerState
from .migrate import alike, order, order_due, pick_target
from .moves import Why
from .placing import candidate, place_queued
from .requests import RequestState, TrackedRequest
from .state import Cluster


def drain_asked(cluster: Cluster, event: DrainAsked, now_ns: int) -> None:
    """Answered when the worker is empty, or at once if it cannot be drained."""
    record = cluster.members.get(event.worker_id)
    if record is not None and _is_drained(record, event):
        cluster.answer(event.ask_id)
        return
    error = _worker_error(record, event.worker_id) or _crowd_error(cluster)
    if not error and record is not None and not record.draining:
        error = _last_error(cluster, record, event)
    if error or record is None:
        cluster.answer(event.ask_id, error)
        return
    wish_drain(cluster, record, event, now_ns)
    order_due(cluster, now_ns)
    finish_drains(cluster)


def role_asked(cluster: Cluster, event: RoleAsked, now_ns: int) -> None:
    """Answered at once: the worker is told, and again until its views agree."""
    record = cluster.members.get(event.worker_id)
    error = _worker_error(record, event.worker_id)
    if not error and record is not None:
        error = _role_error(cluster, record, event.role)
    if error or record is None:
        cluster.answer(event.ask_id, error)
        return
    record.role = event.role
    stop_drain(cluster, record, f"worker {event.worker_id} was given the role {event.role}")
    assign_role(cluster, record)
    cluster.answer(event.ask_id)
    place_queued(cluster, now_ns)


def migrate_asked(cluster: Cluster, event: MigrateAsked, now_ns: int) -> None:
    """Answered when the move has ended, or at once if it cannot begin."""
    tracked = cluster.requests.get(event.request_id)
    if tracked is None:
        cluster.answer(event.ask_id, f"unknown request {event.request_id}")
        return
    error = _request_error(cluster, tracked) or _crowd_error(cluster)
    target: WorkerKey | None = None
    if not error and event.target is None:
        target = pick_target(cluster, tracked, cluster.members.living(), now_ns)
        error = "" if target else f"no other worker can take request {event.request_id} now"
    elif not error and event.target is not None:
        target, error = _named_target(cluster, tracked, event.target, now_ns)
    if error or target is None:
        cluster.answer(event.ask_id, error)
        return
    order(cluster, tracked, target, now_ns, Why.OPERATOR).ask_id = event.ask_id


def _worker_error(record: WorkerRecord | None, worker_id: WorkerId) -> str:
    if record is None:
        return f"unknown worker {worker_id}"
    return f"worker {worker_id} is dead" if record.dead else ""


def _is_drained(record: WorkerRecord, event: DrainAsked) -> bool:
    """The life that was meant has been emptied already; its answer was lost."""
    if event.life is None or record.key.incarnation < event.life:
        return False
    return record.key.incarnation > event.life or (record.dead and record.ends is not None)


def _last_error(cluster: Cluster, record: WorkerRecord, event: DrainAsked) -> str:
    """Somebody must be left who can do its work."""
    kinds = " and ".join(cluster.members.only_here(record, *event.beside))
    if not kinds:
        return ""
    others = f" but for {', '.join(event.beside)}, drained with it" if event.beside else ""
    return f"worker {event.worker_id} is the last one able to {kinds}{others}; it is not drained"


def _crowd_error(cluster: Cluster) -> str:
    limit = cluster.limits.asks_max
    waiting = cluster.asks()
    return f"{waiting} asks wait for an answer (asks_max {limit})" if waiting >= limit else ""


def _role_error(cluster: Cluster, record: WorkerRecord, role: Role) -> str:
    """The last worker of a kind keeps its kind."""
    only_here = () if record.draining else cluster.members.only_here(record)
    lost = {Role.DECODE: "prefill", Role.PREFILL: "decode"}.get(role)
    if lost not in only_here:
        return ""
    return f"worker {record.key.worker_id} is the last one able to {lost}; it cannot be {role}"


def _request_error(cluster: Cluster, tracked: TrackedRequest) -> str:
    """Why no migration of the request can begin now, or empty."""
    name = tracked.request_id
    if not tracked.movable:
        assigned = tracked.state is RequestState.ASSIGNED and tracked.phase is not None
        phase = tracked.phase if assigned else tracked.state
        return f"request {name} does not decode now: it is {phase}"
    move = cluster.moves.of_request(name)
    if move is not None:
        return f"request {name} is being moved already, by move {move.order.move_id}"
    assert tracked.owner is not None, tracked
    slots, busy = cluster.limits.moves_per_worker_max, cluster.moves.migrations(tracked.owner)
    if busy >= slots:
        return f"worker {tracked.owner.worker_id} has {busy} moves (moves_per_worker_max {slots})"
    return ""


def _named_target(
    cluster: Cluster, tracked: TrackedRequest, worker_id: WorkerId, now_ns: int
) -> tuple[WorkerKey | None, str]:
    """The key of the named worker, or why it cannot take the request."""
    record = cluster.members.get(worker_id)
    error = _worker_error(record, worker_id)
    if error or record is None:
        return None, error
    assert tracked.owner is not None, tracked
    if record.key == tracked.owner:
        return None, f"request {tracked.request_id} is on worker {worker_id} already"
    owner = cluster.members.current(tracked.owner)
    if owner is not None and not alike(owner, record):
        its, needed = record.info.block_bytes, owner.info.block_bytes
        return None, (
            f"worker {worker_id} serves another model: its KV blocks have {its} bytes, "
            f"those of {owner.key.worker_id} {needed}"
        )
    if record.state is not WorkerState.ALIVE:
        return None, f"worker {worker_id} takes nothing new: it is {record.state}"
    if not record.decodes:
        return None, f"worker {worker_id} does not decode: its role is {record.role}"
    slots, busy = cluster.limits.moves_per_worker_max, cluster.moves.migrations(record.key)
    if busy >= slots:
        return None, f"worker {worker_id} has {busy} moves (moves_per_worker_max {slots})"
    target = pick_target(cluster, tracked, [record], now_ns)
    if target is None:
        need = blocks_for(tracked.known_tokens + 1, cluster.block_tokens)
        room = candidate(cluster, record).blocks_available
        return None, f"worker {worker_id} has no room: {need} blocks needed, {room} available"
    return target, ""
