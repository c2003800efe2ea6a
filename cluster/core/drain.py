"""Takes a worker out: nothing new, its requests move off, and when it is empty it ends.

With a deadline, whoever asked is told what is left then; or what is left starts
again elsewhere, from its prompt and its tokens.
"""

from ...proto.cluster_events import AfterDrain, AtDeadline, DrainAsked
from ...proto.effects import DrainReport, RestartWorker, RetireWorker
from ...proto.ids import WorkerKey
from ...proto.move import MoveReport, Stage
from ...proto.views import Phase
from ...proto.worker_events import RoleAssigned
from .membership import WorkerRecord
from .recovery import cancel, displace
from .state import Cluster, Drain

NAMED_MAX = 8  # requests that an answer lists by id
S = 1_000_000_000


def start_drain(cluster: Cluster, record: WorkerRecord, now_ns: int) -> Drain:
    """From now on it gets nothing new. Again: what has been counted stays."""
    drain = cluster.drains.get(record.key)
    if drain is None:
        drain = Drain(began_ns=now_ns, requests=len(_held(cluster, record)))
        cluster.drains[record.key] = drain
    record.draining = True
    return drain


def wish_drain(cluster: Cluster, record: WorkerRecord, event: DrainAsked, now_ns: int) -> None:
    """An operator asks; a second ask counts from now on, and both are answered at the end."""
    drain = start_drain(cluster, record, now_ns)
    drain.at_deadline, drain.then = event.at_deadline, event.then
    drain.deadline_ns = None if event.within_ns is None else now_ns + event.within_ns
    if event.ask_id not in drain.asks:
        drain.asks.append(event.ask_id)
    assign_role(cluster, record)


def stop_drain(cluster: Cluster, record: WorkerRecord, reason: str) -> None:
    """It may get work again; whoever wanted it empty is told why it will not be."""
    record.draining, record.ends = False, None
    drain = cluster.drains.pop(record.key, None)
    for ask_id in drain.asks if drain is not None else ():
        cluster.answer(ask_id, reason)


def finish_drains(cluster: Cluster) -> None:
    """Workers that have become empty are reported, and end."""
    for key, drain in list(cluster.drains.items()):
        record = cluster.members.current(key)
        assert record is not None, key
        if not _is_empty(cluster, record):
            continue
        _answer(cluster, record, drain, "")
        if record.ends is None:
            record.ends = drain.then
            restart = drain.then is AfterDrain.RESTART
            cluster.out.append(RestartWorker(key=key) if restart else RetireWorker(key=key))


def end_late_drains(cluster: Cluster, now_ns: int) -> None:
    """Deadlines that are over: said, or the rest is computed again elsewhere."""
    for key, drain in list(cluster.drains.items()):
        record = cluster.members.current(key)
        if record is None or drain.deadline_ns is None or now_ns < drain.deadline_ns:
            continue
        drain.deadline_ns = None
        if drain.at_deadline is AtDeadline.RECOMPUTE:
            _recompute(cluster, record, drain, now_ns)
        elif (left := _held(cluster, record)) or drain.asks:
            _answer(cluster, record, drain, _late(record, drain, left, now_ns))


def note_drained(cluster: Cluster, report: MoveReport) -> None:
    """A move has ended: counts if it took a request off a draining worker."""
    drain = cluster.drains.get(report.source)
    if drain is not None and report.outcome is Stage.COMMITTED:
        drain.moved += 1
        drain.transfer_bytes += report.transfer_bytes


def assign_role(cluster: Cluster, record: WorkerRecord) -> None:
    """Tell a worker what it is to do."""
    event = RoleAssigned(role=record.role, draining=record.draining)
    cluster.tell_worker(record.key, event)


def report_of(cluster: Cluster, record: WorkerRecord, drain: Drain) -> DrainReport:
    """How far it is: by what it says it holds, and by what is assigned to it since."""
    return DrainReport(
        requests=drain.requests,
        left=len(_held(cluster, record)),
        moved=drain.moved,
        recomputed=drain.recomputed,
        transfer_bytes=drain.transfer_bytes,
    )


def _held(cluster: Cluster, record: WorkerRecord) -> list[str]:
    """Ids of the requests that are there, as far as either side knows."""
    listed = [str(held.request_id) for held in record.view.requests]
    owned = [str(tracked.request_id) for tracked in cluster.requests.owned_by(record.key)]
    return list(dict.fromkeys([*owned, *listed]))


def _answer(cluster: Cluster, record: WorkerRecord, drain: Drain, error: str) -> None:
    report = report_of(cluster, record, drain)
    for ask_id in drain.asks:
        cluster.answer(ask_id, error, drained=report)
    drain.asks.clear()


def _late(record: WorkerRecord, drain: Drain, left: list[str], now_ns: int) -> str:
    more = f" and {len(left) - NAMED_MAX} more" if len(left) > NAMED_MAX else ""
    return (
        f"worker {record.key.worker_id} is not empty after {(now_ns - drain.began_ns) / S:.1f} s: "
        f"{len(left)} requests are left ({', '.join(left[:NAMED_MAX])}{more}); it goes on draining"
    )


def _recompute(cluster: Cluster, record: WorkerRecord, drain: Drain, now_ns: int) -> None:
    for tracked in cluster.requests.owned_by(record.key):
        if tracked.phase is Phase.FINISHED:
            continue  # its gateway has only to say that it has it all
        cancel(cluster, tracked)
        reason = f"worker {record.key} drains and its deadline is over"
        displace(cluster, tracked, tracked.epoch, reason, now_ns)
        drain.recomputed += 1


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
