"""The baseline: workers in turn, by id, as long as the request fits.

It predicts nothing and knows no prefix cache.
"""

from collections.abc import Sequence

from ...proto.ids import WorkerKey
from ...proto.move import MoveReport
from ...proto.views import Role
from .placement import Candidate, MoveAsk, Placement, PlacementAsk, blocks_for


class RoundRobin:
    """Takes the prefill workers in turn, and the decode workers in turn."""

    def __init__(self) -> None:
        self._prefill: WorkerKey | None = None
        self._decode: WorkerKey | None = None

    def place(
        self,
        ask: PlacementAsk,
        candidates: Sequence[Candidate],
        now_ns: int,  # noqa: ARG002
    ) -> Placement | None:
        """The next worker that prefills; a mixed one keeps it, others hand off in turn."""
        tokens = ask.known_tokens + 1
        fits = [c for c in candidates if _fits(c, tokens, ask.output_tokens_max - 1)]
        first = _after(self._prefill, [c for c in fits if c.prefills] or fits)
        if first is None:
            return None
        second = None
        if first.role is Role.PREFILL and any(c.decodes for c in candidates):
            second = _after(self._decode, [c for c in fits if c.decodes])
            if second is None:
                return None
            self._decode = second.key
        self._prefill = first.key
        return Placement(
            prefill=first.key,
            decode=None if second is None else second.key,
            predicted_ttft_ns=0,
            predicted_tpot_ns=0,
        )

    def pick_target(
        self,
        ask: MoveAsk,
        candidates: Sequence[Candidate],
        now_ns: int,  # noqa: ARG002
    ) -> WorkerKey | None:
        """The next worker that decodes and has room."""
        target = _after(
            self._decode,
            [
                c
                for c in candidates
                if c.decodes and c.key != ask.source and _fits(c, ask.known_tokens + 1, 0)
            ],
        )
        if target is None:
            return None
        self._decode = target.key
        return target.key

    def observe_move(self, report: MoveReport) -> None:
        """Nothing to learn."""


def _fits(candidate: Candidate, tokens: int, further_tokens: int) -> bool:
    need = blocks_for(tokens, candidate.info.block_tokens)
    return (
        need <= candidate.blocks_available
        and tokens + further_tokens <= candidate.info.context_tokens_max
    )


def _after(last: WorkerKey | None, candidates: Sequence[Candidate]) -> Candidate | None:
    """The candidate with the lowest key above `last`, or else the lowest of all."""
    ordered = sorted(candidates, key=lambda candidate: candidate.key)
    later = (c for c in ordered if last is None or c.key > last)
    return next(later, ordered[0] if ordered else None)
