"""What a finished stream tells about itself: usage, latencies, every move of its KV."""

from ....proto import inference_pb2 as pb
from ....proto.effects import StreamAccount
from ....proto.move import MoveKind, MoveReport, Stage

NS_PER_S = 1e9

KINDS = {
    MoveKind.HANDOFF: pb.MOVE_KIND_HANDOFF,
    MoveKind.MIGRATION: pb.MOVE_KIND_MIGRATION,
    MoveKind.FETCH: pb.MOVE_KIND_FETCH,
}


def accounting(account: StreamAccount, emitted_before: int = 0) -> pb.Accounting:
    """The account of one stream, in seconds; `emitted_before` tokens came elsewhere."""
    committed = [move for move in account.moves if move.outcome is Stage.COMMITTED]
    handoffs = [move for move in committed if move.kind is MoveKind.HANDOFF]
    handoff_bytes = sum(move.transfer_bytes for move in handoffs)
    hidden_bytes = sum(move.hidden_bytes for move in handoffs)
    return pb.Accounting(
        workers=[key.worker_id for key in account.workers],
        ttft_s=_since(account.arrived_ns, account.first_token_ns),
        tpot_s=_tpot_s(account, account.output_tokens - emitted_before),
        e2e_s=_since(account.arrived_ns, account.last_token_ns),
        handoff_bytes=handoff_bytes,
        handoff_hidden_share=hidden_bytes / handoff_bytes if handoff_bytes else 0.0,
        migrations=sum(move.kind is MoveKind.MIGRATION for move in committed),
        moves=_moves(account),
    )


def move_message(report: MoveReport, downtime_ns: int = 0) -> pb.Move:
    """One move of KV as clients and operators see it."""
    committed = report.outcome is Stage.COMMITTED
    return pb.Move(
        kind=KINDS[report.kind],
        source=report.source.worker_id,
        target=report.target.worker_id,
        bytes=report.transfer_bytes,
        seconds=report.wall_ns / NS_PER_S,
        downtime_s=downtime_ns / NS_PER_S,
        reason=report.reason,
        outcome=pb.MOVE_OUTCOME_COMMITTED if committed else pb.MOVE_OUTCOME_ABORTED,
        blocks=report.blocks,
        hidden_bytes=report.hidden_bytes,
        reserve_s=report.reserve_ns / NS_PER_S,
        copy_s=report.copy_ns / NS_PER_S,
        handover_s=report.handover_ns / NS_PER_S,
        hidden_share=report.hidden_share,
        bytes_per_s=report.bytes_per_s,
        copies=report.copies,
        repeats=report.repeats,
        pulled=report.pulled,
    )


def _moves(account: StreamAccount) -> list[pb.Move]:
    """Every move with its downtime; aborted ones have none."""
    downtimes = iter(account.downtimes_ns)
    return [
        move_message(move, next(downtimes, 0) if move.outcome is Stage.COMMITTED else 0)
        for move in account.moves
    ]


def _since(start_ns: int, end_ns: int | None) -> float:
    return 0.0 if end_ns is None else (end_ns - start_ns) / NS_PER_S


def _tpot_s(account: StreamAccount, tokens: int) -> float:
    if account.first_token_ns is None or tokens < 2:
        return 0.0
    return _since(account.first_token_ns, account.last_token_ns) / (tokens - 1)
