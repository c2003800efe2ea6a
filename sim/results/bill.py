"""What a fleet costs: dollars, watts, and what one gets for them."""

from dataclasses import dataclass
from pathlib import Path

from ..costs.catalogue import CATALOGUE, Device, load_catalogue
from ..metrics import Metrics
from ..scenario import PoolSpec, Scenario

SECONDS_PER_HOUR = 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class Bill:
    """None where a pool's hardware names no device of the catalogue, or nothing was served.

    `slo_met_per_dollar`: requests that met the SLO per dollar. `mean_w` is of all
    workers; `token_j` per prompt or output token of a completed request.
    """

    gpus: int | None
    dollars_per_hour: float | None
    dollars_per_million_tokens: float | None
    goodput_per_gpu: float | None
    slo_met_per_dollar: float | None
    mean_w: float | None
    token_j: float | None


def bill_of(scenario: Scenario, metrics: Metrics) -> Bill:
    """Prices are those of the catalogue that each pool's hardware names."""
    gpus = [gpus_of(scenario, pool) for pool in scenario.pools]
    prices = [_dollars_per_hour(scenario, pool) for pool in scenario.pools]
    known_gpus = [count for count in gpus if count is not None]
    known = [price for price in prices if price is not None]
    whole_gpus = sum(known_gpus) if len(known_gpus) == len(gpus) else None
    per_hour = sum(known) if len(known) == len(prices) else None
    spent = per_hour * metrics.virtual_s / SECONDS_PER_HOUR if per_hour is not None else None
    tokens = metrics.output_tokens
    return Bill(
        gpus=whole_gpus,
        dollars_per_hour=per_hour,
        dollars_per_million_tokens=spent / tokens * 1e6 if spent and tokens else None,
        goodput_per_gpu=metrics.goodput_per_s / whole_gpus if whole_gpus else None,
        slo_met_per_dollar=metrics.slo_met / spent if spent else None,
        mean_w=metrics.mean_w,
        token_j=metrics.token_j,
    )


def gpus_of(scenario: Scenario, pool: PoolSpec) -> int | None:
    """GPUs of the whole pool; None where its hardware names no device."""
    spec = scenario.hardware[pool.hardware]
    if _device(scenario, pool) is None:
        return None
    return pool.count * int(getattr(spec, "tp", 1))


def _dollars_per_hour(scenario: Scenario, pool: PoolSpec) -> float | None:
    device, gpus = _device(scenario, pool), gpus_of(scenario, pool)
    if device is None or gpus is None:
        return None
    return device.dollars_per_hour.value * gpus


def _device(scenario: Scenario, pool: PoolSpec) -> Device | None:
    spec = scenario.hardware[pool.hardware]
    name: str | None = getattr(spec, "device", None)
    if name is None:
        return None
    path: str | None = getattr(spec, "catalogue", None)
    return load_catalogue(CATALOGUE if path is None else Path(path)).device(name)
