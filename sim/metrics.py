"""What a run was like for its clients.

Definitions (also in every table): TTFT is from the arrival at the gateway to
the first token delivered, queueing included. TPOT is (last − first) / (tokens
− 1), one number per request of at least two tokens, so without the TTFT. ITL is
every gap between tokens. E2E is arrival to last token. Percentiles are nearest
rank, those of the ITL to within 0.1 % (`results/gaps.py`). A
request meets its SLO if its TTFT and, where it has one, its TPOT are within bounds;
goodput counts those per second. Requests whose client hung up count for nothing;
rejected ones count as not met.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import ceil, fsum
from typing import Any

import numpy as np

from ..proto.move import MoveKind
from .clock import NS_PER_S
from .engine import Engine
from .results.gaps import Gaps
from .results.records import Ending, MoveTally
from .results.table import Numbers, Table
from .run import Outcome

PERCENTILES = (50, 90, 95, 99)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Seconds: mean and percentiles; None where there was nothing to measure."""

    mean_s: float
    p50_s: float
    p90_s: float
    p95_s: float
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
    energy_j: float | None  # of all workers that live at the end; None: a device has no figures
    mean_w: float | None
    token_j: float | None  # per prompt or output token of a completed request

    def as_json(self) -> dict[str, Any]:
        """Plain dicts and numbers."""
        return asdict(self)


def measure(outcome: Outcome) -> Metrics:
    """The metrics of a finished run."""
    records = outcome.world.clients.records
    table = Table(records)
    done = table.ending == Ending.COMPLETED
    slo = outcome.scenario.slo
    met = int(np.count_nonzero(table.meets(slo.ttft_s, slo.tpot_s)))
    judged = len(records) - table.count(Ending.CANCELLED)
    virtual_s = table.span_s()
    engines = [party.engine for party in outcome.world.mail.workers.values()]
    busy_ns = sum(engine.busy_ns for engine in engines)
    energy_j = _energy_j(engines, virtual_s)
    prompt_tokens = int(table.of("prompt_tokens")[done].sum())
    output_tokens = int(table.of("output_tokens")[done].sum())
    tokens = prompt_tokens + output_tokens
    return Metrics(
        requests=len(records),
        completed=table.count(Ending.COMPLETED),
        cancelled=table.count(Ending.CANCELLED),
        rejected=table.count(Ending.REJECTED),
        failed=table.count(Ending.FAILED),
        virtual_s=virtual_s,
        prompt_tokens=prompt_tokens,
        output_tokens=output_tokens,
        cached_tokens=int(table.of("cached_tokens").sum()),
        ttft=spread_of_ns(table.ttft_ns),
        tpot=spread_of_ns(table.tpot_ns),
        itl=_itl(records.gaps),
        e2e=spread_of_ns(table.e2e_ns),
        slo_met=met,
        attainment=met / judged if judged else 0.0,
        goodput_per_s=met / virtual_s if virtual_s else 0.0,
        handoffs=_moves(records.moves[MoveKind.HANDOFF]),
        migrations=_moves(records.moves[MoveKind.MIGRATION]),
        attempts=int(table.of("attempts").sum()),
        iterations=sum(engine.iterations for engine in engines),
        busy=busy_ns / (virtual_s * NS_PER_S * len(engines)) if virtual_s and engines else 0.0,
        energy_j=energy_j,
        mean_w=energy_j / virtual_s if energy_j is not None and virtual_s else None,
        token_j=energy_j / tokens if energy_j is not None and tokens else None,
    )


def spread_of_ns(values_ns: Numbers) -> Spread | None:
    """Mean and nearest-rank percentiles of nanoseconds, in seconds."""
    count = len(values_ns)
    if not count:
        return None
    ordered = np.sort(values_ns) / NS_PER_S
    ranks = [ceil(count * percent / 100) - 1 for percent in PERCENTILES]
    mean = fsum(ordered.tolist()) / count  # exact: no order of summing shows in it
    return _spread(mean, [float(ordered[rank]) for rank in ranks], float(ordered[-1]))


def _itl(gaps: Gaps) -> Spread | None:
    if not gaps.count:
        return None
    ranked = [gaps.percentile_ns(percent) / NS_PER_S for percent in PERCENTILES]
    return _spread(gaps.mean_ns / NS_PER_S, ranked, gaps.max_ns / NS_PER_S)


def _spread(mean_s: float, ranked_s: Sequence[float], max_s: float) -> Spread:
    p50, p90, p95, p99 = ranked_s
    return Spread(mean_s=mean_s, p50_s=p50, p90_s=p90, p95_s=p95, p99_s=p99, max_s=max_s)


def _energy_j(engines: Sequence[Engine], virtual_s: float) -> float | None:
    meters = [engine.meter for engine in engines if engine.meter is not None]
    if not meters or len(meters) < len(engines):
        return None
    return sum(meter.total_j(round(virtual_s * NS_PER_S)) for meter in meters)


def _moves(tally: MoveTally) -> Moves:
    return Moves(
        committed=tally.committed,
        aborted=tally.aborted,
        transfer_bytes=tally.transfer_bytes,
        hidden_bytes=tally.hidden_bytes,
        downtime=spread_of_ns(np.array(tally.downtimes_ns, np.int64)),
    )
