"""Orders migrations, and notes how moves end.

A request is moved when its worker drains, when it decodes on a prefill worker,
or when an operator asks. After an abort it rests for a while, longer each time.
"""

from ...proto.ids import WorkerKey
from ...proto.move import MoveKind, MoveOrder, MoveReport
from ...proto.views import Role
from ...proto.worker_events import MoveOrdered
from ..policy.placement import MoveAsk, blocks_for
from .bookings import Booking
from .membership import WorkerRecord
from .moves import OpenMove, Why
from .placing import candidate
from .requests import TrackedRequest
from .state import Cluster

DOUBLINGS_MAX = 5


def order_due(cluster: Cluster, now_ns: int) -> None:
    """Order every migration that is wanted, may start, and has somewhere to go."""
    for record in cluster.members.living():
        if record.suspect:
            continue
        if record.draining:
            _order_from(cluster, record, Why.DRAIN, now_ns)
        elif record.role is Role.PREFILL:
            _order_from(cluster, record, Why.MISPLACED, now_ns)


def pick_target(
    cluster: Cluster, tracked: TrackedRequest, records: list[WorkerRecord], now_ns: int
) -> WorkerKey | None:
    """The policy's choice among those with a free slot for a migration."""
    assert tracked.owner is not None, tracked
    slots = cluster.limits.moves_per_worker_max
    owner = cluster.members.current(tracked.owner)
    assert owner is not None, tracked
    able = [
        record
        for record in records
        if record.placeable
        and cluster.moves.migrations(record.key) < slots
        and alike(owner, record)
    ]
    ask = MoveAsk(
        request_id=tracked.request_id,
        source=tracked.owner,
        known_tokens=tracked.known_tokens,
        block_tokens=cluster.block_tokens,
    )
    candidates = [candidate(cluster, record) for record in able]
    return cluster.policy.pick_target(ask, candidates, now_ns) if candidates else None


def alike(one: WorkerRecord, other: WorkerRecord) -> bool:
    """Whether KV blocks of one fit the other: the same model, cut in the same blocks."""
    mine, its = one.info, other.info
    return (mine.block_bytes, mine.block_tokens) == (its.block_bytes, its.block_tokens)


def order(
    cluster: Cluster, tracked: TrackedRequest, target: WorkerKey, now_ns: int, why: Why
) -> OpenMove:
    """Tell the request's owner to move it to `target`."""
    assert tracked.owner is not None, tracked
    move = OpenMove(
        order=MoveOrder(
            move_id=cluster.moves.new_id(tracked.request_id, now_ns),
            kind=MoveKind.MIGRATION,
            request_id=tracked.request_id,
            source=tracked.owner,
            target=target,
        ),
        why=why,
        started_ns=now_ns,
        heard_ns=now_ns,
    )
    cluster.moves.add(move)
    tracked.target = target
    blocks = blocks_for(tracked.known_tokens + 1, cluster.block_tokens)
    booking = Booking(tokens=0, prefills=0, blocks=blocks, streams=1, booked_ns=now_ns)
    cluster.bookings.book(target, tracked.request_id, booking)
    cluster.tell_worker(tracked.owner, MoveOrdered(order=move.order))
    return move


def end_move(
    cluster: Cluster, move: OpenMove, error: str, report: MoveReport | None = None
) -> None:
    """A move is over: whoever asked for it is answered. `error` is empty if it committed."""
    cluster.moves.end(move)
    if error:  # else it counts until the target's view lists the request
        cluster.bookings.end(move.order.target, move.order.request_id)
    if move.ask_id is not None:
        cluster.answer(move.ask_id, error, report)


def note_abort(cluster: Cluster, tracked: TrackedRequest, now_ns: int) -> None:
    """A move of the request came to nothing: let it rest, longer each time."""
    tracked.aborts += 1
    doublings = min(tracked.aborts - 1, DOUBLINGS_MAX)
    tracked.next_move_ns = now_ns + (cluster.limits.move_backoff_ns << doublings)


def end_silent(cluster: Cluster, now_ns: int) -> None:
    """Moves that their sources left out of their views for too long count as ended."""
    limit_ns = cluster.limits.move_ns_max
    for move in cluster.moves.silent(now_ns - limit_ns):
        if move.committed:
            end_move(cluster, move, "")
            continue
        tracked = cluster.requests.get(move.order.request_id)
        assert tracked is not None, move
        gone = f"its source has not listed it for {limit_ns} ns (move_ns_max)"
        end_move(cluster, move, f"move {move.order.move_id}: {gone}")
        note_abort(cluster, tracked, now_ns)


def _order_from(cluster: Cluster, record: WorkerRecord, why: Why, now_ns: int) -> None:
    slots = cluster.limits.moves_per_worker_max
    for tracked in cluster.requests.owned_by(record.key):
        if cluster.moves.migrations(record.key) >= slots:
            return
        if not tracked.movable or tracked.next_move_ns > now_ns:
            continue
        if cluster.moves.of_request(tracked.request_id) is not None:
            continue
        target = pick_target(cluster, tracked, cluster.members.living(), now_ns)
        if target is not None:
            order(cluster, tracked, target, now_ns, why)
