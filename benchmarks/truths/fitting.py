"""Finds an engine's factors from measured points, and says how far predictions are off."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from math import exp, log
from statistics import median

from splitweave.sim.costs.efficiency import Efficiency

from .closed_loop import Cost
from .silicon import Engine, Point, predict

FACTORS = ("gemm", "attention", "weights", "kv", "link", "layer_us", "host_us", "request_us")
AROUND = ("turn_us", "front_us", "front_token_us")
SHARES = ("gemm", "attention", "weights", "kv", "link")
TTFT_WEIGHT = 0.5  # of a TTFT's error beside a TPOT's, in the fit
START = Efficiency(gemm=0.5, weights=0.65, kv=0.6, link=0.4, layer_us=15.0)


def choices() -> list[Engine]:
    """The settings that nobody noted: which are tried."""
    return [
        Engine(
            efficiency=START, ahead=ahead, batched_tokens_max=tokens, warm=warm, rounds=rounds,
            front_us=1000.0, front_token_us=0.2, fp8_kv_bytes=1.0,
        )
        for ahead, tokens, (warm, rounds) in product(
            (0, 1), (2048, 4096, 8192), ((True, 5), (False, 10))
        )
    ]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Errors:
    """Absolute relative errors, medians, over so many points."""

    points: int
    ttft: float
    tpot: float


def errors(
    points: Sequence[Point], engine: Engine, cost_of: Callable[[Point], Cost] | None = None
) -> Errors:
    """How far predictions are off: the roofline's, or those of another cost."""
    said = [predict(point, engine, cost_of and cost_of(point)) for point in points]
    pairs = list(zip(points, said, strict=True))
    return Errors(
        points=len(points),
        ttft=median(abs(s.ttft_s / p.ttft_s - 1) for p, s in pairs),
        tpot=median(abs(s.tpot_s / p.tpot_s - 1) for p, s in pairs),
    )


def settle(points: Sequence[Point], engines: Sequence[Engine]) -> Engine:
    """Of these settings those of least loss, each with the factors that fit it best."""
    tried = [fit(points, engine, sweeps=1) for engine in engines]
    best = min(range(len(tried)), key=lambda n: (loss(points, tried[n]), n))
    return fit(points, tried[best], sweeps=4)


def fit(points: Sequence[Point], start: Engine, sweeps: int = 3) -> Engine:
    """Coordinate descent on the loss: each factor up and down, by smaller and smaller steps."""
    best, least = start, loss(points, start)
    for sweep in range(sweeps):
        step = log(1.5) / 2**sweep
        for name in (*FACTORS, *AROUND):
            for direction in (step, -step):
                tried = _moved(best, name, direction)
                while tried != best and (found := loss(points, tried)) < least:
                    best, least = tried, found
                    tried = _moved(best, name, direction)
    return best


def _moved(engine: Engine, name: str, step: float) -> Engine:
    if name in AROUND:
        return replace(engine, **{name: asdict(engine)[name] * exp(step)})
    value = asdict(engine.efficiency)[name] * exp(step)
    if name in SHARES:
        value = min(1.0, value)
    return replace(engine, efficiency=replace(engine.efficiency, **{name: value}))


def loss(points: Sequence[Point], engine: Engine) -> float:
    """Mean absolute log ratio of TPOT, and half of that of TTFT."""
    total = 0.0
    for point in points:
        said = predict(point, engine)
        total += abs(log(said.tpot_s / point.tpot_s))
        total += TTFT_WEIGHT * abs(log(said.ttft_s / point.ttft_s))
    return total / len(points)
