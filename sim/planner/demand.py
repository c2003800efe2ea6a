"""What each request must cost a worker at the very least, in seconds of that worker.

Only requests that meet the SLO are counted on, and of each only what none can avoid: the
tokens that no cache could hold, read and computed at the lines of `floor.py`. What an
iteration costs whoever is in it (weights, host) is shared by the most that can be in it:

    rows      no more than `batched_tokens_max` of them
    places    no more than `sequences_max` decodes
    memory    no more KV than the worker's blocks hold
    TPOT      a request's iterations take its TPOT on average. With B tokens of at least
              y s each in I iterations of at least a s besides, the sum over tokens of their
              iteration's length is at most TPOT x B and at least a B + y B^2 / I (Cauchy):
              so I >= B y / (TPOT - a)

Each holds by itself and adds up over requests; the one that asks most in all is used.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..clock import NS_PER_S
from ..workloads.arrivals import Arrival
from .budgets import Budgets
from .floor import Floor, Line
from .slo import Slo
from .trace import Load

Floats = NDArray[np.float64]
PROMPT_QUANTILES = (0.0, 0.25, 0.5, 0.75)


@dataclass(frozen=True, slots=True, kw_only=True)
class Requests:
    """A load as columns. `fresh`: prompt tokens that no earlier prompt begins with."""

    at_s: Floats
    prompt: Floats
    fresh: Floats
    decodes: Floats  # output tokens after the first
    shares_prefixes: bool

    @property
    def pairs(self) -> Floats:
        """(query, key) pairs of the fresh tokens' attention."""
        return self.fresh * (self.prompt - self.fresh) + self.fresh * (self.fresh + 1) / 2

    @property
    def keys(self) -> Floats:
        """KV tokens that all of a request's decodes read."""
        return self.decodes * self.prompt + self.decodes * (self.decodes + 1) / 2


def requests_of(load: Load) -> Requests:
    """The columns of a load."""
    prompt = np.array([a.prompt_tokens for a in load.arrivals], dtype=float)
    fresh = np.array(list(_fresh(load.arrivals)), dtype=float)
    return Requests(
        at_s=np.array([a.at_ns for a in load.arrivals], dtype=float) / NS_PER_S,
        prompt=prompt,
        fresh=fresh,
        decodes=np.array([a.output_tokens - 1 for a in load.arrivals], dtype=float),
        shares_prefixes=bool((fresh < prompt).any()),
    )


def _fresh(arrivals: tuple[Arrival, ...]) -> Iterator[int]:
    """Each prompt's tokens beyond the longest prefix of an earlier one; at least the last."""
    longest: dict[tuple[int, str], tuple[int, int]] = {}  # (path, segment): path, tokens
    for arrival in arrivals:
        path, held, following = 0, 0, True
        for segment in arrival.segments:
            known, tokens = longest.get((path, segment.name), (len(longest) + 1, 0))
            if following:
                held += min(tokens, segment.tokens)
                following = tokens >= segment.tokens
            longest[path, segment.name] = (known, max(tokens, segment.tokens))
            path = known
        yield max(1, arrival.prompt_tokens - held)


def prefill_s(floor: Floor, requests: Requests, budgets: Budgets) -> Floats:
    """Seconds of a worker that only prefills, per request."""
    options = [_prefill(floor, line, requests, budgets, share=True) for line in floor.lines]
    return _most(options)


def decode_s(floor: Floor, requests: Requests, budgets: Budgets, slo: Slo) -> Floats:
    """Seconds of a worker that only decodes, per request."""
    options = [
        option for line in floor.lines for option in _decode(floor, line, requests, budgets, slo)
    ]
    return _most(options)


def mixed_s(floor: Floor, requests: Requests, budgets: Budgets, slo: Slo) -> Floats:
    """Seconds of a worker that does both, per request."""
    options: list[Floats] = []
    for line in floor.lines:
        beside = _prefill(floor, line, requests, budgets, share=False)
        alone = _prefill(floor, line, requests, budgets, share=True)
        rows, *others = _decode(floor, line, requests, budgets, slo)
        options += [alone + rows, *(beside + other for other in others)]
    return _most(options)


def idle_ttft_s(floor: Floor, requests: Requests, budgets: Budgets) -> Floats:
    """Seconds to the first token on a worker that does nothing else."""
    chunk = min(budgets.prefill_chunk_tokens, budgets.batched_tokens_max)
    iterations = np.ceil(requests.fresh / chunk)
    times = [
        iterations * line.iteration_s + requests.fresh * line.token_s + line.draw_s
        for line in floor.lines
    ]
    least = (np.max(times, axis=0) + requests.pairs * floor.pair_s) * floor.longer
    return np.where(requests.fresh <= budgets.in_place_tokens_max, 0.0, least)


def idle_tpot_s(floor: Floor, requests: Requests) -> Floats:
    """Seconds per output token on a worker that does nothing else; 0 without such tokens."""
    alone = max(line.iteration_s + line.decode_s + line.draw_s for line in floor.lines)
    reads = requests.keys / np.maximum(1, requests.decodes) * floor.key_s
    return np.where(requests.decodes > 0, alone + reads, 0.0)


def _prefill(
    floor: Floor, line: Line, requests: Requests, budgets: Budgets, *, share: bool
) -> Floats:
    """With `share` of what an iteration costs, by rows; without it what comes beside."""
    iteration_s = line.iteration_s / budgets.batched_tokens_max if share else 0.0
    per_token_s = iteration_s + line.token_s
    own_s = requests.pairs * floor.pair_s + line.draw_s + floor.request_s
    return (requests.fresh * per_token_s + own_s) * floor.longer


def _decode(
    floor: Floor, line: Line, requests: Requests, budgets: Budgets, slo: Slo
) -> Iterator[Floats]:
    """One option per way to share an iteration; that by rows first."""
    token_s = line.decode_s + line.draw_s
    own = requests.decodes * token_s + requests.keys * floor.key_s
    yield own + requests.decodes * line.iteration_s / budgets.batched_tokens_max
    share = line.iteration_s + line.head_s
    yield own + requests.decodes * share / budgets.sequences_max
    if not requests.shares_prefixes:
        yield own + requests.keys * share / floor.kv_tokens
    for quantile in PROMPT_QUANTILES:
        prompt = float(np.quantile(requests.prompt, quantile, method="lower"))
        least_s = token_s + (prompt + 1) * floor.key_s
        left_s = slo.tpot_s - share
        part = 1.0 if left_s <= least_s else least_s / left_s
        yield own + np.where(requests.prompt >= prompt, requests.decodes, 0.0) * share * part


def _most(options: list[Floats]) -> Floats:
    return max(options, key=lambda option: float(option.sum()))
