"""How long prompts and outputs are, drawn one by one.

A lognormal is given by its median and its 90th percentile, as traces are
published: sigma = ln(p90 / median) / 1.2816.
"""

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


Length = Annotated[Fixed | Uniform | Lognormal, Field(discriminator="kind")]
