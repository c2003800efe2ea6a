"""Requests that come whatever happens to those before: Poisson, gamma, diurnal, batch.

Each stream is endless but for the batch; `order.cut` ends it.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterator
from itertools import count
from random import Random
from typing import Protocol

from ...proto.requests import RequestClass
from ..clock import to_ns
from .arrivals import Arrival, Segment
from .lengths import Length
from .specs import BatchSpec, DiurnalSpec, GammaSpec, PoissonSpec

Later = Callable[[Random, float], float]  # from one arrival's time to the next one's, s


class Asks(Protocol):
    """What a spec says of the requests themselves."""

    @property
    def prompt(self) -> Length: ...

    @property
    def output(self) -> Length: ...

    @property
    def shared_prefix_tokens(self) -> int: ...

    @property
    def prefix_groups(self) -> int: ...


def poisson(spec: PoissonSpec, seed: int) -> Iterator[Arrival]:
    """Exponential gaps."""
    return _timed(spec, seed, lambda random, at_s: at_s + random.expovariate(spec.rate_per_s))


def gamma(spec: GammaSpec, seed: int) -> Iterator[Arrival]:
    """Gaps of mean 1 / rate and the given coefficient of variation."""
    shape = 1 / spec.cv**2
    scale = 1 / (spec.rate_per_s * shape)
    return _timed(spec, seed, lambda random, at_s: at_s + random.gammavariate(shape, scale))


def diurnal(spec: DiurnalSpec, seed: int) -> Iterator[Arrival]:
    """By thinning: drawn at the highest rate, kept with the chance rate / highest."""
    highest = max(rate for _, rate in spec.curve)

    def later(random: Random, at_s: float) -> float:
        while True:
            at_s += random.expovariate(highest)
            if random.random() * highest < rate_at(spec, at_s):
                return at_s

    return _timed(spec, seed, later)


def rate_at(spec: DiurnalSpec, at_s: float) -> float:
    """The curve's rate: straight lines between its points, from the last round to the first."""
    curve, phase_s = spec.curve, at_s % spec.period_s
    place = bisect_right(curve, phase_s, key=lambda point: point[0])
    low_s, low = curve[place - 1]
    high_s, high = curve[place % len(curve)]
    width_s = (high_s - low_s) % spec.period_s or spec.period_s
    return low + (high - low) * ((phase_s - low_s) % spec.period_s) / width_s


def batch(spec: BatchSpec, seed: int) -> Iterator[Arrival]:
    """All at `at_s`, of class batch."""
    random = Random(f"workload {seed}")
    within_ns = None if spec.within_s is None else to_ns(spec.within_s)
    for index in range(spec.requests):
        yield Arrival(
            at_ns=to_ns(spec.at_s),
            segments=prompt_of(spec, random, index),
            output_tokens=spec.output.draw(random),
            request_class=RequestClass.BATCH,
            within_ns=within_ns,
        )


def prompt_of(spec: Asks, random: Random, index: int) -> tuple[Segment, ...]:
    """With `prefix_groups` > 0 a prompt begins with up to `shared_prefix_tokens` tokens that it
    has in common with the others of its group, and keeps at least one of its own.
    """
    tokens = spec.prompt.draw(random)
    shared = min(spec.shared_prefix_tokens, tokens - 1) if spec.prefix_groups else 0
    group = random.randrange(spec.prefix_groups) if spec.prefix_groups else 0
    own = Segment(f"own/{index}", tokens - shared)
    return (Segment(f"group/{group}", shared), own) if shared else (own,)


def _timed(spec: Asks, seed: int, later: Later) -> Iterator[Arrival]:
    random = Random(f"workload {seed}")
    at_s = 0.0
    for index in count():
        at_s = later(random, at_s)
        yield Arrival(
            at_ns=to_ns(at_s),
            segments=prompt_of(spec, random, index),
            output_tokens=spec.output.draw(random),
        )
