"""How a worker may come by a request's prefix: it has it, brings it back, fetches it, computes it.

What is copied arrives while the request still queues; what is left is computed then.
"""

from collections.abc import Sequence
from heapq import nlargest

from .links import LinkEstimates
from .placement import Candidate, PlacementAsk, Way


def holders_of(candidates: Sequence[Candidate], count: int) -> tuple[Candidate, ...]:
    """The `count` workers that have most of the prefix on their devices."""
    holding = [candidate for candidate in candidates if candidate.hit_tokens]
    return tuple(nlargest(count, holding, key=lambda holder: holder.hit_tokens))


def ways(
    candidate: Candidate, ask: PlacementAsk, links: LinkEstimates, fetch_tokens_min: int
) -> list[Way]:
    """All of them, the plainest first."""
    found = [Way(uncached=_rest(ask, candidate.hit_tokens))]
    size = candidate.info.block_tokens
    if candidate.host_hit_tokens:
        back = candidate.host_hit_tokens // size * candidate.view.speed.restore_block_ns
        rest = _rest(ask, candidate.hit_tokens + candidate.host_hit_tokens)
        found.append(Way(uncached=rest, arrive_ns=back))
    for holder in ask.holders:
        # The last known token is computed, whatever is cached.
        tokens = min(holder.hit_tokens, (ask.known_tokens - 1) // size * size)
        gain = tokens - candidate.hit_tokens
        if holder.key != candidate.key and gain >= max(1, fetch_tokens_min):
            moved_bytes = gain // size * candidate.info.block_bytes
            pair = (holder.key.worker_id, candidate.key.worker_id)
            found.append(
                Way(
                    uncached=_rest(ask, tokens),
                    arrive_ns=links.transfer_ns(*pair, moved_bytes),
                    fetch=holder.key,
                    fetch_tokens=tokens,
                )
            )
    return found


def _rest(ask: PlacementAsk, cached_tokens: int) -> int:
    """Tokens to compute; the last one always is, to draw from."""
    return max(1, ask.known_tokens - cached_tokens)
