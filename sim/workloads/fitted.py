"""The figures in `fitted.toml`: what `synthetic` draws after each public trace.

They are statistics of the traces, made by `benchmarks/workloads/fit.py`; no request
of a trace is among them.
"""

from functools import cache
from pathlib import Path
from typing import Annotated

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from ...proto.toml_file import load
from .lengths import Points, check_points, mean_of

STRICT = ConfigDict(extra="forbid", strict=True)
PATH = Path(__file__).with_name("fitted.toml")


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Reuse:
    """How prompts share prefixes, in blocks of `block_tokens`."""

    block_tokens: Annotated[int, Field(ge=1)]
    head_blocks: Annotated[int, Field(ge=0)]  # that every prompt begins with
    chance: Annotated[float, Field(ge=0, le=1)]  # that a request takes up an earlier prompt
    prompt: Points  # tokens, of those that do
    share: Points  # of the prompt's blocks, that it takes from there
    back_s: Points  # how long before it that one came

    def __post_init__(self) -> None:
        check_points(self.prompt, least=1)
        check_points(self.share, least=1e-6)
        check_points(self.back_s, least=1e-6)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Fit:
    """One trace."""

    source: str
    rate_per_s: Annotated[float, Field(gt=0)]
    gap: Points  # between arrivals, in units of the mean gap
    swell_s: Annotated[float, Field(gt=0)]  # the rate changes this often,
    swell_cv: Annotated[float, Field(ge=0)]  # by a lognormal factor of this deviation / mean
    prompt: Points  # tokens; with `reuse`, of those that take up nothing
    output: Points  # tokens
    reuse: Reuse | None = None

    def __post_init__(self) -> None:
        check_points(self.gap, least=1e-6)
        check_points(self.prompt, least=1)
        check_points(self.output, least=1)

    @property
    def gap_mean(self) -> float:
        """Of the gaps as they are drawn: near 1, and divided out."""
        return mean_of(self.gap)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Fits:
    """The file."""

    traces: dict[str, Fit]


@cache
def fit_of(like: str) -> Fit:
    """The figures of one trace. Raises KeyError."""
    return load(Fits, PATH).traces[like]
