"""What each worker did over time, from the samples; and each pool in sum."""

from dataclasses import dataclass

from ...proto.ids import WorkerId
from ..scenario import PoolSpec, Scenario
from .bill import gpus_of
from .records import UNKNOWN
from .sampler import Sampler, Series

VALUES_MAX = 40_000  # samples times workers in one result; beyond, fewer samples are kept


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSeries:
    """One worker, one value per sample; None while it was down. Shares are in [0, 1].

    `utilisation` is that of the time since the sample before.
    """

    worker_id: str
    pool: str
    running: tuple[int | None, ...]
    waiting: tuple[int | None, ...]
    kv_occupancy: tuple[float | None, ...]
    utilisation: tuple[float | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """Of all workers. Sample number i was taken `(i + 1) * period_s` after the start."""

    period_s: float
    count: int
    workers: tuple[WorkerSeries, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolFigures:
    """A pool over the whole run; means and peaks are over its workers' samples."""

    name: str
    role: str
    hardware: str
    workers: int
    gpus: int | None  # of all its workers; None where no device is named
    blocks: int
    blocks_origin: str
    utilisation: float | None
    batch_mean: float | None
    batch_max: int | None
    kv_mean: float | None
    kv_max: float | None
    preemptions: int


def samples_of(sampler: Sampler, scenario: Scenario) -> Samples:
    """The samples as shares, evenly thinned to at most `VALUES_MAX` per gauge."""
    stride = 1
    while sampler.samples // stride * max(1, len(sampler.series)) > VALUES_MAX:
        stride *= 2
    pools = _pools(scenario)
    period_ns = sampler.period_ns * stride
    workers = [
        _series(worker_id, pools[worker_id], scenario, _thinned(series, stride), period_ns)
        for worker_id, series in sampler.series.items()
    ]
    return Samples(
        period_s=period_ns / 1e9, count=sampler.samples // stride, workers=tuple(workers)
    )


def pools_of(sampler: Sampler, samples: Samples, scenario: Scenario) -> tuple[PoolFigures, ...]:
    """Every pool in sum."""
    return tuple(_pool(pool, sampler, samples, scenario) for pool in scenario.pools)


def _pools(scenario: Scenario) -> dict[WorkerId, PoolSpec]:
    return {
        WorkerId(f"{pool.name}-{index}"): pool
        for pool in scenario.pools
        for index in range(pool.count)
    }


def _thinned(series: Series, stride: int) -> Series:
    if stride == 1:
        return series
    return Series(
        running=series.running[stride - 1 :: stride],
        waiting=series.waiting[stride - 1 :: stride],
        blocks_used=series.blocks_used[stride - 1 :: stride],
        blocks_cached=series.blocks_cached[stride - 1 :: stride],
        busy_ns=series.busy_ns[stride - 1 :: stride],
        preemptions=series.preemptions[stride - 1 :: stride],
    )


def _series(
    worker_id: WorkerId, pool: PoolSpec, scenario: Scenario, series: Series, period_ns: int
) -> WorkerSeries:
    blocks = scenario.blocks_of(pool).count
    return WorkerSeries(
        worker_id=worker_id,
        pool=pool.name,
        running=tuple(_known(value) for value in series.running),
        waiting=tuple(_known(value) for value in series.waiting),
        kv_occupancy=tuple(
            None if value == UNKNOWN else round(value / blocks, 4) for value in series.blocks_used
        ),
        utilisation=_utilisation(series, period_ns),
    )


def _utilisation(series: Series, period_ns: int) -> tuple[float | None, ...]:
    """An iteration is booked whole when it begins: what lies beyond a sample is carried over."""
    shares: list[float | None] = []
    before = carried = 0
    for busy_ns in series.busy_ns:
        if busy_ns == UNKNOWN:
            shares.append(None)
            before = carried = 0
            continue
        begun = busy_ns - before if busy_ns >= before else busy_ns  # less: a new life
        carried += begun
        spent = min(period_ns, carried)
        carried -= spent
        before = busy_ns
        shares.append(round(spent / period_ns, 4))
    return tuple(shares)


def _pool(pool: PoolSpec, sampler: Sampler, samples: Samples, scenario: Scenario) -> PoolFigures:
    mine = [series for series in samples.workers if series.pool == pool.name]
    batches = [value for series in mine for value in series.running if value is not None]
    kv = [value for series in mine for value in series.kv_occupancy if value is not None]
    busy = [value for series in mine for value in series.utilisation if value is not None]
    blocks = scenario.blocks_of(pool)
    preempted = [
        max(sampler.series[WorkerId(series.worker_id)].preemptions, default=0) for series in mine
    ]
    return PoolFigures(
        name=pool.name,
        role=pool.role.value,
        hardware=pool.hardware,
        workers=pool.count,
        gpus=gpus_of(scenario, pool),
        blocks=blocks.count,
        blocks_origin=blocks.origin,
        utilisation=sum(busy) / len(busy) if busy else None,
        batch_mean=sum(batches) / len(batches) if batches else None,
        batch_max=max(batches, default=None),
        kv_mean=sum(kv) / len(kv) if kv else None,
        kv_max=max(kv, default=None),
        preemptions=sum(max(0, count) for count in preempted),
    )


def _known(value: int) -> int | None:
    return None if value == UNKNOWN else value
