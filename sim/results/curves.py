"""A run as curves: how latencies are distributed, and what happened when."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..clock import NS_PER_S
from .records import UNKNOWN
from .table import Numbers, Table

BINS_MAX = 120
# Finer towards the end, where an SLO is decided.
PERCENTS = (*range(100), *(99 + tenth / 10 for tenth in range(1, 10)), 99.95, 99.99, 100)


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantiles:
    """Nearest-rank values, s, at the percentages of `PERCENTS` (the first one: the least)."""

    ttft_s: tuple[float, ...]
    tpot_s: tuple[float, ...]
    e2e_s: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """Equal slices of the run from its first arrival on; rates are per second.

    `tokens_per_s`: a request's output is spread evenly from its first to its last token.
    `in_flight`: requests between arrival and last token, at a slice's end.
    `met_per_s` counts requests where they ended.
    """

    slice_s: float
    arrivals_per_s: tuple[float, ...]
    ended_per_s: tuple[float, ...]
    met_per_s: tuple[float, ...]
    tokens_per_s: tuple[float, ...]
    in_flight: tuple[int, ...]


def quantiles_of(table: Table) -> Quantiles:
    """The distributions of all completed requests."""
    return Quantiles(
        ttft_s=_ranked(table.ttft_ns), tpot_s=_ranked(table.tpot_ns), e2e_s=_ranked(table.e2e_ns)
    )


def timeline_of(table: Table, met: NDArray[np.bool_]) -> Timeline | None:
    """What happened when; None if nobody got a token."""
    asked, first, last = (table.of(f"{name}_ns") for name in ("asked", "first", "last"))
    if table.span_s() == 0:
        return None
    start = int(asked.min())
    edges = np.linspace(start, int(last.max()), _bins(len(asked)) + 1)
    slice_s = float(edges[1] - edges[0]) / NS_PER_S
    heard = last != UNKNOWN
    counts = {
        "arrivals_per_s": np.histogram(asked, edges)[0],
        "ended_per_s": np.histogram(last[table.done], edges)[0],
        "met_per_s": np.histogram(last[met], edges)[0],
        "tokens_per_s": _tokens(edges, first[heard], last[heard], table.of("output_tokens")[heard]),
    }
    begun = np.cumsum(counts["arrivals_per_s"])
    over = np.cumsum(np.histogram(np.where(heard, last, asked), edges)[0])
    rates: Mapping[str, tuple[float, ...]] = {
        name: tuple((values / slice_s).tolist()) for name, values in counts.items()
    }
    in_flight = tuple(int(value) for value in begun - over)
    return Timeline(slice_s=slice_s, in_flight=in_flight, **rates)


def _bins(requests: int) -> int:
    """Enough requests per slice that its rate means something."""
    return max(1, min(BINS_MAX, requests // 16))


def _ranked(values_ns: Numbers) -> tuple[float, ...]:
    if not len(values_ns):
        return ()
    ordered, count = np.sort(values_ns), len(values_ns)
    ranks = [max(0, int(np.ceil(count * percent / 100)) - 1) for percent in PERCENTS]
    return tuple((ordered[ranks] / NS_PER_S).tolist())


def _tokens(
    edges: NDArray[np.float64],
    first: NDArray[np.int64],
    last: NDArray[np.int64],
    tokens: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Tokens per slice: up to an edge, a request has had a share of its own."""
    single = last == first
    width = float(edges[1] - edges[0])
    # The rate of a request counts from its first token's slice to its last token's.
    rates = np.where(single, 0.0, (tokens - 1) / np.maximum(1, last - first))
    slopes = np.zeros(len(edges) + 1)
    steps = np.zeros(len(edges) + 1)
    for at_ns, sign in ((first, 1.0), (last, -1.0)):
        slot = np.minimum(((at_ns - edges[0]) / width).astype(np.int64), len(edges) - 2)
        np.add.at(slopes, slot + 1, sign * rates * width)
        np.add.at(steps, slot, sign * rates * (edges[slot + 1] - at_ns))
    whole = np.cumsum(slopes)[: len(edges) - 1] + steps[: len(edges) - 1]
    at_once = np.where(single, tokens, 1)  # the first token, or all that came with it
    return np.asarray(whole + np.histogram(first, edges, weights=at_once)[0])
