"""Draws one token from one row of logits: a pure function, the same everywhere.

    token = f(logits, parameters, position, history)

The random number comes from a counter-based generator (Philox, SC'11) keyed by
(seed, position): no state, so a request drawn elsewhere, later or in another
batch draws the same. Order as in Hugging Face: penalties, temperature, top-k,
top-p, min-p.
"""

import numpy as np
from numpy.typing import NDArray

from ...proto.batch import Draw
from ...proto.requests import SampledToken, SamplingParams, TokenLogprobs

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Ids = NDArray[np.int64]

_WORD = (1 << 64) - 1
# Candidates that top-p looks at before it sorts the whole vocabulary.
_HEAD = 1024


def draw(logits_V: Floats, order: Draw) -> SampledToken:
    """The token at `order.position`. `logits_V` is only read."""
    params = order.params
    adjusted_V = penalize(logits_V, order) if params.needs_history else logits_V
    if params.temperature == 0.0:
        token_id = int(np.argmax(adjusted_V))  # the lowest id among equals
    else:
        ids, weights = candidates(adjusted_V, params)
        token_id = _pick(ids, weights, uniform(params.seed, order.position))
    if params.logprobs is None:
        return SampledToken(token_id=token_id)
    return SampledToken(token_id=token_id, logprobs=logprobs(logits_V, token_id, params.logprobs))


def uniform(seed: int, position: int) -> float:
    """A number in [0, 1) that depends on nothing else."""
    key = np.array([seed & _WORD, position & _WORD], dtype=np.uint64)
    return float(int(np.random.Philox(key=key).random_raw()) >> 11) * 2.0**-53


def penalize(logits_V: Floats, order: Draw) -> Floats:
    """Logits after the repetition (prompt and output), presence and frequency (output)
    penalties. arXiv 1909.05858 for the first; the others as in OpenAI's API.
    """
    params = order.params
    adjusted_V = logits_V.copy()
    seen = _known(order.history, len(logits_V))
    repeated = adjusted_V[seen]
    factor = np.float32(params.repetition_penalty)
    adjusted_V[seen] = np.where(repeated < 0, repeated * factor, repeated / factor)
    output = np.asarray(order.history[order.prompt_tokens :], dtype=np.int64)
    ids, counts = np.unique(output, return_counts=True)
    adjusted_V[ids] -= np.float32(params.frequency_penalty) * counts.astype(np.float32)
    adjusted_V[ids] -= np.float32(params.presence_penalty)
    return adjusted_V


def _known(history: tuple[int, ...], vocab: int) -> Ids:
    ids = np.unique(np.asarray(history, dtype=np.int64))
    return ids[ids < vocab]


def candidates(logits_V: Floats, params: SamplingParams) -> tuple[Ids, Doubles]:
    """Ids that survive the filters, ascending, and their unnormalized weights.

    The most likely token always survives; equals at top-k's edge all do.
    """
    ids = _top_k(logits_V, params.top_k)
    scaled = logits_V[ids].astype(np.float64) / params.temperature
    weights = np.exp(scaled - scaled.max())
    if params.top_p < 1.0:
        kept = _top_p(weights, params.top_p)
        ids, weights = ids[kept], weights[kept]
    if params.min_p > 0.0:
        kept = np.flatnonzero(weights >= params.min_p * weights.max())
        ids, weights = ids[kept], weights[kept]
    return ids, weights


def _top_k(logits_V: Floats, top_k: int) -> Ids:
    vocab = len(logits_V)
    if top_k <= 0 or top_k >= vocab:
        return np.arange(vocab)
    edge = np.partition(logits_V, vocab - top_k)[vocab - top_k]
    return np.flatnonzero(logits_V >= edge)


def _top_p(weights: Doubles, top_p: float) -> Ids:
    """Indices, ascending, of the fewest likeliest that together reach `top_p`.

    Equals go by lower index first. arXiv 1904.09751.
    """
    goal = top_p * weights.sum()
    likeliest = _descending(weights, _HEAD)
    reached = weights[likeliest].cumsum()
    if reached[-1] < goal and len(likeliest) < len(weights):
        likeliest = _descending(weights, len(weights))
        reached = weights[likeliest].cumsum()
    count = int(np.searchsorted(reached, goal)) + 1
    return np.sort(likeliest[:count])


def _descending(weights: Doubles, count: int) -> Ids:
    """Indices of at least the `count` largest, by (weight down, index up)."""
    if count >= len(weights):
        return np.argsort(-weights, kind="stable")
    edge = np.partition(weights, len(weights) - count)[len(weights) - count]
    head = np.flatnonzero(weights >= edge)
    return head[np.argsort(-weights[head], kind="stable")]


def _pick(ids: Ids, weights: Doubles, number: float) -> int:
    """Inverse of the cumulative distribution in id order."""
    cumulative = weights.cumsum()
    index = int(np.searchsorted(cumulative, number * cumulative[-1], side="right"))
    return int(ids[min(index, len(ids) - 1)])


def logprobs(logits_V: Floats, token_id: int, alternatives: int) -> TokenLogprobs:
    """Natural logs of the model's own distribution; `alternatives` likeliest, ties by id."""
    wide = logits_V.astype(np.float64)
    peak = wide.max()
    total = peak + np.log(np.exp(wide - peak).sum())
    top = _descending(wide, alternatives)[:alternatives] if alternatives > 0 else ()
    return TokenLogprobs(
        token=float(wide[token_id] - total),
        top=tuple((int(index), float(wide[index] - total)) for index in top),
    )
