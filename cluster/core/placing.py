"""From the queue to a worker: asks the policy, books its answer, assigns.

Strictly in the queue's order: while the first cannot be placed, nobody behind it is, so
that a large request is not passed by small ones for ever.
"""

from dataclasses import replace

from ...proto.gateway_events import RequestAccepted
from ...proto.ids import WorkerKey
from ...proto.move import FetchPlan, MoveKind, MoveOrder
from ...proto.requests import Request
from ...proto.worker_events import RequestAssigned
from ..policy.placement import Candidate, Placement, PlacementAsk, blocks_for
from ..policy.tiered_index import NO_HIT, Hit
from .bookings import Booking
from .membership import WorkerRecord
from .moves import OpenMove, Why
from .requests import TrackedRequest
from .state import Cluster


def place_queued(cluster: Cluster, now_ns: int) -> None:
    """Place from the head of the queue until one finds no worker."""
    while (tracked := cluster.queue.head(now_ns)) is not None:
        records = cluster.members.placeable()
        if not records or not _place(cluster, tracked, records, now_ns):
            return


def candidate(cluster: Cluster, record: WorkerRecord, hit: Hit = NO_HIT) -> Candidate:
    """What the policy sees of one worker: what it saw last, if nothing has changed."""
    booked = cluster.bookings.sum_of(record.info.key)
    plain = hit is NO_HIT
    if plain and record.seen is not None and record.seen[0] is booked:
        last = record.seen[1]
        if last.view is record.view and last.role is record.role and last.info is record.info:
            return last
    made = Candidate(
        info=record.info,
        view=record.view,
        role=record.role,
        booked_tokens=booked.tokens,
        booked_blocks=booked.blocks,
        booked_prefills=booked.prefills,
        booked_streams=booked.streams,
        hit_tokens=hit.device_tokens,
        host_hit_tokens=hit.host_tokens,
    )
    if plain:
        record.seen = (booked, made)
    return made


def _place(
    cluster: Cluster, tracked: TrackedRequest, records: list[WorkerRecord], now_ns: int
) -> bool:
    request = tracked.request
    assert request is not None, tracked
    hits = cluster.prefixes.hits(request.block_hashes)
    ask = PlacementAsk(
        request_id=request.request_id,
        known_tokens=request.known_tokens,
        output_tokens_max=max(1, request.max_tokens - len(request.emitted)),
        waited_ns=now_ns - tracked.arrived_ns,
        block_tokens=cluster.block_tokens,
    )
    if hits:
        candidates = [candidate(cluster, r, hits.get(r.info.key, NO_HIT)) for r in records]
    else:
        candidates = [candidate(cluster, record) for record in records]
    placement = cluster.policy.place(ask, candidates, now_ns)
    if placement is None:
        return False
    cluster.queue.remove(tracked)
    cluster.queue.note_placed(now_ns)
    cluster.requests.assign(tracked, placement.prefill, now_ns)
    known = max(placement.fetch_tokens, hits.get(placement.prefill, NO_HIT).tokens)
    _book(cluster, request, placement, known, now_ns)
    handoff = None
    if placement.decode is not None:
        handoff = _hand_off(cluster, tracked, placement.decode, now_ns)
    fetch = _fetch(cluster, tracked, placement, now_ns)
    # Workers order requests by it, so it must be of one clock: this one.
    dated = replace(request, arrived_ns=tracked.arrived_ns)
    assigned = RequestAssigned(request=dated, handoff=handoff, fetch=fetch)
    cluster.tell_worker(placement.prefill, assigned)
    tell_accepted(cluster, tracked)
    return True


def _fetch(
    cluster: Cluster, tracked: TrackedRequest, placement: Placement, now_ns: int
) -> FetchPlan | None:
    """The worker drives it, and computes what does not come: nothing here waits for its end."""
    if placement.fetch is None:
        return None
    return FetchPlan(
        move_id=cluster.moves.new_id(tracked.request_id, now_ns),
        source=placement.fetch,
        blocks=placement.fetch_tokens // cluster.block_tokens,
    )


def tell_accepted(cluster: Cluster, tracked: TrackedRequest) -> None:
    """Its gateway learns where it is."""
    cluster.tell_gateway(
        tracked.gateway_id,
        RequestAccepted(
            request_id=tracked.request_id,
            epoch=tracked.epoch,
            worker=tracked.owner,
            phase=tracked.phase,
        ),
    )


def _hand_off(
    cluster: Cluster, tracked: TrackedRequest, target: WorkerKey, now_ns: int
) -> MoveOrder:
    assert tracked.owner is not None, tracked
    order = MoveOrder(
        move_id=cluster.moves.new_id(tracked.request_id, now_ns),
        kind=MoveKind.HANDOFF,
        request_id=tracked.request_id,
        source=tracked.owner,
        target=target,
    )
    tracked.target = target
    move = OpenMove(order=order, why=Why.HANDOFF, started_ns=now_ns, heard_ns=now_ns)
    cluster.moves.add(move)
    return order


def _book(
    cluster: Cluster, request: Request, placement: Placement, hit_tokens: int, now_ns: int
) -> None:
    blocks = blocks_for(request.known_tokens + 1, cluster.block_tokens)
    tokens = max(1, request.known_tokens - hit_tokens)
    first = Booking(
        tokens=tokens,
        prefills=1,
        blocks=blocks,
        streams=1 if placement.decode is None else 0,
        booked_ns=now_ns,
    )
    cluster.bookings.book(placement.prefill, request.request_id, first)
    if placement.decode is not None:
        second = Booking(tokens=0, prefills=0, blocks=blocks, streams=1, booked_ns=now_ns)
        cluster.bookings.book(placement.decode, request.request_id, second)
