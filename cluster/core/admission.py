"""Who gets in: new requests, questions about old ones, new attempts, and the way out."""

from collections.abc import Sequence
from dataclasses import replace

from ...proto.cluster_events import RequestDropped
from ...proto.gateway_events import RejectCode, RequestRejected
from ...proto.ids import Epoch
from ...proto.requests import Request
from ...proto.views import WorkerInfo
from .listeners import hear_gateway, tell_listener
from .placing import place_queued, tell_accepted
from .recovery import cancel, detach, forget, tell_displaced
from .requests import RequestState, TrackedRequest
from .state import Cluster

NS_PER_S = 1_000_000_000


def arrive(cluster: Cluster, request: Request, now_ns: int) -> None:
    """A gateway submits a request, for the first time or again."""
    hear_gateway(cluster, request.gateway_id)
    _take(cluster, request, now_ns)
    tracked = cluster.requests.get(request.request_id)
    if tracked is not None and _is_listeners(tracked, request):
        left_ns = request.remaining_ns
        cluster.deadlines.set(request.request_id, None if left_ns is None else now_ns + left_ns)


def _is_listeners(tracked: TrackedRequest, request: Request) -> bool:
    same = tracked.resume_digest == request.resume_digest
    return same and tracked.gateway_id == request.gateway_id


def _take(cluster: Cluster, request: Request, now_ns: int) -> None:
    tracked = cluster.requests.get(request.request_id)
    if tracked is None:
        _admit(cluster, request, now_ns)
    elif request.resume_digest != tracked.resume_digest:
        message = f"request_id: {request.request_id!r} belongs to another client"
        _reject(cluster, request, RejectCode.PERMISSION_DENIED, message)
    elif request.resumes > tracked.resumes:
        _take_over(cluster, tracked, request, now_ns)
    elif request.gateway_id != tracked.gateway_id:
        _reject_other(cluster, request, tracked)
    elif request.epoch.attempt > tracked.epoch.attempt:
        _queue_again(cluster, tracked, request, now_ns)
    else:
        _answer(cluster, tracked, request)


def drop(cluster: Cluster, event: RequestDropped, now_ns: int) -> None:
    """Its gateway needs it no longer: stop it wherever it may run."""
    tracked = cluster.requests.get(event.request_id)
    if tracked is None or tracked.gateway_id != event.gateway_id:
        return
    if tracked.orphaned_ns is not None:
        return  # a late word of the dead gateway, or its next life does not know the request
    cancel(cluster, tracked)
    forget(cluster, tracked, "the request has ended")
    place_queued(cluster, now_ns)


def reject_overdue(cluster: Cluster, now_ns: int) -> None:
    """Requests that found no worker in time are turned away."""
    limit_ns = cluster.limits.queue_ns_max
    for tracked in cluster.queue.overdue(now_ns - limit_ns):
        request = tracked.request
        assert request is not None, tracked
        waited_s = (now_ns - tracked.since_ns) / NS_PER_S
        message = f"no worker had room for {waited_s:.1f} s (queue_ns_max {limit_ns} ns)"
        _turn_away(cluster, request, message, now_ns)
        forget(cluster, tracked, "it waited too long")


def reject_hopeless(cluster: Cluster, now_ns: int) -> None:
    """Nobody passes the head of the queue, so it must not be one that no worker can hold.

    It got in while no worker was known. Dead ones count: they may come back.
    """
    grace_ns = cluster.limits.assign_grace_ns
    while (tracked := cluster.queue.head(now_ns)) is not None:
        if now_ns - tracked.since_ns <= grace_ns:
            return
        request, records = tracked.request, cluster.members.all()
        assert request is not None, tracked
        too_long = _too_long(request, [r.info for r in records if r.prefills]) or _too_long(
            request, [r.info for r in records if r.decodes], request.max_tokens
        )
        if not too_long:
            return
        _reject(cluster, request, RejectCode.INVALID_ARGUMENT, too_long)
        forget(cluster, tracked, "no worker can hold it")


def end_late(cluster: Cluster, now_ns: int) -> None:
    """Requests whose client waits no longer end wherever they are."""
    ended = False
    for request_id in cluster.deadlines.due(now_ns):
        tracked = cluster.requests.get(request_id)
        if tracked is None:
            continue
        rejected = RequestRejected(
            request_id=request_id,
            epoch=tracked.epoch,
            code=RejectCode.DEADLINE_EXCEEDED,
            message=f"the deadline is over; the request was {tracked.phase or tracked.state}",
        )
        cluster.tell_gateway(tracked.gateway_id, rejected)
        cancel(cluster, tracked)
        forget(cluster, tracked, "its deadline is over")
        ended = True
    if ended:
        place_queued(cluster, now_ns)


def _admit(cluster: Cluster, request: Request, now_ns: int) -> None:
    too_long = _too_long(request, [r.info for r in cluster.members.living() if r.prefills])
    too_long = too_long or _too_long_to_decode(cluster, request)
    if too_long:
        _reject(cluster, request, RejectCode.INVALID_ARGUMENT, too_long)
        return
    full = _full(cluster, request) or _too_late(cluster, request, now_ns)
    if full:
        _turn_away(cluster, request, full, now_ns)
        return
    ended = cluster.requests.ended_attempt(request.request_id)
    if ended is not None and request.epoch.attempt <= ended:
        # The id is used again: nothing of its old life may pass for the new one's.
        request = replace(request, epoch=Epoch(ended + 1))
    tracked = cluster.requests.queue(request, now_ns)
    if request.emitted:
        cluster.queue.add_again(tracked)  # it ran before, though not with us
    else:
        cluster.queue.add(tracked)
    _place_or_say_queued(cluster, tracked, now_ns)


