"""Requests drawn after a public trace: its rate, bursts, lengths and shared prefixes.

Four independent draws, each from percentiles of the trace: gaps (their rate swelling
slowly), prompts, outputs, and what a prompt takes from an earlier one. Prompt and output
of a request are independent: in Azure's traces their rank correlation is below 0.1.
"""

from bisect import bisect_left
from collections.abc import Iterator
from itertools import count
from math import log, sqrt
from random import Random

from ..clock import to_ns
from .arrivals import Arrival, Segment
from .fitted import Fit, Reuse, fit_of
from .lengths import Points, value_at
from .specs import SyntheticSpec

HISTORY_MAX = 8192  # prompts that a later one can take up
TRIES_MAX = 128  # on either side of the moment drawn, for one that is long enough


def synthetic(spec: SyntheticSpec, seed: int) -> Iterator[Arrival]:
    """Requests like the trace's. Endless. At another rate the same come, on another scale."""
    fit = fit_of(spec.like)
    random = Random(f"workload {seed}")
    past = Past(fit.reuse) if fit.reuse is not None else None
    scale = 1.0 if spec.rate_per_s is None else fit.rate_per_s / spec.rate_per_s
    for index, at_s in enumerate(_times(fit, Random(f"times {seed}"))):
        if past is None:
            segments: tuple[Segment, ...] = (Segment(f"own/{index}", _tokens(fit.prompt, random)),)
        else:
            segments = past.prompt(fit, random, at_s)
        output = _tokens(fit.output, random)
        yield Arrival(at_ns=to_ns(at_s * scale), segments=segments, output_tokens=output)


class Past:
    """The prompts so far, as block ids, the latest `HISTORY_MAX` of them."""

    def __init__(self, reuse: Reuse) -> None:
        self._reuse = reuse
        self._at_s: list[float] = []
        self._blocks: list[tuple[int, ...]] = []
        self._head = tuple(range(reuse.head_blocks))
        self._ids = count(reuse.head_blocks)

    def prompt(self, fit: Fit, random: Random, at_s: float) -> tuple[Segment, ...]:
        """The next prompt, which may begin as an earlier one did."""
        reuse = self._reuse
        again = random.random() < reuse.chance
        tokens = _tokens(reuse.prompt if again else fit.prompt, random)
        needed = -(-tokens // reuse.block_tokens)
        taken = self._head[:needed]
        if again:
            share, back_s = _drawn(reuse.share, random), _drawn(reuse.back_s, random)
            taken = self._earlier(at_s - back_s, round(share * needed)) or taken
        blocks = taken + tuple(next(self._ids) for _ in range(needed - len(taken)))
        self._keep(at_s, blocks)
        return _segments(blocks, tokens, reuse.block_tokens)

    def _earlier(self, at_s: float, wanted: int) -> tuple[int, ...]:
        """The first `wanted` blocks of a prompt of about `at_s`: of the last before it that has
        as many, else of the first after it, else of the longest of those tried.
        """
        place = bisect_left(self._at_s, at_s)
        before = self._blocks[max(0, place - TRIES_MAX) : place][::-1]
        best: tuple[int, ...] = ()
        for blocks in before + self._blocks[place : place + TRIES_MAX]:
            if len(blocks) >= wanted:
                return blocks[:wanted]
            best = max(best, blocks, key=len)
        return best

    def _keep(self, at_s: float, blocks: tuple[int, ...]) -> None:
        if len(self._blocks) >= HISTORY_MAX:
            del self._blocks[: HISTORY_MAX // 2], self._at_s[: HISTORY_MAX // 2]
        self._at_s.append(at_s)
        self._blocks.append(blocks)


def _segments(blocks: tuple[int, ...], tokens: int, block_tokens: int) -> tuple[Segment, ...]:
    full, tail = divmod(tokens, block_tokens)
    segments = [Segment(f"block/{block}", block_tokens) for block in blocks[:full]]
    return (*segments, Segment(f"block/{blocks[full]}", tail)) if tail else tuple(segments)


def _times(fit: Fit, random: Random) -> Iterator[float]:
    """Arrival times at the trace's own rate, s."""
    mean_s = 1 / (fit.rate_per_s * fit.gap_mean)
    at_s, until_s, swell = 0.0, 0.0, 1.0
    while True:
        if at_s >= until_s:
            until_s, swell = at_s + fit.swell_s, _swell(fit, random)
        at_s += _drawn(fit.gap, random) * mean_s / swell
        yield at_s


def _swell(fit: Fit, random: Random) -> float:
    """A lognormal factor of mean 1."""
    variance = log(1 + fit.swell_cv**2)
    return random.lognormvariate(-variance / 2, sqrt(variance))


def _drawn(points: Points, random: Random) -> float:
    return value_at(points, 100 * random.random())


def _tokens(points: Points, random: Random) -> int:
    return max(1, round(_drawn(points, random)))
