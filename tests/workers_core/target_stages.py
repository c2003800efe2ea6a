"""A core that is the target of move m1, in each of its stages."""

from typing import Any

from solo import PEER, Solo, request_of
from splitweave.proto.effects import ToWorker
from splitweave.proto.worker_events import (
    AbortAcked,
    BlocksLanded,
    LeaseRefused,
    MoveAborted,
)

M1 = "m1"
REQUEST = request_of("r", range(18), 9)
ABORTED = MoveAborted(move_id=M1, lease=1, peer=PEER, reason="no")
ACKED = AbortAcked(move_id=M1, lease=1, peer=PEER)


def land(solo: Solo, copy_id: str) -> None:
    solo.step(BlocksLanded(copy_id=copy_id, move_id=M1, transfer_bytes=1))


def leasing(blocks: int = 5, **more: Any) -> Solo:
    solo = Solo(**more)
    solo.ask_lease(REQUEST, blocks)
    return solo


def offered() -> Solo:
    """Stage HANDOVER: one of two copies is here."""
    solo = leasing()
    land(solo, "m1/1.0")
    solo.offer(1, 18, ("m1/1.0", "m1/1.1"))
    return solo


def committed() -> Solo:
    solo = offered()
    land(solo, "m1/1.1")
    return solo


def refusal(solo: Solo) -> list[str]:
    return [event.reason for event in solo.sent(LeaseRefused)]


def peer_words(solo: Solo) -> list[str]:
    return [type(e.event).__name__ for e in solo.effects if isinstance(e, ToWorker)]


def lent(solo: Solo) -> tuple[int, int]:
    return solo.view.blocks_leased, solo.view.blocks_quarantined
