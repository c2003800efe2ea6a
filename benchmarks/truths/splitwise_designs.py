"""Splitwise's clusters (ISCA'24, section VI), its SLO, and how much load each cluster bears.

A cluster holds at a rate if all nine slowdowns are within bounds: TTFT, TBT and E2E, each at
p50, p90 and p99, against the same request alone on a DGX-A100 by the same measurements.
Requests come as a Poisson process; prompt and output lengths are drawn from an Azure trace,
each for itself, as there.
"""

import csv
from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, log2
from pathlib import Path
from random import Random

from .splitwise import Series, Trace, line_of

A100, H100, CAPPED = "a100-80gb", "h100-80gb", "h100-80gb-pcap"
MACHINE_W = {A100: 6_500, H100: 10_200, CAPPED: 7_140}
MACHINE_USD_PER_H = {A100: 8 * 2.21, H100: 8 * 4.76, CAPPED: 8 * 4.76}
BOUNDS = {
    "TTFT": {50: 2.0, 90: 3.0, 99: 6.0},
    "TBT": {50: 1.25, 90: 1.5, 99: 5.0},
    "E2E": {50: 1.25, 90: 1.5, 99: 5.0},
}
Replay = Callable[["Design", Trace], Series]


@dataclass(frozen=True, kw_only=True)
class Design:
    """`prompts` machines that compute prompts (all, where `tokens` is 0), and token machines."""

    name: str
    prompt: str
    prompts: int
    token: str = ""
    tokens: int = 0

    @property
    def machines(self) -> int:
        return self.prompts + self.tokens

    @property
    def kilowatts(self) -> float:
        return self._sum(MACHINE_W) / 1e3

    @property
    def usd_per_h(self) -> float:
        return self._sum(MACHINE_USD_PER_H)

    @property
    def shape(self) -> str:
        return f"{self.prompts}P{self.tokens}T" if self.tokens else str(self.prompts)

    def _sum(self, of: "dict[str, int] | dict[str, float]") -> float:
        tokens = self.tokens * of[self.token] if self.tokens else 0
        return self.prompts * of[self.prompt] + tokens


KINDS = {
    "Baseline-A100": (A100, ""),
    "Baseline-H100": (H100, ""),
    "Splitwise-AA": (A100, A100),
    "Splitwise-HH": (H100, H100),
    "Splitwise-HA": (H100, A100),
    "Splitwise-HHcap": (H100, CAPPED),
}


def _shapes(*shapes: tuple[int, int]) -> list[Design]:
    return [
        Design(name=name, prompt=kind[0], prompts=shape[0], token=kind[1], tokens=shape[1])
        for (name, kind), shape in zip(KINDS.items(), shapes, strict=True)
    ]


# Baseline-A100, Baseline-H100, AA, HH, HA, HHcap: (P, T)
ISO_POWER = {
    "conv": _shapes((70, 0), (40, 0), (45, 25), (25, 15), (25, 26), (25, 21)),
    "code": _shapes((70, 0), (40, 0), (55, 15), (35, 5), (35, 8), (35, 7)),
}
ISO_COST = {
    "conv": _shapes((86, 0), (40, 0), (51, 35), (25, 15), (30, 21), (30, 10)),
    "code": _shapes((86, 0), (40, 0), (66, 20), (35, 5), (35, 10), (35, 7)),
}


class Lengths:
    """Prompt and output tokens as in an Azure trace, each drawn for itself."""

    def __init__(self, path: Path) -> None:
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        self._prompts = [int(row["ContextTokens"]) for row in rows]
        self._outputs = [int(row["GeneratedTokens"]) for row in rows]

    def trace(self, rate_per_s: float, seconds: float, seed: int) -> Trace:
        """The same lengths at every rate: only the gaps shrink."""
        gaps, sizes = Random(f"gaps {seed}"), Random(f"sizes {seed}")
        at_s = 0.0
        found: Trace = []
        while True:
            at_s += gaps.expovariate(1.0) / rate_per_s
            if at_s >= seconds:
                return found
            prompt, output = sizes.choice(self._prompts), sizes.choice(self._outputs)
            found.append((at_s, prompt, max(2, output)))


class Slo:
    """Slowdowns against a DGX-A100 that serves nothing else."""

    def __init__(self, folder: Path) -> None:
        self._prompt = line_of(folder, A100, "prompt_time")
        self._token = line_of(folder, A100, "token_time")

    def worst(self, trace: Trace, times: Series) -> tuple[float, str]:
        """(the largest share of its bound that one of the nine slowdowns takes, which)."""
        alone = [self._alone(prompt, output) for _, prompt, output in trace]
        found = []
        for column, (metric, bounds) in enumerate(BOUNDS.items()):
            slow = sorted(t / a[column] for t, a in zip(times[metric], alone, strict=True))
            for percent, bound in bounds.items():
                value = slow[ceil(len(slow) * percent / 100) - 1]
                found.append((value / bound, f"{metric} p{percent}"))
        return max(found)

    def _alone(self, prompt: int, output: int) -> tuple[float, float, float]:
        ttft, tbt = self._prompt.at(prompt), self._token.at(prompt)
        return ttft, tbt, ttft + tbt * (output - 1)


@dataclass(frozen=True, kw_only=True)
class Capacity:
    """The highest rate that held, and what broke at the lowest that did not."""

    rate_per_s: float
    broken: str


@dataclass(frozen=True, kw_only=True)
class Search:
    """Between rates that are known to hold and to break, by halves down to `step`."""

    lengths: Lengths
    slo: Slo
    seconds: float = 120.0
    seed: int = 0
    least: float = 10.0
    most: float = 250.0
    step: float = 2.5

    def capacity(
        self, design: Design, replay: Replay, tick: Callable[[], None], most: float | None = None
    ) -> Capacity:
        """Of one cluster, looked for below `most`. `tick` is called after each run."""
        low, high, broken = 0.0, most or self.most, "nothing"
        while high - low > self.step:
            rate = max(self.least, (low + high) / 2)
            trace = self.lengths.trace(rate, self.seconds, self.seed)
            share, what = self.slo.worst(trace, replay(design, trace))
            tick()
            if share <= 1:
                low = rate
            else:
                high, broken = rate, what
                if rate <= self.least:
                    break
        return Capacity(rate_per_s=low, broken=broken)

    @property
    def runs(self) -> int:
        """About how many one capacity takes."""
        return ceil(log2(self.most / self.step))
