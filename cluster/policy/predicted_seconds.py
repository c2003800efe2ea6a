"""The default policy: the pair with the best predicted SLO attainment, then least seconds.

    ttft = waited + max(queue, copies of a prefix) + uncached prefill + handoff not hidden
           (a prefix may come from the worker's host memory, or be fetched from a peer,
           where that is less than computing it: see `prefix_ways`)
    tpot = an iteration of the decode worker after the request is admitted

All from each worker's own measured speed and each pair's own link, so that
unlike workers compare. A worker whose queue already exceeds `backlog_ns_max`
is not given more: the request waits in the controller, where every worker that
gets free can still take it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from ...proto.ids import WorkerKey
from ...proto.move import MoveReport
from ...proto.views import Role
from .links import LinkEstimates
from .placement import SLO, Candidate, MoveAsk, Placement, PlacementAsk, Way, blocks_for
from .prefix_ways import holders_of, ways

# Compared left to right: SLOs missed, nanoseconds of all, then the lower ids.
Score = tuple[int, float, WorkerKey, WorkerKey]
_AT_LEAST_1 = (
    "chunk_tokens",
    "backlog_ns_max",
    "waiting_max",
    "shortlist",
    "output_tokens_expected",
)
_AT_LEAST_0 = ("in_place_tokens_max", "reserve_tokens", "link_latency_ns", "fetch_tokens_min")


class Choice(NamedTuple):
    """One way to run a request: where it is prefilled, and where decoded if elsewhere."""

    rank: Score
    pair: tuple[Candidate, Candidate | None]
    ttft_ns: float
    tpot_ns: float


@dataclass(slots=True, kw_only=True)
class PredictedSeconds:
    """See the module. Every field has a unit and says what it weighs."""

    slo: SLO
    # Longest uncached prompt, tokens, that a decode worker prefills itself. Higher: fewer
    # handoffs, longer gaps in the streams that decode there. 0: decode workers never prefill.
    in_place_tokens_max: int = 32
    # Prompt tokens a worker is assumed to compute per iteration.
    chunk_tokens: int = 512
    # Longest queue, ns, of a worker that gets more. Lower: later, better informed choices;
    # below the heartbeat's period workers run dry.
    backlog_ns_max: int = 4_000_000_000
    # Requests that may wait on a worker that gets more; below its own queue_len_max.
    waiting_max: int = 128
    # Output tokens a request is assumed to make, at most its own maximum.
    output_tokens_expected: int = 128
    # Room for output, tokens, that a decode worker must have beyond the prompt.
    reserve_tokens: int = 64
    # Best prefill and best decode workers of which every pair is compared.
    shortlist: int = 4
    link_latency_ns: int = 1_000_000
    # Fewest tokens of a prefix that are worth fetching from a peer. 0: nothing is fetched.
    fetch_tokens_min: int = 32
    links: LinkEstimates = field(
        default_factory=lambda: LinkEstimates(default_bytes_per_s=1_000_000_000.0)
    )

    def __post_init__(self) -> None:
        for name in _AT_LEAST_1:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} ({getattr(self, name)}) must be at least 1")
        for name in _AT_LEAST_0:
            if getattr(self, name) < 0:
                raise ValueError(f"{name} ({getattr(self, name)}) must not be below 0")

    def place(
        self,
        ask: PlacementAsk,
        candidates: Sequence[Candidate],
        now_ns: int,  # noqa: ARG002
    ) -> Placement | None:
        """The best of all ways to run the request, or None if no worker has room."""
        found = max((c.hit_tokens + c.host_hit_tokens for c in candidates), default=0)
        if found and self.fetch_tokens_min:
            ask = replace(ask, holders=holders_of(candidates, self.shortlist))
        reserve = min(self.reserve_tokens, ask.output_tokens_max)
        choices = [self._in_place(c, ask) for c in self._hosts(candidates, ask, found, reserve)]
        only = [c for c in candidates if c.role is Role.PREFILL]
        sources = self._best_sources(self._weighed(only, ask, found), ask, found)
        if sources:
            targets = self._best_targets(candidates, ask, reserve)
            choices += [self._pair(s, t, ask) for s in sources for t in targets]
        if not choices and not (any(c.prefills for c in candidates) and _any_decodes(candidates)):
            # A pool is missing altogether: any role can do all of it when it must.
            takers = [c for _, c in self._weighed(candidates, ask, found)]
            choices = [self._in_place(c, ask) for c in takers if _has_room(c, ask, reserve)]
        if not choices:
            return None
        return self._placement(min(choices, key=lambda choice: choice.rank), ask)

    def pick_target(
        self,
        ask: MoveAsk,
        candidates: Sequence[Candidate],
        now_ns: int,  # noqa: ARG002
    ) -> WorkerKey | None:
        """The decoding worker with room whose copy and next tokens cost least."""
        best: tuple[float, WorkerKey] | None = None
        for candidate in candidates:
            need = blocks_for(ask.known_tokens + 1, candidate.info.block_tokens)
            if (
                not candidate.decodes
                or candidate.key == ask.source
                or need > candidate.blocks_available
                or ask.known_tokens >= candidate.info.context_tokens_max
            ):
                continue
            copy_ns = self.links.transfer_ns(
                ask.source.worker_id, candidate.key.worker_id, need * candidate.info.block_bytes
            )
            cost_ns = copy_ns + self._tpot_ns(candidate) * self.output_tokens_expected
            if best is None or (cost_ns, candidate.key) < best:
                best = (cost_ns, candidate.key)
        return None if best is None else best[1]

    def observe_move(self, report: MoveReport) -> None:
        """Learn the link of a move."""
        self.links.observe(report)

    def _weighed(
        self, candidates: Sequence[Candidate], ask: PlacementAsk, found: int
    ) -> list[tuple[float, Candidate]]:
        """Who takes another prefill, and nanoseconds that it takes at least, with `found` cached
        tokens wherever they are. One loop without calls: every request looks at every worker.
        """
        chunk, known, queue_ns_max = self.chunk_tokens, ask.known_tokens, self.backlog_ns_max
        uncached = max(1, known - found)
        chunks = -(-uncached // chunk)
        weighed: list[tuple[float, Candidate]] = []
        for candidate in candidates:
            if candidate.waiting >= self.waiting_max:
                continue
            backlog = candidate.backlog_tokens
            token_ns = candidate.view.speed.token_ns
            iteration_ns = candidate.iteration_ns
            queue_ns = -(-backlog // chunk) * iteration_ns + backlog * token_ns
            if queue_ns <= queue_ns_max and _has_room(candidate, ask, 1):
                at_least_ns = queue_ns + (chunks * iteration_ns + uncached * token_ns)
                weighed.append((at_least_ns, candidate))
        return weighed

    def _hosts(
        self, candidates: Sequence[Candidate], ask: PlacementAsk, found: int, reserve: int
    ) -> list[Candidate]:
        """Who may prefill it and go on to decode it."""
        short = ask.known_tokens - found <= self.in_place_tokens_max
        able = [c for c in candidates if c.role is Role.MIXED or (short and c.role is Role.DECODE)]
        takers = [c for _, c in self._weighed(able, ask, found)]
        return [c for c in takers if self._may_host(c, ask) and _has_room(c, ask, reserve)]

    def _may_host(self, candidate: Candidate, ask: PlacementAsk) -> bool:
        """Whether the request may stay where it is prefilled."""
        if candidate.role is not Role.DECODE:
            return candidate.role is Role.MIXED
        hits = [candidate.hit_tokens + candidate.host_hit_tokens]
        hits += [holder.hit_tokens for holder in ask.holders]
        if ask.known_tokens - max(hits) > self.in_place_tokens_max:
            return False  # whatever way the prefix takes
        return self._way(candidate, ask).uncached <= self.in_place_tokens_max

    def _best_sources(
        self, weighed: list[tuple[float, Candidate]], ask: PlacementAsk, found: int
    ) -> list[Candidate]:
        """The shortlist of those that prefill. With nothing cached their weight is the truth."""
        if found:
            weighed = [(self._prefilled_ns(c, ask), c) for _, c in self._within(weighed, ask)]
        return _least(weighed, self.shortlist)

    def _within(
        self, weighed: list[tuple[float, Candidate]], ask: PlacementAsk
    ) -> list[tuple[float, Candidate]]:
        """Those that may be on the shortlist: at best no worse than as many are at worst."""
        ranked = sorted(weighed, key=_weight)
        first = [self._prefilled_ns(candidate, ask) for _, candidate in ranked[: self.shortlist]]
        limit_ns = max(first, default=0.0)
        return [one for one in ranked if one[0] <= limit_ns]

    def _best_targets(
        self, candidates: Sequence[Candidate], ask: PlacementAsk, reserve: int
    ) -> list[Candidate]:
        """The shortlist of those that decode."""
        return _least(
            [
                (self._tpot_ns(c), c)
                for c in candidates
                if c.role is not Role.PREFILL and _has_room(c, ask, reserve)
            ],
            self.shortlist,
        )

    def _in_place(self, candidate: Candidate, ask: PlacementAsk) -> Choice:
        ttft_ns = ask.waited_ns + self._prefilled_ns(candidate, ask)
        # What the streams that decode there already lose to this prefill.
        delay_ns = candidate.streams * self._own_prefill_ns(candidate, ask)
        return self._choice((candidate, None), ask, ttft_ns, delay_ns)

    def _pair(self, source: Candidate, target: Candidate, ask: PlacementAsk) -> Choice:
        prefilled_ns = self._prefilled_ns(source, ask)
        exposed_ns = self._exposed_ns(source, target, ask)
        return self._choice((source, target), ask, ask.waited_ns + prefilled_ns + exposed_ns, 0)

    def _choice(
        self,
        pair: tuple[Candidate, Candidate | None],
        ask: PlacementAsk,
        ttft_ns: float,
        delay_ns: float,
    ) -> Choice:
        source, target = pair
        decoder = source if target is None else target
        tpot_ns = self._tpot_ns(decoder)
        missed = (ttft_ns > self.slo.ttft_ns) + (tpot_ns > self.slo.tpot_ns)
        output_tokens = min(self.output_tokens_expected, ask.output_tokens_max)
        cost_ns = ttft_ns + delay_ns + tpot_ns * output_tokens
        return Choice((missed, cost_ns, source.key, decoder.key), pair, ttft_ns, tpot_ns)

    def _placement(self, choice: Choice, ask: PlacementAsk) -> Placement:
        source, target = choice.pair
        way = self._way(source, ask)
        return Placement(
            prefill=source.key,
            decode=None if target is None else target.key,
            predicted_ttft_ns=int(choice.ttft_ns),
            predicted_tpot_ns=int(choice.tpot_ns),
            fetch=way.fetch,
            fetch_tokens=way.fetch_tokens,
        )

    def _queue_ns(self, candidate: Candidate) -> float:
        return self._compute_ns(candidate, candidate.backlog_tokens)

    def _own_prefill_ns(self, candidate: Candidate, ask: PlacementAsk) -> float:
        return self._compute_ns(candidate, self._way(candidate, ask).uncached)

    def _prefilled_ns(self, candidate: Candidate, ask: PlacementAsk) -> float:
        return self._taking_ns(candidate, self._way(candidate, ask))

    def _way(self, candidate: Candidate, ask: PlacementAsk) -> Way:
        """How it gets the prefix soonest; of equal ones the plainest."""
        known = ask.ways.get(candidate.key)
        if known is None:
            found = ways(candidate, ask, self.links, self.fetch_tokens_min)
            known = found[0]
            if len(found) > 1:
                known = min(found, key=lambda way: self._taking_ns(candidate, way))
            ask.ways[candidate.key] = known
        return known

    def _taking_ns(self, candidate: Candidate, way: Way) -> float:
        asked_ns = 3 * self.link_latency_ns if way.fetch is not None else 0
        arrived_ns = max(self._queue_ns(candidate), way.arrive_ns + asked_ns)
        return arrived_ns + self._compute_ns(candidate, way.uncached)

    def _compute_ns(self, candidate: Candidate, tokens: int) -> float:
        """Prompt tokens in chunks, each iteration with the decodes that run there."""
        iterations = -(-tokens // self.chunk_tokens)
        return iterations * candidate.iteration_ns + tokens * candidate.view.speed.token_ns

    def _tpot_ns(self, candidate: Candidate) -> float:
        """An iteration with one stream more, and with a chunk of what is still queued."""
        speed = candidate.view.speed
        chunk = min(candidate.backlog_tokens, self.chunk_tokens)
        return speed.iteration_ns + (candidate.streams + 1 + chunk) * speed.token_ns

    def _exposed_ns(self, source: Candidate, target: Candidate, ask: PlacementAsk) -> float:
        """Handoff time left when prefill ends: at least the last block's, and a latency."""
        pair = (source.key.worker_id, target.key.worker_id)
        block_bytes = source.info.block_bytes
        blocks = blocks_for(_uncached(target, ask), ask.block_tokens)
        all_ns = self.links.transfer_ns(*pair, blocks * block_bytes)
        tail_ns = self.links.transfer_ns(*pair, block_bytes)
        return self.link_latency_ns + max(tail_ns, all_ns - self._own_prefill_ns(source, ask))


def _weight(weighed: tuple[float, Candidate]) -> float:
    return weighed[0]


def _least(weighed: list[tuple[float, Candidate]], count: int) -> list[Candidate]:
    """The `count` lightest; of equal ones the lower ids."""
    if len(weighed) > count:
        limit = sorted(map(_weight, weighed))[count - 1]
        weighed = [one for one in weighed if one[0] <= limit]
    return [c for _, c in sorted(weighed, key=lambda one: (one[0], one[1].key))[:count]]


def _uncached(candidate: Candidate, ask: PlacementAsk) -> int:
    """Tokens to compute there; the last one always is, to draw from."""
    return max(1, ask.known_tokens - candidate.hit_tokens)


def _has_room(candidate: Candidate, ask: PlacementAsk, further_tokens: int) -> bool:
    info = candidate.info
    need = blocks_for(ask.known_tokens + further_tokens, info.block_tokens)
    return (
        need <= candidate.blocks_available
        and ask.known_tokens + ask.output_tokens_max <= info.context_tokens_max
    )


def _any_decodes(candidates: Sequence[Candidate]) -> bool:
    return any(candidate.decodes for candidate in candidates)
