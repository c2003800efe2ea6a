"""What a finished stream tells of itself: latencies, and every move of its KV."""

from dataclasses import replace

import pytest
from scripted_front import DECODE, PREFILL, account
from splitweave.client import MoveKind as ClientKind
from splitweave.client import results
from splitweave.cluster.live.front.accounting import accounting, move_message
from splitweave.proto import inference_pb2 as pb
from splitweave.proto.effects import StreamAccount
from splitweave.proto.ids import GatewayId, Incarnation, MoveId, RequestId, WorkerId, WorkerKey
from splitweave.proto.move import MoveKind, MoveReport, Stage
from splitweave.proto.requests import Request

REQUEST = Request(
    request_id=RequestId("r"), gateway_id=GatewayId("g"), token_ids=(1, 2), max_tokens=9
)
OTHER = WorkerKey(WorkerId("decode-1"), Incarnation(1))
BASE = account(REQUEST, 5)
HANDOFF = BASE.moves[0]


def migration(number: int, *, aborted: str = "", sent: int = 400) -> MoveReport:
    return replace(
        HANDOFF, move_id=MoveId(f"m{number}"), kind=MoveKind.MIGRATION, source=DECODE,
        target=OTHER, transfer_bytes=sent, hidden_bytes=sent, reason=aborted,
        outcome=Stage.ABORTED if aborted else Stage.COMMITTED,
    )  # fmt: skip


def told(
    *moves: MoveReport, downtimes_ns: tuple[int, ...] = (), **changes: object
) -> pb.Accounting:
    stream = replace(BASE, moves=moves, downtimes_ns=downtimes_ns)
    return accounting(replace(stream, **changes))  # type: ignore[arg-type]


def test_a_handoff_is_told_with_its_bytes_and_how_much_was_hidden() -> None:
    reply = told(HANDOFF, downtimes_ns=(4_000_000,))
    assert (reply.handoff_bytes, reply.handoff_hidden_share, reply.migrations) == (1000, 0.5, 0)
    assert list(reply.workers) == ["prefill-0", "decode-0"]


def test_every_figure_of_a_move_reaches_the_client() -> None:
    """Bytes, blocks, hidden bytes, each stage: what DESIGN promises to account."""
    message = move_message(HANDOFF, 4_000_000)
    assert message == pb.Move(
        kind=pb.MOVE_KIND_HANDOFF, source="prefill-0", target="decode-0", bytes=1000,
        seconds=0.006, downtime_s=0.004, reason="", outcome=pb.MOVE_OUTCOME_COMMITTED, blocks=2,
        hidden_bytes=500, reserve_s=0.001, copy_s=0.002, handover_s=0.003,
        hidden_share=0.5, bytes_per_s=2e6, copies=4, repeats=1, pulled=True,
    )  # fmt: skip
    assert all(field.name == "reason" for field in unset(message))
    move = results.move(message)
    assert (move.kind, move.committed) == (ClientKind.HANDOFF, True)
    assert (move.blocks, move.transfer_bytes, move.hidden_bytes) == (2, 1000, 500)
    assert (move.reserve_s, move.copy_s, move.handover_s) == (0.001, 0.002, 0.003)
    assert move.seconds == pytest.approx(move.reserve_s + move.copy_s + move.handover_s)


def unset(message: pb.Move) -> list[object]:
    given = {field.name for field, _ in message.ListFields()}
    return [field for field in message.DESCRIPTOR.fields if field.name not in given]


def test_a_migration_is_counted_and_adds_nothing_to_the_handoff() -> None:
    reply = told(HANDOFF, migration(1), migration(2), downtimes_ns=(1, 2, 3))
    assert (reply.migrations, reply.handoff_bytes) == (2, 1000)
    kinds = [move.kind for move in reply.moves]
    assert kinds == [pb.MOVE_KIND_HANDOFF, pb.MOVE_KIND_MIGRATION, pb.MOVE_KIND_MIGRATION]


def test_an_aborted_move_is_told_with_its_reason_and_counts_nowhere() -> None:
    reply = told(replace(HANDOFF, outcome=Stage.ABORTED, reason="lease refused"))
    assert (reply.migrations, reply.handoff_bytes, reply.handoff_hidden_share) == (0, 0, 0.0)
    (move,) = reply.moves
    assert (move.outcome, move.reason) == (pb.MOVE_OUTCOME_ABORTED, "lease refused")
    assert (move.bytes, move.downtime_s) == (1000, 0.0)


def test_downtimes_belong_to_the_committed_moves_in_order() -> None:
    moves = (HANDOFF, migration(1, aborted="no room"), migration(2))
    reply = told(*moves, downtimes_ns=(7_000_000, 9_000_000))
    assert [move.downtime_s for move in reply.moves] == [0.007, 0.0, 0.009]
    assert reply.migrations == 1


def test_a_move_whose_downtime_was_not_seen_has_none() -> None:
    """The last move may commit after the last token: the gap never ends."""
    reply = told(HANDOFF, migration(1), downtimes_ns=(7_000_000,))
    assert [move.downtime_s for move in reply.moves] == [0.007, 0.0]


def test_latencies_are_seconds_from_the_arrival() -> None:
    reply = told(
        arrived_ns=1_000_000_000, first_token_ns=1_250_000_000, last_token_ns=1_650_000_000
    )
    assert (reply.ttft_s, reply.e2e_s) == pytest.approx((0.25, 0.65))
    assert reply.tpot_s == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("output_tokens", "before", "tpot_s"), [(5, 0, 0.01), (1, 0, 0.0), (5, 3, 0.04), (5, 4, 0.0)]
)
def test_tpot_counts_only_tokens_that_this_gateway_saw(
    output_tokens: int, before: int, tpot_s: float
) -> None:
    stream = replace(BASE, output_tokens=output_tokens)
    assert accounting(stream, before).tpot_s == pytest.approx(tpot_s)


def test_a_stream_without_a_token_has_no_latency() -> None:
    silent = StreamAccount(
        workers=(PREFILL,), moves=(), downtimes_ns=(), prompt_tokens=2, cached_tokens=0,
        output_tokens=0, attempts=1, arrived_ns=5, first_token_ns=None, last_token_ns=None,
    )  # fmt: skip
    reply = accounting(silent)
    assert (reply.ttft_s, reply.tpot_s, reply.e2e_s) == (0.0, 0.0, 0.0)
