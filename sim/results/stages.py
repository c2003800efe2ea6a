"""Where the time of a request went: the stages of its TTFT, and its transfers."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..clock import NS_PER_S
from ..metrics import Spread, spread_of_ns
from .records import UNKNOWN
from .table import Table

Column = NDArray[np.int64]
STAGES = ("queue", "fetch", "wait", "prefill", "delivery")
# Requests by their TTFT: from one percentile to the next.
BANDS = ((0, 50), (50, 90), (90, 95), (95, 99), (99, 100))


@dataclass(frozen=True, slots=True, kw_only=True)
class Spans:
    """Seconds spent in each stage. `transfer` and `exposed` are of requests that moved."""

    queue: Spread | None
    fetch: Spread | None
    wait: Spread | None
    prefill: Spread | None
    delivery: Spread | None
    transfer: Spread | None
    exposed: Spread | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Band:
    """The requests whose TTFT lies between two percentiles: their mean seconds by stage."""

    label: str
    requests: int
    ttft_s: float
    stages_s: dict[str, float]


def spans_of(table: Table) -> Spans:
    """The stages of all requests that completed."""
    parts = _parts(table)
    moved = table.done & (table.of("transfer_ns") > 0)
    return Spans(
        **{name: spread_of_ns(part) for name, part in parts.items()},
        transfer=spread_of_ns(table.of("transfer_ns")[moved]),
        exposed=spread_of_ns(table.of("exposed_ns")[moved]),
    )


def bands_of(table: Table) -> tuple[Band, ...]:
    """Where each second of TTFT went: all requests, then those from percentile to percentile."""
    parts = _parts(table)
    ttft = sum(parts.values(), np.zeros(len(parts["queue"]), np.int64))
    if not len(ttft):
        return ()
    order = np.argsort(ttft, kind="stable")
    cuts = [(0, 100, "all"), *((low, high, f"p{low}–p{high}") for low, high in BANDS)]
    bands = []
    for low, high, label in cuts:
        chosen = order[-(-len(order) * low // 100) : -(-len(order) * high // 100)]
        if len(chosen):
            bands.append(_band(label, ttft, parts, chosen))
    return tuple(bands)


def _band(label: str, ttft: Column, parts: dict[str, Column], chosen: Column) -> Band:
    return Band(
        label=label,
        requests=len(chosen),
        ttft_s=_mean_s(ttft[chosen]),
        stages_s={name: _mean_s(part[chosen]) for name, part in parts.items()},
    )


def _mean_s(values_ns: Column) -> float:
    return int(values_ns.sum()) / len(values_ns) / NS_PER_S


def _parts(table: Table) -> dict[str, Column]:
    """Nanoseconds per stage of the requests that completed and were followed all the way."""
    times = {
        name: table.of(f"{name}_ns") for name in ("asked", "placed", "began", "computed", "first")
    }
    whole = table.done.copy()
    for column in times.values():
        whole &= column != UNKNOWN
    asked, placed, began, computed, first = (column[whole] for column in times.values())
    fetch = np.clip(table.of("fetch_ns")[whole], 0, began - placed)
    return {
        "queue": placed - asked,
        "fetch": fetch,
        "wait": began - placed - fetch,
        "prefill": computed - began,
        "delivery": first - computed,
    }
