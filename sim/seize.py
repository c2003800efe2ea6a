"""Takes blocks of a worker away for a while, as other moves to it would.

A peer that does not exist asks for a lease of nearly all that is free, keeps it
alive by landings, and lets go at the end: the target's memory is full, and its
core knows nothing but its own rules.
"""

from ..proto.ids import GatewayId, Incarnation, MoveId, RequestId, WorkerId, WorkerKey
from ..proto.move import MoveKind
from ..proto.requests import Request
from ..proto.worker_events import AbortAcked, BlocksLanded, LeaseAsked, MoveAborted
from .clock import Scheduler
from .parties import WorkerParty

NOBODY = WorkerKey(WorkerId("nobody"), Incarnation(1))


class Seizure:
    """Blocks of one life of a worker, until `end`."""

    def __init__(self, scheduler: Scheduler, party: WorkerParty, share: float, number: int) -> None:
        self._scheduler = scheduler
        self._party = party
        self._move_id = MoveId(f"seized/{number}")
        self._alive_ns = party.core.limits.lease_ns // 3 + 1
        self._ended = False
        view = party.core.view(0)
        watermark = party.core.limits.watermark_blocks
        blocks = int((view.blocks_free + view.blocks_cached - watermark) * share)
        if blocks > 0:
            self._ask(blocks)
            self._keep(None)

    def end(self, _: None = None) -> None:
        """Let go; what is not held is no error."""
        if not self._ended:
            self._ended = True
            self._party.shell.post(_over(self._move_id))
            self._party.shell.post(AbortAcked(move_id=self._move_id, lease=1, peer=NOBODY))

    def _ask(self, blocks: int) -> None:
        request = Request(
            request_id=RequestId(self._move_id),
            gateway_id=GatewayId("nobody"),
            token_ids=(0,),
            max_tokens=1,
        )
        self._party.shell.post(
            LeaseAsked(
                move_id=self._move_id,
                lease=1,
                kind=MoveKind.MIGRATION,
                source=NOBODY,
                request=request,
                hashes=(),
                blocks=blocks,
            )
        )

    def _keep(self, _: None) -> None:
        if not self._ended:
            landed = BlocksLanded(copy_id="seized", move_id=self._move_id, transfer_bytes=0)
            self._party.shell.post(landed)
            self._scheduler.at(self._scheduler.now_ns + self._alive_ns, self._keep, None)


def _over(move_id: MoveId) -> MoveAborted:
    return MoveAborted(move_id=move_id, lease=1, peer=NOBODY, reason="over")
