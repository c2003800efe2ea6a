"""What workers say they hold, against what the controller believes.

Whoever runs a request at the highest epoch owns it. A copy at an older epoch is
cancelled where it is; a request that its owner leaves out for longer than
`assign_grace_ns` is displaced; one that nobody here knows is adopted.
"""

from ...proto.cluster_events import MoveEnded, RequestEnded
from ...proto.ids import Epoch
from ...proto.move import MoveKind, MoveReport, Stage
from ...proto.views import HeldRequest
from ...proto.worker_events import GatewayLost, RequestCancelled
from .drain import finish_drains, note_drained
from .listeners import adopted, check_listener
from .membership import Standing, WorkerRecord
from .migrate import end_move, note_abort
from .placing import place_queued
from .recovery import displace
from .requests import RequestState, TrackedRequest, through
from .state import Cluster


def reconcile(cluster: Cluster, record: WorkerRecord, now_ns: int) -> None:
    """Compare one worker's newest view with the table, request by request."""
    listed = {held.request_id: held.epoch.attempt for held in record.view.requests}
    for held in record.view.requests:
        tracked = cluster.requests.get(held.request_id)
        if tracked is None:
            _meet_unknown(cluster, record, held, now_ns)
        elif tracked.epoch.attempt > held.epoch.attempt:
            _cancel(cluster, record, held, through(held.epoch.attempt))
        elif tracked.owner == record.key:
            check_listener(cluster, record, tracked, held)
            _note(cluster, tracked, held, now_ns)
        else:
            _meet_elsewhere(cluster, record, tracked, held, now_ns)
    for tracked in cluster.requests.owned_by(record.key):
        if listed.get(tracked.request_id, -1) < tracked.epoch.attempt:
            _miss(cluster, tracked, now_ns)


def request_ended(cluster: Cluster, event: RequestEnded, now_ns: int) -> None:
    """A worker has let go of a request, or would not take it.

    If it was the regular end, the gateway drops it; else it is displaced when
    the owner's views have left it out for long enough. Refused: at once.
    """
    tracked = cluster.requests.get(event.request_id)
    if tracked is None or tracked.owner != event.worker:
        return  # not known, or not from its owner: a fenced worker owns nothing
    if event.epoch.attempt < tracked.epoch.attempt:
        return
    if event.refused:
        reason = f"worker {event.worker} refused it: {event.refused}"
        displace(cluster, tracked, tracked.epoch, reason, now_ns)
    else:
        cluster.bookings.end(event.worker, event.request_id)
        tracked.phase = None
        if tracked.unlisted_ns is None:
            tracked.unlisted_ns = now_ns
    place_queued(cluster, now_ns)


def move_ended(cluster: Cluster, event: MoveEnded, now_ns: int) -> None:
    """A source reports the end of a move, perhaps of one that is not known here."""
    report = event.report
    if cluster.members.standing(report.source) is Standing.FENCED:
        return
    cluster.policy.observe_move(report)
    cluster.traces.moved(report)
    if report.kind is MoveKind.FETCH:
        return  # no request has moved
    committed = report.outcome is Stage.COMMITTED
    move = cluster.moves.get(report.move_id)
    if move is not None:
        error = "" if committed else report.reason or "the move was aborted"
        end_move(cluster, move, error, report)
    tracked = cluster.requests.get(report.request_id)
    if tracked is not None and tracked.owner == report.source:
        if committed:
            _commit(cluster, tracked, report, now_ns)
        elif move is not None:
            tracked.target = None
            note_abort(cluster, tracked, now_ns)
    note_drained(cluster, report)
    finish_drains(cluster)
    place_queued(cluster, now_ns)


def _commit(cluster: Cluster, tracked: TrackedRequest, report: MoveReport, now_ns: int) -> None:
    """The report came before the target's view: the target owns the request."""
    before = tracked.epoch
    if report.epoch < before or report.epoch.attempt != before.attempt:
        return
    epoch = max(report.epoch, Epoch(before.attempt, before.hop + 1))
    if cluster.members.standing(report.target) is Standing.FENCED:
        reason = f"worker {report.target} is dead"
        displace(cluster, tracked, epoch, reason, now_ns)
        return
    cluster.bookings.end(report.source, tracked.request_id)
    cluster.requests.assign(tracked, report.target, now_ns)
    tracked.epoch, tracked.aborts, tracked.next_move_ns = epoch, 0, 0


