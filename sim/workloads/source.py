"""From a scenario's `[workload]` to its arrivals."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ..clock import NS_PER_S
from . import csv_traces, json_traces
from .arrivals import Arrival
from .open_loop import batch, diurnal, gamma, poisson
from .order import Row, cut, in_order, merged, scaled, spread
from .sessions import sessions
from .specs import (
    BatchSpec,
    DiurnalSpec,
    GammaSpec,
    MixSpec,
    PoissonSpec,
    SessionsSpec,
    SyntheticSpec,
    TraceSpec,
    WorkloadSpec,
)
from .synthetic import synthetic

Read = Callable[[Path], Iterator[Row]]
FORMATS: dict[str, Read] = {
    "azure": lambda path: csv_traces.rows(path, csv_traces.AZURE),
    "burstgpt": lambda path: csv_traces.rows(path, csv_traces.BURSTGPT),
    "llmservingsim": lambda path: json_traces.rows(path, json_traces.LLMSERVINGSIM),
    "mooncake": lambda path: json_traces.rows(path, json_traces.MOONCAKE),
    "splitweave": lambda path: json_traces.rows(path, json_traces.SPLITWEAVE),
    "splitwise": lambda path: csv_traces.rows(path, csv_traces.SPLITWISE),
}


@dataclass(frozen=True, slots=True)
class Source:
    """A workload as its spec says it. Each iteration reads or draws it anew.

    Iterating raises TraceError for a trace file that cannot be used.
    """

    spec: WorkloadSpec
    seed: int
    context_tokens_max: int

    @property
    def requests(self) -> int | None:
        return _requests(self.spec)

    def __iter__(self) -> Iterator[Arrival]:
        return _arrivals(self.spec, self.seed, self.context_tokens_max)


def read_trace(path: Path, form: str) -> Iterator[Arrival]:
    """The requests of a trace file in order of time, the first at 0. Raises TraceError."""
    return in_order(path, FORMATS[form](path))


def _requests(spec: WorkloadSpec) -> int | None:
    match spec:
        case BatchSpec():
            return spec.requests
        case PoissonSpec() | GammaSpec() | DiurnalSpec() | SyntheticSpec():
            return spec.requests if spec.until_s is None else None
        case TraceSpec() | SessionsSpec():
            return None
        case MixSpec():
            counts = [_requests(part) for part in spec.parts]
            known = [count for count in counts if count is not None]
            return sum(known) if len(known) == len(counts) else None


def _arrivals(spec: WorkloadSpec, seed: int, context_tokens_max: int) -> Iterator[Arrival]:
    match spec:
        case PoissonSpec():
            return cut(poisson(spec, seed), 0.0, spec.until_s, spec.requests)
        case GammaSpec():
            return cut(gamma(spec, seed), 0.0, spec.until_s, spec.requests)
        case DiurnalSpec():
            return cut(diurnal(spec, seed), 0.0, spec.until_s, spec.requests)
        case SyntheticSpec():
            return cut(synthetic(spec, seed), 0.0, spec.until_s, spec.requests)
        case SessionsSpec():
            opened = sessions(spec, seed, context_tokens_max)
            return cut(opened, 0.0, spec.until_s, spec.sessions)
        case BatchSpec():
            return batch(spec, seed)
        case TraceSpec():
            return _trace(spec, seed)
        case MixSpec():
            parts = [
                _arrivals(part, seed * len(spec.parts) + place, context_tokens_max)
                for place, part in enumerate(spec.parts)
            ]
            return merged(parts)


def _trace(spec: TraceSpec, seed: int) -> Iterator[Arrival]:
    chosen = _chosen(spec, seed)
    if spec.rate_per_s is None:
        return scaled(chosen, spec.speedup)
    return _at_rate(chosen, _chosen(spec, seed), spec.rate_per_s)


def _chosen(spec: TraceSpec, seed: int) -> Iterator[Arrival]:
    arrivals = read_trace(Path(spec.path), spec.format)
    if spec.bucket_s:
        arrivals = spread(arrivals, spec.bucket_s, seed)
    return cut(arrivals, spec.from_s, spec.until_s, spec.requests or None)


def _at_rate(
    first: Iterator[Arrival], again: Iterator[Arrival], rate_per_s: float
) -> Iterator[Arrival]:
    """Scaled to a mean rate: read once to learn its own."""
    count = begin_ns = end_ns = 0
    for arrival in first:
        begin_ns = begin_ns if count else arrival.at_ns
        end_ns = arrival.at_ns
        count += 1
    span_ns = end_ns - begin_ns
    own_per_s = (count - 1) * NS_PER_S / span_ns if span_ns else rate_per_s
    yield from scaled(again, rate_per_s / own_per_s)
