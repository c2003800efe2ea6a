"""A core that is the source of move m1, in each of its stages."""

from parts import LIMITS
from solo import PEER, Solo
from splitweave.proto.cluster_events import MoveEnded
from splitweave.proto.effects import ToWorker
from splitweave.proto.ids import Epoch
from splitweave.proto.move import MoveReport
from splitweave.proto.worker_events import (
    AbortAcked,
    MoveAborted,
    MoveCommitted,
)
from splitweave.workers.core import WorkerLimits

M1 = "m1"
COMMITTED = MoveCommitted(move_id=M1, lease=1, target=PEER, epoch=Epoch(0, 1))
ABORTED = MoveAborted(move_id=M1, lease=1, peer=PEER, reason="no")
ACKED = AbortAcked(move_id=M1, lease=1, peer=PEER)


def decoding(tokens: int = 3, limits: WorkerLimits = LIMITS, prompt: int = 30) -> Solo:
    """A request that decodes here, with so many tokens of output."""
    solo = Solo(limits)
    solo.assign("r", prompt, 40)
    while solo.held("r").output_tokens < tokens:
        solo.iterate()
    return solo


def reserving() -> Solo:
    solo = decoding()
    solo.migrate("r")
    return solo


def copying() -> Solo:
    """Stage COPY with all full blocks in flight."""
    solo = reserving()
    solo.open_lease(16)
    return solo


def handing_over() -> Solo:
    """Stage HANDOVER with the last copy in flight."""
    solo = copying()
    solo.send_copies(solo.copies)
    solo.iterate()
    assert solo.phase("r") == "handover"
    return solo


def reports(solo: Solo) -> list[MoveReport]:
    return [event.report for event in solo.sent(MoveEnded)]


def outcome(solo: Solo) -> list[tuple[str, str]]:
    return [(str(report.outcome), report.reason) for report in reports(solo)]


def peer_words(solo: Solo) -> list[str]:
    return [type(e.event).__name__ for e in solo.effects if isinstance(e, ToWorker)]
