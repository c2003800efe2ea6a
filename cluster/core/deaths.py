"""Deaths of workers that others have to learn of, or know more of than we do.

A worker that waits for a dead peer to let go of its blocks is told. A new
controller learns from its workers whom an earlier one gave up: they refuse
those lives, so it must too. And a life for which a worker waits, but which never
registers here, has died while there was no controller.
"""

from ...proto.ids import Incarnation, WorkerKey
from ...proto.worker_events import PeerLost
from .membership import Standing, WorkerRecord
from .recovery import bury
from .state import Cluster


def believe_deaths(cluster: Cluster, lost: tuple[WorkerKey, ...], now_ns: int) -> None:
    """A worker registers and says who is dead: no other controller would fence them."""
    for key in lost:
        record = cluster.members.get(key.worker_id)
        if record is not None and not record.dead and key.covers(record.key):
            bury(cluster, record, "an earlier controller gave it up", now_ns)
        if cluster.members.standing(key) is Standing.UNKNOWN:
            cluster.members.fence(key)


def give_up_unheard(cluster: Cluster, record: WorkerRecord, now_ns: int) -> None:
    """Writers that it waits for and that have been silent since we first heard of them."""
    for key in record.view.awaited:
        if cluster.members.standing(key) is not Standing.UNKNOWN:
            cluster.unheard.pop(key, None)
            continue
        since_ns = cluster.unheard.setdefault(key, now_ns)
        if now_ns - since_ns < cluster.limits.dead_after_ns:
            continue
        del cluster.unheard[key]
        cluster.members.fence(key)
        for other in cluster.members.living():
            cluster.tell_worker(other.key, PeerLost(key=key))
    while len(cluster.unheard) > cluster.limits.deaths_max:
        del cluster.unheard[next(iter(cluster.unheard))]


def tell_deaths(cluster: Cluster, record: WorkerRecord, now_ns: int) -> None:
    """It may wait for a peer whose death it did not hear of, or an earlier controller did."""
    told_ns = record.deaths_told_ns
    if told_ns is not None and now_ns - told_ns < cluster.limits.deaths_again_ns:
        return
    record.deaths_told_ns = now_ns
    # A life is the proof that those before it are over, also those of which an earlier
    # controller knew and we never heard.
    before = [
        WorkerKey(other.key.worker_id, Incarnation(other.key.incarnation - 1))
        for other in cluster.members.living()
        if other is not record
    ]
    for key in [*cluster.members.deaths(), *before]:
        cluster.tell_worker(record.key, PeerLost(key=key))
