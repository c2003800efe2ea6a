"""Results as a client has them, for whoever shows them."""

from splitweave.client import Generation, MoveKind
from splitweave.client.results import Accounting, FinishReason, Move, Usage


def told_move(
    kind: MoveKind, source: str, target: str, *, downtime_s: float = 0.0, committed: bool = True
) -> Move:
    """A move of 1.5 MB in 30 ms."""
    return Move(
        kind=kind, source=source, target=target, blocks=3, transfer_bytes=1_500_000,
        hidden_bytes=500_000, seconds=0.03, reserve_s=0.005, copy_s=0.02, handover_s=0.005,
        downtime_s=downtime_s, committed=committed, reason="" if committed else "lease expired",
    )  # fmt: skip


def told_generation(*moves: Move, workers: tuple[str, ...] = ("prefill-0",)) -> Generation:
    """An answer that took these moves."""
    handoffs = [move for move in moves if move.kind is MoveKind.HANDOFF and move.committed]
    account = Accounting(
        workers=workers, ttft_s=12.344, tpot_s=0.0456, e2e_s=20.0,
        handoff_bytes=sum(move.transfer_bytes for move in handoffs), handoff_hidden_share=0.874,
        migrations=0, moves=moves,
    )  # fmt: skip
    return Generation(
        request_id="r", seed=3, rendered_at_s=None, text="t", finish_reason=FinishReason.LENGTH,
        usage=Usage(prompt_tokens=1234, cached_tokens=640, output_tokens=96),
        accounting=account, retries=0, tokens=(),
    )  # fmt: skip
