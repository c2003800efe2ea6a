"""Which gateway a request's tokens go to, and what becomes of it when that one dies.

The requests of a dead gateway run on: their clients come back through another
one within `resume_grace_ns`, and only then do the rest end everywhere.
"""

import itertools
from collections.abc import Iterator
from typing import Any

from ...proto.cluster_events import GatewayDied
from ...proto.ids import GatewayId, WorkerKey
from ...proto.views import HeldRequest
from ...proto.worker_events import GatewayLost, ListenerChanged
from .membership import WorkerRecord
from .placing import place_queued
from .recovery import cancel, forget
from .requests import TrackedRequest
from .state import Cluster


def gateway_died(cluster: Cluster, event: GatewayDied, now_ns: int) -> None:
    """Its requests have no listener, for now."""
    gateway_id, dying = event.gateway_id, cluster.dying_gateways
    if gateway_id in dying or gateway_id in cluster.dead_gateways:
        return
    dying[gateway_id] = now_ns
    if len(dying) > cluster.limits.gateways_max:
        _give_up(cluster, next(iter(dying)))
    for tracked in cluster.requests.all():
        if tracked.gateway_id == gateway_id and tracked.orphaned_ns is None:
            _orphan(cluster, tracked, now_ns)


def hear_gateway(cluster: Cluster, gateway_id: GatewayId) -> None:
    """It lives, or lives again."""
    cluster.dying_gateways.pop(gateway_id, None)
    cluster.dead_gateways.pop(gateway_id, None)


def tell_listener(cluster: Cluster, tracked: TrackedRequest) -> None:
    """Whoever runs the request, or is about to, learns where its tokens go."""
    for key in (tracked.owner, tracked.target):
        if key is not None and cluster.members.current(key) is not None:
            _tell(cluster, key, tracked)


def check_listener(
    cluster: Cluster, record: WorkerRecord, tracked: TrackedRequest, held: HeldRequest
) -> None:
    """A view names another listener: the word got lost, or a move was under way."""
    if held.gateway_id != tracked.gateway_id:
        _tell(cluster, record.key, tracked)


def adopted(cluster: Cluster, tracked: TrackedRequest) -> None:
    """A view brought in a request; its gateway may have died."""
    died_ns = cluster.dying_gateways.get(tracked.gateway_id)
    if died_ns is not None:
        _orphan(cluster, tracked, died_ns)


def end_orphans(cluster: Cluster, now_ns: int) -> None:
    """The time for their clients to come back is over."""
    due_ns = now_ns - cluster.limits.resume_grace_ns
    ended = False
    for request_id, since_ns in list(_until(cluster.orphans, due_ns)):
        del cluster.orphans[request_id]
        tracked = cluster.requests.get(request_id)
        if tracked is not None and tracked.orphaned_ns == since_ns:
            cancel(cluster, tracked)
            forget(cluster, tracked, f"gateway {tracked.gateway_id} is dead")
            ended = True
    for gateway_id, _ in list(_until(cluster.dying_gateways, due_ns)):
        _give_up(cluster, gateway_id)
    if ended:
        place_queued(cluster, now_ns)


def _until(since: dict[Any, int], due_ns: int) -> Iterator[tuple[Any, int]]:
    """The entries that are due; entries are in order of time."""
    return itertools.takewhile(lambda entry: entry[1] <= due_ns, since.items())


def _orphan(cluster: Cluster, tracked: TrackedRequest, since_ns: int) -> None:
    cluster.orphans.pop(tracked.request_id, None)
    cluster.orphans[tracked.request_id] = since_ns
    tracked.orphaned_ns = since_ns


def _give_up(cluster: Cluster, gateway_id: GatewayId) -> None:
    """Dead for good, until it submits something: workers end what they hold for it."""
    del cluster.dying_gateways[gateway_id]
    gateways = cluster.dead_gateways
    gateways[gateway_id] = None
    if len(gateways) > cluster.limits.gateways_max:
        del gateways[next(iter(gateways))]
    for record in cluster.members.living():
        cluster.tell_worker(record.key, GatewayLost(gateway_id=gateway_id))


def _tell(cluster: Cluster, key: WorkerKey, tracked: TrackedRequest) -> None:
    changed = ListenerChanged(
        request_id=tracked.request_id,
        gateway_id=tracked.gateway_id,
        from_index=tracked.client_tokens,
    )
    cluster.tell_worker(key, changed)
