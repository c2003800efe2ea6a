"""Every bound of the two control-plane cores. Times are nanoseconds, named *_ns."""

from dataclasses import dataclass, fields

MS = 1_000_000
S = 1_000_000_000


class LimitsError(ValueError):
    """A limit that cannot work: names the key, its value, and what it may be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterLimits:
    """Bounds of a `ClusterCore`. All are at least 1. Raises LimitsError."""

    # Requests of one class waiting for a worker. Low: bursts are rejected. High: they wait in vain.
    queue_len_max: int = 512
    # Longest wait for a worker. Low: rejects what a busy minute would have served.
    # High: clients learn late that they should have gone elsewhere.
    queue_ns_max: int = 120 * S
    # Requests known at once, running ones included. Beyond: RESOURCE_EXHAUSTED.
    requests_max: int = 100_000
    # Waiting that lifts a request by one class. Low: classes mean little under load.
    # High: the lowest class waits long behind a busy higher one.
    queue_age_ns: int = 20 * S
    # What a rejected client is told to wait: when what waits now will have been placed, by
    # the rate of late, but no less than this, and no more than the other.
    retry_after_ns: int = 1 * S
    retry_after_ns_max: int = 60 * S
    # Silence after which a worker gets nothing new. At least a few heartbeats.
    suspect_after_ns: int = 1 * S
    # Silence after which a worker is given up for ever; found within one tick more, so
    # dead_after_ns + tick_ns < 2 s keeps the promise. Low: a long pause kills it.
    dead_after_ns: int = 1_800 * MS
    # Period of all that is found by looking: silence, late ends, moves to order.
    tick_ns: int = 100 * MS
    # How long a worker's views may leave out a request before it counts as lost. Below a
    # heartbeat and a message's delay, requests that just arrived are run twice.
    assign_grace_ns: int = 1 * S
    # Period in which a gateway is told again that a request is displaced, and how often.
    displaced_again_ns: int = 1 * S
    displaced_tells_max: int = 10
    # How long a source's views may leave out a move before it counts as ended. Low: moves
    # are ordered twice. High: a lost order holds up a drain that long.
    move_ns_max: int = 20 * S
    # Migrations at once from a worker, and to one. High: each slows down the others.
    moves_per_worker_max: int = 4
    # Pause after an aborted move of a request; doubled each time, five times at most.
    move_backoff_ns: int = 500 * MS
    # Longest time that a placement counts beside the views that should show it.
    booking_ns_max: int = 10 * S
    # How long a dead worker's next life may be away before its process is ended from outside,
    # in case it hangs; doubled each time. Low: ends lives that are still starting.
    restart_after_ns: int = 10 * S
    # How long a worker may take to load its model and register, from its former life's death or
    # the controller's start; then whatever process it has is ended, restarts_max times in a row.
    # Low: no large model ever comes up. High: a worker stuck while loading is missed that long.
    load_ns_max: int = 900 * S
    # Such orders in a row; also lives in a row shorter than short_life_ns before a worker
    # that always dies is not started any more.
    restarts_max: int = 8
    short_life_ns: int = 20 * S
    # Workers known at once, dead ones that are still fenced included.
    workers_max: int = 4_096
    # Dead incarnations that are fenced and told to workers that still wait for them.
    deaths_max: int = 1_024
    # Period in which a worker with quarantined blocks is told who is dead.
    deaths_again_ns: int = 1 * S
    # Dead gateways that are remembered, to refuse what workers still hold for them.
    gateways_max: int = 1_024
    # Operators' asks that wait for an answer.
    asks_max: int = 256
    # How long the requests of a dead gateway run on, for their clients to come back through
    # another. Low: what a client resumes late is computed again. High: they run for nobody.
    resume_grace_ns: int = 10 * S
    # Ended requests remembered, so that a late view does not bring one back.
    ended_max: int = 20_000
    # Requests whose moves are remembered for `status --request`, ended ones included, and
    # moves of each; later ones are only counted.
    traces_max: int = 1_024
    trace_moves_max: int = 32
    # Prefix hashes remembered per worker; beyond, the oldest is computed again.
    prefix_hashes_max: int = 1_000_000

    def __post_init__(self) -> None:
        _check_positive(self)
        _check_below("suspect_after_ns", self.suspect_after_ns, "dead_after_ns", self.dead_after_ns)
        _check_below("tick_ns", self.tick_ns, "dead_after_ns", self.dead_after_ns)
        _check_below(
            "retry_after_ns", self.retry_after_ns, "retry_after_ns_max", self.retry_after_ns_max
        )
        _check_below("queue_len_max", self.queue_len_max, "requests_max", self.requests_max)


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayLimits:
    """Bounds of a `GatewayCore`. All are at least 1. Raises LimitsError."""

    # Period of submissions until the controller answers. Low: it is asked twice.
    submit_ns: int = 1 * S
    # Submissions in a row without an answer (also of a full queue, once it was admitted)
    # before the stream fails. submit_ns x submits_max should outlast a controller's restart.
    submits_max: int = 30
    # No progress for that long, and the gateway asks what became of the request. Low: slow
    # workers are asked without need. High: a lost end is found late.
    stall_ns: int = 10 * S
    # Such questions in a row before the request starts again elsewhere.
    stalls_max: int = 3
    # Pause before the same missing tokens are asked for again.
    resend_ns: int = 200 * MS
    # Times a request may start again before the stream fails: a request that kills
    # every worker it meets must end.
    attempts_max: int = 8
    # Streams open at once. Beyond: RESOURCE_EXHAUSTED.
    streams_max: int = 1_024
    # What a client that was refused for it is told to wait.
    retry_after_ns: int = 1 * S
    # How long a new gateway leaves alone what workers still send to its former life: the
    # clients of that life come back within it.
    resume_grace_ns: int = 10 * S
    # Ended ids remembered, so that an id used again starts above its old epochs.
    ended_max: int = 20_000
    # Longest wait, after the last token, for the report of a move that has committed. Low:
    # accounts lack it. High: a lost report holds up the end of the stream that long.
    account_ns: int = 300 * MS
    # Moves that one stream's account lists; later ones are left out.
    moves_max: int = 256

    def __post_init__(self) -> None:
        _check_positive(self)
        _check_below("resend_ns", self.resend_ns, "stall_ns", self.stall_ns)


def _check_positive(limits: ClusterLimits | GatewayLimits) -> None:
    for field in fields(limits):
        value = getattr(limits, field.name)
        if value < 1:
            raise LimitsError(f"{field.name} ({value}) must be at least 1")


def _check_below(low: str, low_value: int, high: str, high_value: int) -> None:
    if low_value >= high_value:
        raise LimitsError(f"{low} ({low_value}) must be below {high} ({high_value})")
