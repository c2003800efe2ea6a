"""What the controller does when a worker speaks: register, view, or die."""

from ...proto.cluster_events import WorkerLost, WorkerRegistered, WorkerViewed
from ...proto.ids import WorkerKey
from ...proto.worker_events import PeerLost, ViewAsked
from .deaths import believe_deaths, give_up_unheard, tell_deaths
from .drain import assign_role, finish_drains, start_drain
from .membership import Standing, WorkerRecord
from .placing import place_queued
from .reconcile import reconcile
from .recovery import bury
from .state import Cluster


def registered(cluster: Cluster, event: WorkerRegistered, now_ns: int) -> None:
    """A worker is there, or there again: answered with its role."""
    key = event.info.key
    if cluster.members.standing(key) is Standing.FENCED:
        _tell_fenced(cluster, key)
        return
    record = cluster.members.current(key)
    if record is None:
        record = _first_registration(cluster, event, now_ns)
        if record is None:
            return
    elif not cluster.members.refresh(record, event, now_ns):
        assign_role(cluster, record)
        return
    cluster.prefixes.replace(key, event.cached, event.host_cached)
    cluster.unheard.pop(key, None)
    assign_role(cluster, record)
    believe_deaths(cluster, event.lost, now_ns)
    _act_on_view(cluster, record, now_ns)


def viewed(cluster: Cluster, event: WorkerViewed, now_ns: int) -> None:
    """A heartbeat. From a worker that is not known: it is asked to register."""
    key = event.view.key
    standing = cluster.members.standing(key)
    if standing is Standing.UNKNOWN:
        cluster.tell_worker(key, ViewAsked())
    elif standing is Standing.FENCED:
        _tell_fenced(cluster, key)
    record = cluster.members.current(key)
    if record is None or not cluster.members.take_view(record, event, now_ns):
        return
    if record.wants_registration:
        cluster.tell_worker(key, ViewAsked())
    _learn_prefixes(cluster, event)
    if (event.view.role, event.view.draining) != (record.role, record.draining):
        assign_role(cluster, record)
    _act_on_view(cluster, record, now_ns)


def _learn_prefixes(cluster: Cluster, event: WorkerViewed) -> None:
    key = event.view.key
    if event.evicted:
        cluster.prefixes.evicted(key, event.evicted)
    if event.cached:
        cluster.prefixes.inserted(key, event.cached)
    if event.host_evicted:
        cluster.prefixes.host_evicted(key, event.host_evicted)
    if event.host_cached:
        cluster.prefixes.host_inserted(key, event.host_cached)


def lost(cluster: Cluster, event: WorkerLost, now_ns: int) -> None:
    """The shell saw the process die."""
    record = cluster.members.current(event.key)
    if record is not None:
        bury(cluster, record, event.reason, now_ns)
        place_queued(cluster, now_ns)


def bury_silent(cluster: Cluster, now_ns: int) -> None:
    """Workers that were silent for too long are dead."""
    for record in cluster.members.silent(now_ns):
        silence_ns = now_ns - record.heard_ns
        limit_ns = cluster.limits.dead_after_ns
        reason = f"silent for {silence_ns} ns (dead_after_ns {limit_ns})"
        bury(cluster, record, reason, now_ns)


def _first_registration(
    cluster: Cluster, event: WorkerRegistered, now_ns: int
) -> WorkerRecord | None:
    older = cluster.members.get(event.info.key.worker_id)
    if older is not None and not older.dead:
        bury(cluster, older, f"{event.info.key} took its place", now_ns)
    record = cluster.members.add(event, now_ns)
    cluster.restarts.born(event.info.key)
    if record is not None and record.draining:
        start_drain(cluster, record, now_ns)
    return record


def _tell_fenced(cluster: Cluster, key: WorkerKey) -> None:
    """A life that is over still speaks: its shell shall end it, for the next one to begin."""
    cluster.tell_worker(key, PeerLost(key=key))


def _act_on_view(cluster: Cluster, record: WorkerRecord, now_ns: int) -> None:
    reconcile(cluster, record, now_ns)
    if record.view.blocks_quarantined:
        give_up_unheard(cluster, record, now_ns)
        tell_deaths(cluster, record, now_ns)
    if cluster.drains:
        finish_drains(cluster)
    if len(cluster.queue):
        place_queued(cluster, now_ns)
