"""The `[workload]` table of a scenario: one dataclass per kind.

Of every kind: `until_s` takes what arrives before that time, `requests` the first so
many. Where both are given, both hold. docs/workloads.md shows each kind.
"""

from dataclasses import field
from typing import Annotated, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from .lengths import Fixed, Length

STRICT = ConfigDict(extra="forbid", strict=True)
Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(ge=0)]
Above0 = Annotated[float, Field(gt=0)]
RatePoints = Annotated[list[tuple[Seconds, Seconds]], Field(min_length=1)]


def _prompt() -> Fixed:
    return Fixed(kind="fixed", tokens=512)


def _output() -> Fixed:
    return Fixed(kind="fixed", tokens=128)


def check_end(requests: int | None, until_s: float | None, name: str = "requests") -> None:
    """A generator must end. Raises ValueError."""
    if requests is None and until_s is None:
        raise ValueError(f"give {name} or until_s: without either it would never end")


@dataclass(frozen=True, kw_only=True, config=STRICT)
class PoissonSpec:
    """Exponential gaps; lengths drawn one by one."""

    kind: Literal["poisson"]
    rate_per_s: Above0
    requests: Positive | None = None
    until_s: Above0 | None = None
    prompt: Length = field(default_factory=_prompt)
    output: Length = field(default_factory=_output)
    shared_prefix_tokens: Count = 0
    prefix_groups: Count = 0

    def __post_init__(self) -> None:
        check_end(self.requests, self.until_s)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class GammaSpec:
    """Gaps of a gamma distribution: bursts above a `cv` of 1, a steady beat below."""

    kind: Literal["gamma"]
    rate_per_s: Above0
    cv: Annotated[float, Field(ge=0.01, le=100)]  # of the gaps: deviation / mean
    requests: Positive | None = None
    until_s: Above0 | None = None
    prompt: Length = field(default_factory=_prompt)
    output: Length = field(default_factory=_output)
    shared_prefix_tokens: Count = 0
    prefix_groups: Count = 0

    def __post_init__(self) -> None:
        check_end(self.requests, self.until_s)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class DiurnalSpec:
    """A Poisson process whose rate follows a curve that repeats."""

    kind: Literal["diurnal"]
    curve: RatePoints  # (time of day in s, rate per s): straight lines between, round the clock
    period_s: Above0 = 86400.0
    requests: Positive | None = None
    until_s: Above0 | None = None
    prompt: Length = field(default_factory=_prompt)
    output: Length = field(default_factory=_output)
    shared_prefix_tokens: Count = 0
    prefix_groups: Count = 0

    def __post_init__(self) -> None:
        check_end(self.requests, self.until_s)
        times = [at_s for at_s, _ in self.curve]
        if times != sorted(set(times)) or times[-1] >= self.period_s:
            raise ValueError(
                f"curve: times must rise, from 0 to below period_s ({self.period_s:g})"
            )
        if not any(rate for _, rate in self.curve):
            raise ValueError("curve: every rate is 0")


@dataclass(frozen=True, kw_only=True, config=STRICT)
class BatchSpec:
    """Offline work: everything at once, of class batch."""

    kind: Literal["batch"]
    requests: Positive
    at_s: Seconds = 0.0
    within_s: Above0 | None = None  # every answer must have ended by then; None: whenever
    prompt: Length = field(default_factory=_prompt)
    output: Length = field(default_factory=_output)
    shared_prefix_tokens: Count = 0
    prefix_groups: Count = 0


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ThinkTime:
    """How long a person reads and writes: lognormal, as `Lognormal` is for lengths."""

    median: Above0 = 15.0
    p90: Above0 = 60.0
    max: Above0 = 600.0

    def __post_init__(self) -> None:
        if not self.median <= self.p90:
            raise ValueError(f"p90 ({self.p90:g}) is below median ({self.median:g})")


@dataclass(frozen=True, kw_only=True, config=STRICT)
class SessionsSpec:
    """Conversations: they open as a Poisson process; each next turn waits for the answer.

    A turn's prompt is everything said before, the last answer included, and a message.
    """

    kind: Literal["sessions"]
    rate_per_s: Above0  # of new sessions
    sessions: Positive | None = None
    until_s: Above0 | None = None  # no session opens later
    turns_mean: Annotated[float, Field(ge=1)] = 4.0  # geometric
    turns_max: Positive = 50
    think_s: ThinkTime = field(default_factory=ThinkTime)
    prompt: Length = field(default_factory=_prompt)  # the first message
    message: Length = field(default_factory=lambda: Fixed(kind="fixed", tokens=64))
    output: Length = field(default_factory=_output)
    shared_prefix_tokens: Count = 0  # of the first message
    prefix_groups: Count = 0

    def __post_init__(self) -> None:
        check_end(self.sessions, self.until_s, "sessions")


@dataclass(frozen=True, kw_only=True, config=STRICT)
class TraceSpec:
    """A trace file; `path` is relative to the scenario's own folder."""

    kind: Literal["trace"]
    format: Literal["azure", "burstgpt", "llmservingsim", "mooncake", "splitweave", "splitwise"]
    path: str = Field(min_length=1)
    from_s: Seconds = 0.0  # in the trace's own time, as until_s is
    until_s: Above0 | None = None
    requests: Count = 0  # 0: all
    speedup: Above0 = 1.0
    rate_per_s: Above0 | None = None  # instead of speedup: as fast as gives this mean rate
    bucket_s: Seconds = 0.0  # > 0: stamps fall in buckets this wide; spread them

    def __post_init__(self) -> None:
        if self.rate_per_s is not None and self.speedup != 1:
            raise ValueError("give speedup or rate_per_s, not both")
        if self.until_s is not None and self.until_s <= self.from_s:
            raise ValueError(f"until_s ({self.until_s:g}) must exceed from_s ({self.from_s:g})")


@dataclass(frozen=True, kw_only=True, config=STRICT)
class SyntheticSpec:
    """Drawn after a public trace, from a few figures of it that come with Splitweave."""

    kind: Literal["synthetic"]
    like: Literal["azure-code", "azure-conversation", "mooncake-conversation", "mooncake-synthetic"]
    requests: Positive | None = None
    until_s: Above0 | None = None
    rate_per_s: Above0 | None = None  # None: the trace's own

    def __post_init__(self) -> None:
        check_end(self.requests, self.until_s)


OneSpec = Annotated[
    PoissonSpec | GammaSpec | DiurnalSpec | BatchSpec | SessionsSpec | TraceSpec | SyntheticSpec,
    Field(discriminator="kind"),
]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class MixSpec:
    """Several workloads side by side."""

    kind: Literal["mix"]
    parts: Annotated[list[OneSpec], Field(min_length=1, max_length=20)]


WorkloadSpec = Annotated[
    PoissonSpec
    | GammaSpec
    | DiurnalSpec
    | BatchSpec
    | SessionsSpec
    | TraceSpec
    | SyntheticSpec
    | MixSpec,
    Field(discriminator="kind"),
]
