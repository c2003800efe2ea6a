"""Takes a worker out: nothing new, its requests move off, and when it is empty it may end."""

from ...proto.effects import RetireWorker
from ...proto.ids import WorkerKey
from ...proto.worker_events import RoleAssigned
from .membership import WorkerRecord
from .state import Cluster


def start_drain(cluster: Cluster, record: WorkerRecord, ask_id: str | None) -> None:
    """From now on it gets nothing new. Asked again, both asks are answered at the end."""
    asks = cluster.drains.setdefault(record.key, [])
    if ask_id is not None:
        asks.append(ask_id)
    record.draining = True
    assign_role(cluster, record)


def stop_drain(cluster: Cluster, record: WorkerRecord, reason: str) -> None:
    """It may get work again; whoever wanted it empty is told why it will not be."""
    record.draining = record.retired = False
    for ask_id in cluster.drains.pop(record.key, []):
        cluster.answer(ask_id, reason)


def finish_drains(cluster: Cluster) -> None:
    """Workers that have become empty are reported, and may end."""
    for key in list(cluster.drains):
        record = cluster.members.current(key)
        assert record is not None, key
        if not _is_empty(cluster, record):
            continue
        for ask_id in cluster.drains[key]:
            cluster.answer(ask_id)
        cluster.drains[key] = []
        if not record.retired:
            record.retired = True
            cluster.out.append(RetireWorker(key=key))


def assign_role(cluster: Cluster, record: WorkerRecord) -> None:
    """Tell a worker what it is to do."""
    event = RoleAssigned(role=record.role, draining=record.draining)
    cluster.tell_worker(record.key, event)


def _is_empty(cluster: Cluster, record: WorkerRecord) -> bool:
    """By its own view, taken after it knew, and by ours."""
    view, key = record.view, record.key
    return (
        view.draining
        and not view.requests
        and view.blocks_leased == 0
        and cluster.requests.count_owned(key) == 0
        and not _has_moves(cluster, key)
    )


def _has_moves(cluster: Cluster, key: WorkerKey) -> bool:
    return any(not move.committed for move in cluster.moves.involving(key))
