"""The load of a plan: a trace file, a scenario's workload, or one drawn after a public trace.

Read once and held, cut and scaled, because many fleets are tried on it. Its sessions
would wait for the answers of the fleet that serves them, so no bound could be told
beforehand: they are refused.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from ...proto.toml_file import ConfigError, build, read
from ..clock import NS_PER_S
from ..errors import TraceError
from ..workloads.arrivals import Arrival
from ..workloads.fitted import PATH as FITTED
from ..workloads.source import FORMATS, Source
from ..workloads.specs import WorkloadSpec

HEAD_BYTES = 4096
CONTEXT_MAX = 1 << 30
# What the first line of a format has, and no other's.
MARKS = {
    "azure": ("ContextTokens",),
    "burstgpt": ("Request tokens",),
    "splitwise": ("arrival_timestamp", "prompt_size"),
    "mooncake": ('"input_length"', '"timestamp"'),
    "llmservingsim": ('"input_toks"',),
    "splitweave": ('"at_s"', '"prompt_tokens"'),
}


@dataclass(frozen=True, kw_only=True)
class Cut:
    """Which part of a trace, and how fast. `minutes` in the trace's own time."""

    minutes: float | None = None
    requests_max: int = 6000
    rate_per_s: float | None = None

    def __post_init__(self) -> None:
        for name in ("minutes", "rate_per_s"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ConfigError(f"{name} ({value:g}) must be above 0")
        if self.requests_max < 1:
            raise ConfigError(f"requests ({self.requests_max}) must be at least 1")


@dataclass(frozen=True, slots=True)
class Load:
    """Requests in order of time, the first at 0. A `Workload`."""

    name: str
    arrivals: tuple[Arrival, ...]

    @property
    def requests(self) -> int:
        return len(self.arrivals)

    def __iter__(self) -> Iterator[Arrival]:
        return iter(self.arrivals)

    @property
    def span_s(self) -> float:
        """From the first arrival to the last."""
        return (self.arrivals[-1].at_ns - self.arrivals[0].at_ns) / NS_PER_S

    @property
    def rate_per_s(self) -> float:
        """Mean; of a single request 0."""
        return (self.requests - 1) / self.span_s if self.span_s else 0.0

    @property
    def longest_tokens(self) -> int:
        """Of prompt and output together."""
        return max(a.prompt_tokens + a.output_tokens for a in self.arrivals)

    def faster(self, factor: float) -> "Load":
        """The same requests, `factor` times as many per second."""
        if factor == 1:
            return self
        moved = (replace(a, at_ns=round(a.at_ns / factor)) for a in self.arrivals)
        return Load(self.name, tuple(moved))


def load_of(given: str, form: str | None, cut: Cut, seed: int) -> Load:
    """`given` names a trace file, a TOML file with a `[workload]`, or a synthetic workload.

    Raises ConfigError or TraceError.
    """
    spec = build(_Loads, {"workload": _table(given, form)}, given).workload
    arrivals = tuple(islice(_until(Source(spec, seed, CONTEXT_MAX), cut), cut.requests_max))
    if not arrivals:
        raise TraceError(f"{given}: no requests in it, or none are left after its cuts")
    if any(arrival.turns for arrival in arrivals):
        raise ConfigError(
            f"{given}: sessions wait for the answers of the fleet that serves them; plan "
            "on a trace of what they asked for"
        )
    load = Load(given, _from_zero(arrivals))
    if cut.rate_per_s is None:
        return load
    if not load.rate_per_s:
        raise ConfigError(f"rate: {given} has no two requests at different times to scale")
    return load.faster(cut.rate_per_s / load.rate_per_s)


@dataclass(frozen=True, kw_only=True)
class _Loads:
    workload: WorkloadSpec


def _until(source: Source, cut: Cut) -> Iterator[Arrival]:
    first_ns: int | None = None
    for arrival in source:
        first_ns = arrival.at_ns if first_ns is None else first_ns
        if cut.minutes is not None and arrival.at_ns - first_ns >= cut.minutes * 60 * NS_PER_S:
            return
        yield arrival


def _from_zero(arrivals: tuple[Arrival, ...]) -> tuple[Arrival, ...]:
    first_ns = arrivals[0].at_ns
    return tuple(replace(a, at_ns=a.at_ns - first_ns) for a in arrivals) if first_ns else arrivals


def _table(given: str, form: str | None) -> dict[str, Any]:
    synthetic = read(FITTED)["traces"]
    if given in synthetic and not Path(given).exists():
        return {"kind": "synthetic", "like": given, "requests": 1_000_000}
    path = Path(given).expanduser()
    if path.suffix == ".toml" and form is None:
        return _workload_table(path)
    if not path.is_file():
        raise ConfigError(
            f"trace: no file {given!r}, and no synthetic workload of that name "
            f"(there are {', '.join(synthetic)})"
        )
    return {"kind": "trace", "format": form or guess_format(path), "path": str(path)}


def _workload_table(path: Path) -> dict[str, Any]:
    table = read(path).get("workload")
    if not isinstance(table, dict):
        raise ConfigError(f"{path}: no table [workload] in it; docs/workloads.md shows each kind")
    if isinstance(table.get("path"), str):
        table["path"] = str((path.parent / Path(table["path"]).expanduser()).resolve())
    return table


def guess_format(path: Path) -> str:
    """The format by the file's first line. Raises ConfigError if it is none that is known."""
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES).decode("utf-8", errors="replace")
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    line = next((line for line in head.splitlines() if line.strip()), "")
    for form, marks in MARKS.items():
        if all(mark in line for mark in marks):
            return form
    if not line:
        raise TraceError(f"{path}: no requests in it")
    raise ConfigError(
        f"{path}: its first line is of no format that is known; name it (--format "
        f"{', '.join(sorted(FORMATS))})"
    )
