"""What happens to requests whose worker, gateway or attempt is gone."""

from ...proto.gateway_events import RequestDisplaced
from ...proto.ids import Epoch, WorkerKey
from ...proto.worker_events import PeerLost, RequestCancelled
from .membership import WorkerRecord
from .migrate import end_move, note_abort
from .moves import OpenMove
from .requests import RequestState, TrackedRequest, through
from .state import Cluster


def cancel(cluster: Cluster, tracked: TrackedRequest) -> None:
    """Tell every worker that may hold the request to forget it, as far as it is known."""
    event = RequestCancelled(request_id=tracked.request_id, epoch=through(tracked.epoch.attempt))
    for key in (tracked.owner, tracked.target):
        if key is not None and cluster.members.current(key) is not None:
            cluster.tell_worker(key, event)


def detach(cluster: Cluster, tracked: TrackedRequest, why: str) -> None:
    """No queue, booking or open move refers to the request any more."""
    cluster.queue.remove(tracked)
    move = cluster.moves.of_request(tracked.request_id)
    if move is not None:
        end_move(cluster, move, f"move {move.order.move_id}: {why}")
    if tracked.owner is not None:
        cluster.bookings.end(tracked.owner, tracked.request_id)


def forget(cluster: Cluster, tracked: TrackedRequest, why: str) -> None:
    """The request has ended, as far as the controller is concerned."""
    cluster.traces.ended(tracked)
    detach(cluster, tracked, why)
    cluster.orphans.pop(tracked.request_id, None)
    cluster.deadlines.set(tracked.request_id, None)
    cluster.requests.forget(tracked)


def displace(
    cluster: Cluster, tracked: TrackedRequest, epoch: Epoch, reason: str, now_ns: int
) -> None:
    """No worker holds the request: its gateway shall submit it again."""
    detach(cluster, tracked, reason)
    cluster.requests.displace(tracked, epoch, now_ns)
    tell_displaced(cluster, tracked, reason)


def tell_displaced(cluster: Cluster, tracked: TrackedRequest, reason: str) -> None:
    """Its gateway learns that it must submit the request again."""
    cluster.tell_gateway(
        tracked.gateway_id,
        RequestDisplaced(request_id=tracked.request_id, epoch=tracked.epoch, reason=reason),
    )


def tell_displaced_again(cluster: Cluster, now_ns: int) -> None:
    """Repeat it to gateways that have not answered; give up on those that never do."""
    limits = cluster.limits
    for tracked in cluster.requests.displaced():
        if now_ns - tracked.since_ns < (tracked.tells + 1) * limits.displaced_again_ns:
            continue
        tracked.tells += 1
        if tracked.tells > limits.displaced_tells_max:
            forget(cluster, tracked, "its gateway does not answer")
        else:
            tell_displaced(cluster, tracked, "no worker holds it")


def bury(cluster: Cluster, record: WorkerRecord, reason: str, now_ns: int) -> None:
    """That life of a worker is over: fence it, and recover all it had."""
    key = record.key
    cluster.members.bury(record)
    cluster.out += cluster.restarts.died(record, now_ns)
    cluster.prefixes.remove(key)
    cluster.bookings.remove_worker(key)
    for other in cluster.members.living():
        cluster.tell_worker(other.key, PeerLost(key=key))
    for move in cluster.moves.involving(key):
        _lose_move(cluster, move, reason=f"worker {key} is dead: {reason}", now_ns=now_ns)
    for tracked in cluster.requests.owned_by(key):
        displace(cluster, tracked, tracked.epoch, f"worker {key} is dead: {reason}", now_ns)
    _displace_again(cluster, key, now_ns)
    drain = cluster.drains.pop(key, None)
    for ask_id in drain.asks if drain is not None else ():
        cluster.answer(ask_id, f"worker {key} died while it drained: {reason}")


def _lose_move(cluster: Cluster, move: OpenMove, *, reason: str, now_ns: int) -> None:
    """A side of a move has died. If it was the target, the source aborts by itself."""
    tracked = cluster.requests.get(move.order.request_id)
    assert tracked is not None, move
    end_move(cluster, move, f"move {move.order.move_id}: {reason}")
    note_abort(cluster, tracked, now_ns)


def _displace_again(cluster: Cluster, key: WorkerKey, now_ns: int) -> None:
    """The target that may have had a displaced request is dead too.

    If it had committed and sent tokens, the gateway takes no notice of a
    displacement at the source's epoch: name the epoch of the commit.
    """
    for tracked in cluster.requests.displaced():
        if tracked.target == key:
            epoch = Epoch(tracked.epoch.attempt, tracked.epoch.hop + 1)
            assert tracked.state is RequestState.DISPLACED, tracked
            tracked.target = None
            displace(cluster, tracked, epoch, f"worker {key} is dead too", now_ns)
