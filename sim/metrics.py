"""What a run was like for its clients.

Definitions (also in every table): TTFT is from the arrival at the gateway to
the first token delivered, queueing included. TPOT is (last − first) / (tokens
− 1), one number per request of at least two tokens, so without the TTFT. ITL is
every gap between tokens. E2E is arrival to last token. Percentiles are nearest
rank. A request meets its SLO if its TTFT and, where it has one, its TPOT are
within bounds; goodput counts those per second. Requests whose client hung up
count for nothing; rejected ones count as not met.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from math import ceil
from typing import Any

from ..proto.gateway_events import RejectCode
from ..proto.move import MoveKind, Stage
from .clients import Stream
from .clock import NS_PER_S
from .run import Outcome

PERCENTILES = (50, 90, 99)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Seconds: mean and percentiles; None where there was nothing to measure."""

    mean_s: float
    p50_s: float
    p90_s: float
    p99_s: float
    max_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Moves:
    """All moves of one kind that gateways were told of."""

    committed: int
    aborted: int
    transfer_bytes: int
    hidden_bytes: int
    downtime: Spread | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics:
    """One run, in numbers."""

    requests: int
    completed: int
    cancelled: int
    rejected: int
    failed: int
    virtual_s: float
    prompt_tokens: int
    output_tokens: int
    cached_tokens: int
    ttft: Spread | None
    tpot: Spread | None
    itl: Spread | None
    e2e: Spread | None
    slo_met: int
    attainment: float
    goodput_per_s: float
    handoffs: Moves
    migrations: Moves
    attempts: int
    iterations: int
    busy: float

    def as_json(self) -> dict[str, Any]:
        """Plain dicts and numbers."""
        return asdict(self)


def measure(outcome: Outcome) -> Metrics:
    """The metrics of a finished run."""
    streams = list(outcome.world.clients.streams.values())
    done = [s for s in streams if s.finish is not None and not s.hung_up]
    slo = outcome.scenario.slo
    met = sum(meets(s, slo.ttft_s, slo.tpot_s) for s in done)
    judged = sum(not s.hung_up for s in streams)
    virtual_s = _span_s(streams)
    accounts = [s.account for s in streams if s.account is not None]
    engines = [party.engine for party in outcome.world.mail.workers.values()]
    busy_ns = sum(engine.busy_ns for engine in engines)
    rejected = sum(s.error is RejectCode.RESOURCE_EXHAUSTED for s in streams)
    return Metrics(
        requests=len(streams),
        completed=len(done),
        cancelled=sum(s.hung_up for s in streams),
        rejected=rejected,
        failed=sum(s.error is not None for s in streams) - rejected,
        virtual_s=virtual_s,
        prompt_tokens=sum(s.prompt_tokens for s in done),
        output_tokens=sum(s.tokens for s in done),
        cached_tokens=sum(account.cached_tokens for account in accounts),
        ttft=spread_of((ttft_s(s), 1) for s in done),
        tpot=spread_of((tpot_s(s), 1) for s in done if s.tokens > 1),
        itl=spread_of(gap for s in done for gap in gaps_s(s)),
        e2e=spread_of((e2e_s(s), 1) for s in done),
        slo_met=met,
        attainment=met / judged if judged else 0.0,
        goodput_per_s=met / virtual_s if virtual_s else 0.0,
        handoffs=_moves(streams, MoveKind.HANDOFF),
        migrations=_moves(streams, MoveKind.MIGRATION),
        attempts=sum(account.attempts for account in accounts),
        iterations=sum(engine.iterations for engine in engines),
        busy=busy_ns / (virtual_s * NS_PER_S * len(engines)) if virtual_s and engines else 0.0,
    )


def ttft_s(stream: Stream) -> float:
    """Arrival to first token."""
    assert stream.first_ns is not None, f"{stream.request_id} has no token"
    return (stream.first_ns - stream.asked_ns) / NS_PER_S


def tpot_s(stream: Stream) -> float:
    """(last − first) / (tokens − 1)."""
    assert stream.first_ns is not None, f"{stream.request_id} has no token"
    assert stream.last_ns is not None, f"{stream.request_id} has no token"
    return (stream.last_ns - stream.first_ns) / (stream.tokens - 1) / NS_PER_S


def e2e_s(stream: Stream) -> float:
    """Arrival to last token."""
    assert stream.last_ns is not None, f"{stream.request_id} has no token"
    return (stream.last_ns - stream.asked_ns) / NS_PER_S


def gaps_s(stream: Stream) -> Iterator[tuple[float, int]]:
    """Every gap between tokens, with how often it occurred."""
    yield 0.0, stream.together
    for gap_ns in stream.gaps_ns:
        yield gap_ns / NS_PER_S, 1


def meets(stream: Stream, ttft_slo_s: float, tpot_slo_s: float) -> bool:
    """Whether a completed stream is within both bounds."""
    return ttft_s(stream) <= ttft_slo_s and (stream.tokens < 2 or tpot_s(stream) <= tpot_slo_s)


def spread_of(weighted: Iterable[tuple[float, int]]) -> Spread | None:
    """Mean and nearest-rank percentiles of (value, how many times it occurred)."""
    ordered = sorted(weighted)
    count = sum(times for _, times in ordered)
    if not count:
        return None
    p50, p90, p99 = (percentile(ordered, count, percent) for percent in PERCENTILES)
    mean = sum(value * times for value, times in ordered) / count
    return Spread(mean_s=mean, p50_s=p50, p90_s=p90, p99_s=p99, max_s=ordered[-1][0])


def percentile(ordered: Sequence[tuple[float, int]], count: int, percent: int) -> float:
    """The least value that at least `percent` % of the `count` values do not exceed."""
    rank, seen = ceil(count * percent / 100), 0
    for value, times in ordered:
        seen += times
        if seen >= rank:
            return value
    raise AssertionError(f"rank {rank} of {count} not found")


def _span_s(streams: Sequence[Stream]) -> float:
    """First arrival to last token."""
    ends = [s.last_ns for s in streams if s.last_ns is not None]
    return (max(ends) - min(s.asked_ns for s in streams)) / NS_PER_S if ends else 0.0


def _moves(streams: Sequence[Stream], kind: MoveKind) -> Moves:
    reports, downtimes = [], []
    for stream in streams:
        if stream.account is None:
            continue
        committed = [m for m in stream.account.moves if m.outcome is Stage.COMMITTED]
        reports += [move for move in stream.account.moves if move.kind is kind]
        gaps = zip(committed, stream.account.downtimes_ns, strict=False)
        downtimes += [(gap / NS_PER_S, 1) for move, gap in gaps if move.kind is kind]
    return Moves(
        committed=sum(report.outcome is Stage.COMMITTED for report in reports),
        aborted=sum(report.outcome is Stage.ABORTED for report in reports),
        transfer_bytes=sum(report.transfer_bytes for report in reports),
        hidden_bytes=sum(report.hidden_bytes for report in reports),
        downtime=spread_of(downtimes),
    )
