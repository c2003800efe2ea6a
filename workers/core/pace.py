"""How often the copies of migrations may go out, so that decoding hardly notices.

A duty cycle: of the time, copies are under way at most `copy_percent`. A copy that
took t is followed by t x (100 - percent) / percent of rest. So neither the link's
speed nor what a copy costs the decodes beside it need be known: on a slow link or a
busy machine the copies become rarer by themselves.

    |copy|------- rest -------|copy|------- rest -------|
"""

from collections.abc import Iterable

from ...proto.move import MoveKind, Stage
from ...proto.timers import TimerKey
from ...proto.views import Phase
from .copies import CopyDesk
from .holdings import Holdings
from .limits import WorkerLimits
from .outbox import Outbox
from .source_move import SourceMove

TIMER = TimerKey("pace")


class Pace:
    """One paced copy at a time, over all migrations of a worker."""

    def __init__(
        self, limits: WorkerLimits, holdings: Holdings, copies: CopyDesk, out: Outbox
    ) -> None:
        self.draining = False
        self._limits = limits
        self._holdings = holdings
        self._copies = copies
        self._out = out
        self._copy_id: str | None = None
        self._began_ns = 0
        self._free_ns = 0

    def governs(self, move: SourceMove) -> bool:
        """Whether the move's copies go out at a rate that spares decodes beside them."""
        if move.order.kind is not MoveKind.MIGRATION or self._percent == 100 or move.losing:
            return False
        running = self._holdings.running.values()
        return any(sequence.phase is Phase.DECODE for sequence in running)

    def next(self, moves: Iterable[SourceMove], now_ns: int) -> None:
        """Starts the next copy, if decoding has had its rest from the last one.

        The move that was served least goes first: none waits until its lease expires.
        """
        if self._copy_id is not None or now_ns < self._free_ns:
            return
        for move in sorted(moves, key=lambda move: move.served):
            if move.stage is Stage.COPY and self.governs(move):
                if move.lost_ground():
                    continue  # its iterations fill blocks faster than that: it is not paced
                move.mark_start(now_ns)
                copy_id = self._copies.one(move, self._limits.paced_copy_bytes)
                if copy_id is not None:
                    move.served += 1
                    self._copy_id, self._began_ns = copy_id, now_ns
                    return

    def ended(self, copy_id: str, now_ns: int) -> None:
        """A copy has ended; if it was the paced one, the rest begins."""
        if copy_id == self._copy_id:
            took_ns = now_ns - self._began_ns
            self._copy_id = None
            self._free_ns = now_ns + took_ns * (100 - self._percent) // self._percent
            self._out.set_timer(TIMER, self._free_ns)

    @property
    def _percent(self) -> int:
        limits = self._limits
        return limits.drain_copy_percent if self.draining else limits.copy_percent
