"""How long prompts and outputs are, drawn one by one.

A lognormal is given by its median and its 90th percentile, as traces are
published: sigma = ln(p90 / median) / 1.2816. Where more of a distribution is known,
give its percentiles: between two of them lengths are drawn evenly on a logarithmic
scale.
"""

from bisect import bisect_right
from itertools import pairwise
from math import exp, log
from random import Random
from typing import Annotated, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

STRICT = ConfigDict(extra="forbid", strict=True)
Z90 = 1.2815515655446004  # the normal distribution's 90th percentile


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Fixed:
    """Always the same."""

    kind: Literal["fixed"]
    tokens: int = Field(ge=1)

    def draw(self, _random: Random) -> int:
        return self.tokens

    @property
    def max_tokens(self) -> int:
        return self.tokens


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Uniform:
    """Every length in [low, high] alike."""

    kind: Literal["uniform"]
    low: int = Field(ge=1)
    high: int = Field(ge=1)

    def __post_init__(self) -> None:
        if self.low > self.high:
            raise ValueError(f"low ({self.low}) exceeds high ({self.high})")

    def draw(self, random: Random) -> int:
        return random.randint(self.low, self.high)

    @property
    def max_tokens(self) -> int:
        return self.high


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Lognormal:
    """Many short, few long; never above `max`."""

    kind: Literal["lognormal"]
    median: float = Field(ge=1)
    p90: float = Field(ge=1)
    max: int = Field(ge=1)

    def __post_init__(self) -> None:
        if self.p90 < self.median:
            raise ValueError(f"p90 ({self.p90:g}) is below median ({self.median:g})")

    def draw(self, random: Random) -> int:
        sigma = log(self.p90 / self.median) / Z90
        return max(1, min(self.max, round(exp(random.gauss(log(self.median), sigma)))))

    @property
    def max_tokens(self) -> int:
        return self.max


Points = Annotated[list[tuple[float, float]], Field(min_length=2)]  # (percent, value)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Percentiles:
    """As measured: `at` holds (percent, tokens), from 0 to 100 %."""

    kind: Literal["percentiles"]
    at: Points

    def __post_init__(self) -> None:
        check_points(self.at, least=1)

    def draw(self, random: Random) -> int:
        return round(value_at(self.at, 100 * random.random()))

    @property
    def max_tokens(self) -> int:
        return round(self.at[-1][1])


def check_points(points: Points, *, least: float) -> None:
    """Percentiles from 0 to 100, rising, of values >= `least`. Raises ValueError."""
    if points[0][0] != 0 or points[-1][0] != 100:
        raise ValueError(f"goes from {points[0][0]:g} to {points[-1][0]:g} %, not from 0 to 100")
    if points[0][1] < least:
        raise ValueError(f"begins at {points[0][1]:g}, below {least:g}")
    for (percent, value), (later, larger) in pairwise(points):
        if later <= percent or larger < value:
            raise ValueError(
                f"({later:g} %, {larger:g}) after ({percent:g} %, {value:g}): unsorted"
            )


def value_at(points: Points, percent: float) -> float:
    """The value at a percentage in [0, 100); values above 0, their logarithms interpolated."""
    place = bisect_right(points, percent, key=lambda point: point[0])
    low, low_value = points[place - 1]
    high, high_value = points[min(place, len(points) - 1)]
    if low_value == high_value:
        return low_value
    way = (percent - low) / (high - low)
    return exp(log(low_value) + way * log(high_value / low_value))


def mean_of(points: Points) -> float:
    """The mean of what `value_at` gives for percentages drawn evenly."""
    total = 0.0
    for (low, low_value), (high, high_value) in pairwise(points):
        rise = high_value - low_value
        mean = rise / log(high_value / low_value) if rise else low_value
        total += (high - low) / 100 * mean
    return total


Length = Annotated[Fixed | Uniform | Lognormal | Percentiles, Field(discriminator="kind")]
