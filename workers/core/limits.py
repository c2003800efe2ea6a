"""Every limit of a worker core, with its unit, its bound, and what its extremes cost."""

from dataclasses import dataclass, fields

MS = 1_000_000


_MAY_BE_0 = ("watermark_blocks", "spill_ahead_blocks", "resends_max")


class LimitError(ValueError):
    """A limit of a worker has a value that cannot work; names key, value and bound."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerLimits:
    """Limits of one `WorkerCore`.

    batched_tokens_max: tokens of one iteration, >= sequences_max. High: long
        iterations, so prefill delays every decode beside it. Low: idle arithmetic.
    sequences_max: requests that own blocks at once, open leases included, >= 1.
        High: preemption under long outputs. Low: idle memory.
    prefill_chunk_tokens: tokens of one request's prefill in one iteration,
        1..batched_tokens_max. Low: more iterations per prompt. High: coarse overlap.
    queue_len_max: requests that wait here, >= 1. Beyond it `RequestEnded(reason)`.
    watermark_blocks: blocks kept free at admission and leasing so that running
        requests can grow, >= 0. High: unused memory. 0: preemption right after admission.
    spill_ahead_blocks: blocks that are free or have a copy in host memory before they
        are needed, >= 0. High: copies that nobody asks for. Low: a long prompt evicts
        what was not copied yet, and it is lost.
    spill_blocks_max: blocks of one spill ahead of time, >= 1; while it lasts they cannot
        be evicted. High: allocation may have to wait for it.
    spill_again_ns: pause after a spill that failed, > 0.
    restores_max: waiting requests that get blocks back from host memory at once, >= 1;
        so many at the head of the queue are looked at. High: a late request's copy
        delays an earlier one's.
    heartbeat_ns: time between views, > 0. High: the router sees the past.
    integrity_ns: an idle worker goes over its tables at most this often, on a heartbeat,
        > 0; takes time by its blocks. High: memory without an owner stays in use for long.
    register_retry_ns: time between registrations that nobody answered, > 0.
    lease_ns: a target gives up a move without progress for this long, > 0. Shorter
        than an iteration: moves abort while the source computes.
    lease_ask_ns: a source asks, offers and aborts again after this long, > 0.
    lease_asks_max: unanswered asks before a source gives up, and repeats of an abort that
        its target does not answer, >= 1.
    copy_ns: a source gives up when no copy in flight ends for this long, > 0.
    fetch_ns: a waiting request gives up the fetch of its prefix after this long and
        computes it, > 0. High: a lost peer is a long wait. Low: long prefixes never come.
    handover_ns: a stopped source waits this long for the commit, then runs on, > 0.
        High: a lost target is a long gap in the stream. Low: needless double work.
    handover_blocks_max: a migration stops its source when at most this many blocks
        have not arrived, >= 1. High: long downtime. (1 is the unfinished block.)
    copy_bytes_min: a copy that rides on an iteration takes as many layers as it needs
        to weigh this much, >= 1. Low: many small messages, whose latency counts. High:
        little overlap within an iteration.
    layer_group: layers of such a copy at least, >= 1.
    paced_copy_bytes: bytes of one copy of a migration beside decoding, >= 1 (whole
        blocks, at least one). High: single iterations notice. Low: latency counts.
    copy_percent: share of the time, in percent, that copies of migrations are under way
        while this worker decodes, 1..100; 100: no limit but copies_in_flight_max. High:
        decoding slows down. Low: a migration takes long.
    drain_copy_percent: the same while it drains, 1..100: it shall leave.
    asks_ahead_max: waiting requests whose leases are asked for before they are admitted, >= 1.
    copy_blocks_max: blocks of one copy outside an iteration, >= 1. High: progress is
        seen late, and the lease may expire.
    copies_in_flight_max: copies of one move under way before it waits, >= 1.
    pull_wait_ns: after the first token of a handoff whose target has no room, the source
        waits this long for its lease, decoding on, > 0. High: another target may have
        had room for long. Low: the controller has to order a migration.
    delayed_leases_max: handoffs that a target without room remembers, >= 1. Beyond it they
        are refused for good.
    moves_max: leases open at once, and migrations open at once as a source, >= 1.
    ended_moves_max: ended moves remembered for late messages, least recent forgotten
        first, >= 1; so many aborts at most are said again until they are heard. Low: a late
        message may begin a move anew, or open a lease that the source must disown.
    resend_ns: time between repeats of a finished request's last chunk, > 0.
    resends_max: repeats before a finished request is forgotten, >= 0.
    finished_max: finished requests that wait for their ack, >= 1; the oldest go first.
    iteration_ns_max: an iteration that takes longer hangs: the process ends, > 0. Low:
        ends workers on a busy machine. High: their requests wait for the gateways' stalls.
    peers_max: workers whose death is remembered for fencing, >= 1.
    """

    batched_tokens_max: int = 512
    sequences_max: int = 64
    prefill_chunk_tokens: int = 256
    queue_len_max: int = 256
    watermark_blocks: int = 4
    spill_ahead_blocks: int = 256
    spill_blocks_max: int = 32
    spill_again_ns: int = 1_000 * MS
    restores_max: int = 2
    heartbeat_ns: int = 200 * MS
    integrity_ns: int = 10_000 * MS
    register_retry_ns: int = 500 * MS
    lease_ns: int = 5_000 * MS
    lease_ask_ns: int = 100 * MS
    lease_asks_max: int = 10
    copy_ns: int = 2_000 * MS
    fetch_ns: int = 2_000 * MS
    handover_ns: int = 2_000 * MS
    handover_blocks_max: int = 2
    copy_bytes_min: int = 1024 * 1024
    layer_group: int = 1
    paced_copy_bytes: int = 8 * 1024 * 1024
    copy_percent: int = 5
    drain_copy_percent: int = 25
    asks_ahead_max: int = 4
    copy_blocks_max: int = 64
    copies_in_flight_max: int = 8
    pull_wait_ns: int = 1_000 * MS
    delayed_leases_max: int = 64
    moves_max: int = 64
    ended_moves_max: int = 1024
    resend_ns: int = 500 * MS
    resends_max: int = 20
    finished_max: int = 1024
    iteration_ns_max: int = 120_000 * MS
    peers_max: int = 4096

    def __post_init__(self) -> None:
        for field in fields(self):
            least = 0 if field.name in _MAY_BE_0 else 1
            value = getattr(self, field.name)
            if value < least:
                raise LimitError(f"{field.name} ({value}) is less than {least}")
        for name in ("copy_percent", "drain_copy_percent"):
            value = getattr(self, name)
            if value > 100:
                raise LimitError(f"{name} ({value}) exceeds 100")
        for smaller in ("prefill_chunk_tokens", "sequences_max"):
            value = getattr(self, smaller)
            if value > self.batched_tokens_max:
                raise LimitError(
                    f"{smaller} ({value}) exceeds batched_tokens_max ({self.batched_tokens_max})"
                )