def _full(cluster: Cluster, request: Request) -> str:
    """Why nobody new of its class gets in now, or empty. Who has tokens already does."""
    limits, known, line = cluster.limits, len(cluster.requests), request.request_class
    waiting = cluster.queue.waiting(line)
    if waiting >= limits.queue_len_max and not request.emitted:
        return f"{waiting} {line} requests wait for a worker (queue_len_max {limits.queue_len_max})"
    if known >= limits.requests_max:
        return f"{known} requests are running or waiting (requests_max {limits.requests_max})"
    return ""


def _too_late(cluster: Cluster, request: Request, now_ns: int) -> str:
    """Why it could not begin before its deadline, or empty: it is shed at once."""
    wait_ns = cluster.queue.wait_ns(request.request_class, now_ns)
    left_ns = request.remaining_ns
    if left_ns is None or wait_ns is None or wait_ns <= left_ns or request.emitted:
        return ""
    return (
        f"it would wait {wait_ns / NS_PER_S:.1f} s for a worker, "
        f"and its deadline is in {left_ns / NS_PER_S:.1f} s"
    )


def _too_long_to_decode(cluster: Cluster, request: Request) -> str:
    """As `_too_long` with all the output, for workers that decode."""
    infos = [r.info for r in cluster.members.living() if r.decodes]
    return _too_long(request, infos, request.max_tokens)


def _too_long(request: Request, infos: Sequence[WorkerInfo], output_tokens: int = 1) -> str:
    """Why none of these workers could ever hold the request, or empty; empty for none."""
    if not infos:
        return ""
    tokens = request.prompt_tokens + output_tokens
    said = f"prompt ({request.prompt_tokens} tokens) + max_tokens ({request.max_tokens})"
    context = max(info.context_tokens_max for info in infos)
    if request.prompt_tokens + request.max_tokens > context:
        return f"{said} exceeds context_tokens_max ({context})"
    memory = max(info.blocks_total * info.block_tokens for info in infos)
    if tokens > memory:
        return f"{said} exceeds a worker's KV memory, blocks_total x block_tokens ({memory})"
    return ""


def _queue_again(cluster: Cluster, tracked: TrackedRequest, request: Request, now_ns: int) -> None:
    """A newer attempt: the older one ends wherever it may still run."""
    cancel(cluster, tracked)
    detach(cluster, tracked, "the request starts again")
    cluster.requests.queue(request, now_ns)
    cluster.queue.add_again(tracked)
    _place_or_say_queued(cluster, tracked, now_ns)


def _take_over(cluster: Cluster, tracked: TrackedRequest, request: Request, now_ns: int) -> None:
    """The client came back: what runs goes on as it is, with another listener."""
    if request.gateway_id != tracked.gateway_id:
        former = replace(
            request,
            gateway_id=tracked.gateway_id,
            epoch=tracked.epoch,
            resumes=tracked.resumes,
        )
        _reject_other(cluster, former, request)
    attempt = tracked.epoch.attempt
    if tracked.state is RequestState.ASSIGNED and request.epoch.attempt <= attempt:
        cluster.requests.listen(tracked, request)
        tell_listener(cluster, tracked)
        tell_accepted(cluster, tracked)
        return
    above = replace(request, epoch=Epoch(max(request.epoch.attempt, attempt + 1)))
    _queue_again(cluster, tracked, above, now_ns)


def _reject_other(cluster: Cluster, request: Request, now: TrackedRequest | Request) -> None:
    """A gateway that is not, or not any more, the one that the client listens at."""
    name, there = request.request_id, now.gateway_id
    if request.resumes == now.resumes:
        message = f"request_id: {name!r} runs already, at gateway {there}"
        _reject(cluster, request, RejectCode.INVALID_ARGUMENT, message)
    else:
        message = f"request {name} goes on at gateway {there}"
        _reject(cluster, request, RejectCode.UNAVAILABLE, message)


def _answer(cluster: Cluster, tracked: TrackedRequest, request: Request) -> None:
    """A question about an attempt that is known."""
    if tracked.state is RequestState.DISPLACED:
        tell_displaced(cluster, tracked, "no worker holds it")
        return
    held = tracked.request
    same = request.epoch.attempt == tracked.epoch.attempt
    if held is not None and same and request.known_tokens > held.known_tokens:
        tracked.request, tracked.epoch = request, max(request.epoch, tracked.epoch)
    tell_accepted(cluster, tracked)


def _place_or_say_queued(cluster: Cluster, tracked: TrackedRequest, now_ns: int) -> None:
    place_queued(cluster, now_ns)
    if tracked.state is RequestState.QUEUED:
        tell_accepted(cluster, tracked)


def _turn_away(cluster: Cluster, request: Request, message: str, now_ns: int) -> None:
    """RESOURCE_EXHAUSTED, and when what waits now will have been placed."""
    limits = cluster.limits
    wait_ns = cluster.queue.wait_ns(request.request_class, now_ns) or 0
    _reject(
        cluster,
        request,
        RejectCode.RESOURCE_EXHAUSTED,
        message,
        retry_after_ns=min(max(wait_ns, limits.retry_after_ns), limits.retry_after_ns_max),
    )


def _reject(
    cluster: Cluster,
    request: Request,
    code: RejectCode,
    message: str,
    retry_after_ns: int | None = None,
) -> None:
    cluster.tell_gateway(
        request.gateway_id,
        RequestRejected(
            request_id=request.request_id,
            epoch=request.epoch,
            code=code,
            message=message,
            retry_after_ns=retry_after_ns,
        ),
    )