def _meet_unknown(cluster: Cluster, record: WorkerRecord, held: HeldRequest, now_ns: int) -> None:
    ended = cluster.requests.ended_attempt(held.request_id)
    if ended is not None and held.epoch.attempt <= ended:
        _cancel(cluster, record, held, through(held.epoch.attempt))
    elif held.gateway_id in cluster.dead_gateways:
        cluster.tell_worker(record.key, GatewayLost(gateway_id=held.gateway_id))
    elif len(cluster.requests) < cluster.limits.requests_max:
        tracked = cluster.requests.adopt(held, record.key, now_ns)
        adopted(cluster, tracked)
        _note(cluster, tracked, held, now_ns)


def _meet_elsewhere(
    cluster: Cluster,
    record: WorkerRecord,
    tracked: TrackedRequest,
    held: HeldRequest,
    now_ns: int,
) -> None:
    """It is listed by a worker that is not its owner, at no older attempt."""
    ahead = held.epoch > tracked.epoch or tracked.state is not RequestState.ASSIGNED
    unproven = held.epoch == tracked.epoch and not tracked.confirmed
    if ahead or (unproven and record.key != tracked.target):
        _adopt(cluster, record, tracked, held, now_ns)
    elif now_ns - tracked.since_ns > cluster.limits.assign_grace_ns:
        _cancel(cluster, record, held, held.epoch)


def _adopt(
    cluster: Cluster,
    record: WorkerRecord,
    tracked: TrackedRequest,
    held: HeldRequest,
    now_ns: int,
) -> None:
    """The lister owns it from now on: a committed move, or a late sign of life."""
    move = cluster.moves.of_request(tracked.request_id)
    if move is not None and move.order.target == record.key:
        move.committed = True
    elif move is not None:
        end_move(cluster, move, f"move {move.order.move_id}: {record.key} runs the request")
    former = tracked.owner
    if former is not None:
        cluster.bookings.end(former, tracked.request_id)
        if held.epoch == tracked.epoch:  # two at one epoch: only one may go on
            cluster.tell_worker(
                former, RequestCancelled(request_id=tracked.request_id, epoch=held.epoch)
            )
    cluster.queue.remove(tracked)
    cluster.requests.adopt(held, record.key, now_ns)
    check_listener(cluster, record, tracked, held)
    tracked.aborts = tracked.next_move_ns = 0
    _note(cluster, tracked, held, now_ns)


def _note(cluster: Cluster, tracked: TrackedRequest, held: HeldRequest, now_ns: int) -> None:
    """The owner lists it."""
    assert tracked.owner is not None, tracked
    if held.epoch > tracked.epoch:
        tracked.epoch = held.epoch
    if not tracked.confirmed:
        tracked.confirmed = True
        cluster.bookings.end(tracked.owner, tracked.request_id)
    tracked.unlisted_ns = None
    tracked.phase = held.phase
    tracked.known_tokens, tracked.output_tokens = held.known_tokens, held.output_tokens
    move = cluster.moves.of_request(tracked.request_id)
    if move is not None and move.order.move_id == held.move_id:
        move.heard_ns = now_ns  # under way; its source bounds how long without progress


def _miss(cluster: Cluster, tracked: TrackedRequest, now_ns: int) -> None:
    """The owner leaves it out. A target that committed lists it within the grace."""
    grace_ns = cluster.limits.assign_grace_ns
    if tracked.unlisted_ns is None:
        tracked.unlisted_ns = now_ns
    elif now_ns - max(tracked.unlisted_ns, tracked.since_ns) > grace_ns:
        # If a move had committed and its target then died unheard, the gateway has
        # seen the next hop and takes no notice of an older displacement.
        epoch = Epoch(tracked.epoch.attempt, tracked.epoch.hop + 1)
        reason = f"worker {tracked.owner} does not hold it"
        displace(cluster, tracked, epoch, reason, now_ns)


def _cancel(cluster: Cluster, record: WorkerRecord, held: HeldRequest, epoch: Epoch) -> None:
    event = RequestCancelled(request_id=held.request_id, epoch=epoch)
    cluster.tell_worker(record.key, event)
