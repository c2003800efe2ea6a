"""Fits sim/workloads/fitted.toml to the public traces.

    python benchmarks/workloads/fit.py ../shared/data > sim/workloads/fitted.toml

DIR holds azure/ (github.com/Azure/AzurePublicDataset) and mooncake/
(github.com/kvcache-ai/Mooncake, FAST25-release). What comes out are percentiles and
rates; no request of a trace is in it. docs/workloads.md says what each figure means.
"""

import sys
from collections.abc import Iterable, Sequence
from itertools import pairwise
from math import sqrt
from pathlib import Path

from splitweave.sim.clock import NS_PER_S
from splitweave.sim.workloads.arrivals import Arrival
from splitweave.sim.workloads.order import spread
from splitweave.sim.workloads.source import read_trace

LENGTH_PERCENTS = (0, 1, 3, *range(5, 95, 5), 92.5, 95, 97.5, 99, 99.9, 100)
GAP_PERCENTS = (0, 5, 10, 25, 50, 75, 90, 95, 98, 99, 99.5, 99.8, 99.9, 99.95, 100)
SHARE_PERCENTS = (0, 10, 25, 50, 75, 90, 100)
SWELL_S = 300
BUCKET_S = 3.0  # of the stamps of Mooncake's conversations
TRACES = {
    "azure-code": ("azure/AzureLLMInferenceTrace_code.csv", "azure"),
    "azure-conversation": ("azure/AzureLLMInferenceTrace_conv.csv", "azure"),
    "mooncake-conversation": ("mooncake/mooncake_fast25_conversation_trace.jsonl", "mooncake"),
    "mooncake-synthetic": ("mooncake/mooncake_fast25_synthetic_trace.jsonl", "mooncake"),
}


def main(folder: Path) -> None:
    print("# Figures of public traces, for workloads of kind synthetic: docs/workloads.md.")
    print("# Written by benchmarks/workloads/fit.py.")
    for name, (path, form) in TRACES.items():
        arrivals = list(read_trace(folder / path, form))
        if name == "mooncake-conversation":
            arrivals = list(spread(arrivals, BUCKET_S, 1))
        fit(name, Path(path).name, arrivals)


def fit(name: str, source: str, arrivals: list[Arrival]) -> None:
    times_s = [arrival.at_ns / NS_PER_S for arrival in arrivals]
    mean_s = times_s[-1] / (len(times_s) - 1)
    gaps = [max(1e-4, (after - before) / mean_s) for before, after in pairwise(times_s)]
    print(f"\n[traces.{name}]")
    print(f'source = "{source}, {len(arrivals)} requests"')
    print(f"rate_per_s = {1 / mean_s:.4g}")
    line("gap", points(gaps, GAP_PERCENTS))
    print(f"swell_s = {SWELL_S}.0")
    print(f"swell_cv = {swell_cv(times_s, gaps):.3g}")
    chains = [tuple(segment.name for segment in arrival.segments) for arrival in arrivals]
    shares = reuses(chains, times_s) if len({chain[0] for chain in chains}) < len(chains) else None
    again = set() if shares is None else set(shares)
    fresh = [arrival for index, arrival in enumerate(arrivals) if index not in again]
    line("prompt", points([a.prompt_tokens for a in fresh], LENGTH_PERCENTS))
    line("output", points([a.output_tokens for a in arrivals], LENGTH_PERCENTS))
    if shares is not None:
        print(f"\n[traces.{name}.reuse]")
        print("block_tokens = 512")
        print(f"head_blocks = {head_blocks(chains)}")
        print(f"chance = {len(shares) / len(arrivals):.3g}")
        line("prompt", points([arrivals[i].prompt_tokens for i in shares], LENGTH_PERCENTS))
        line("share", points([share for share, _ in shares.values()], SHARE_PERCENTS))
        line("back_s", points([back for _, back in shares.values()], SHARE_PERCENTS))


def points(values: Iterable[float], percents: Sequence[float]) -> list[tuple[float, float]]:
    """Nearest-rank percentiles."""
    ordered = sorted(values)
    last = len(ordered) - 1
    return [(percent, ordered[round(percent / 100 * last)]) for percent in percents]


def swell_cv(times_s: list[float], gaps: list[float]) -> float:
    """Deviation / mean of the rate per SWELL_S, beyond what gaps that know nothing of each
    other give: their counts have the variance (mean count) x (gap deviation / mean)^2.
    """
    windows = int(times_s[-1] // SWELL_S)
    counts = [0] * windows
    for at_s in times_s:
        if at_s < windows * SWELL_S:
            counts[int(at_s // SWELL_S)] += 1
    mean = sum(counts) / windows
    variance = sum((count - mean) ** 2 for count in counts) / windows
    gap_mean = sum(gaps) / len(gaps)
    gap_cv2 = sum((gap - gap_mean) ** 2 for gap in gaps) / len(gaps) / gap_mean**2
    return sqrt(max(0.0, variance - mean * gap_cv2)) / mean


def head_blocks(chains: list[tuple[str, ...]]) -> int:
    """How many blocks all prompts begin with."""
    depth = 0
    while len({chain[depth : depth + 1] for chain in chains}) == 1:
        depth += 1
    return depth


def reuses(chains: list[tuple[str, ...]], times_s: list[float]) -> dict[int, tuple[float, float]]:
    """Of each request that takes up more of an earlier one than the head: the share of its
    blocks that an endless cache holds, and how long before the last of them was used, s.
    """
    head = head_blocks(chains)
    used_s: dict[str, float] = {}
    found: dict[int, tuple[float, float]] = {}
    for index, (chain, at_s) in enumerate(zip(chains, times_s, strict=True)):
        held = 0
        while held < len(chain) and chain[held] in used_s:
            held += 1
        if held > head:
            found[index] = (held / len(chain), max(1e-3, at_s - used_s[chain[held - 1]]))
        used_s.update(dict.fromkeys(chain, at_s))
    return found


def line(key: str, pairs: list[tuple[float, float]]) -> None:
    print(f"{key} = [{', '.join(f'[{percent:g}, {value:.5g}]' for percent, value in pairs)}]")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
