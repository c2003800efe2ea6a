"""Aborts that a source has spoken and whose target has said nothing yet.

Nothing at the source hangs on them: the request runs on, and the report is out. But a
target that has heard neither the abort nor the ack would keep its lease until it
expires. So the abort is said again by timer until the target answers, lease_asks_max
times at most: after that the lease expires by itself, or its worker is dead.
"""

from dataclasses import dataclass

from ...proto.ids import MoveId, WorkerKey
from ...proto.timers import TimerKey
from ...proto.worker_events import AbortAcked, MoveAborted, MoveCommitted
from .letters import SourceLetters
from .limits import WorkerLimits
from .outbox import Outbox
from .source_move import SourceMove

TIMER = "source_abort"


@dataclass(slots=True, eq=False)
class _Unheard:
    move: SourceMove
    repeats: int = 0


class UnheardAborts:
    """One per move; at most ended_moves_max, and then the oldest is let be."""

    def __init__(self, limits: WorkerLimits, letters: SourceLetters, out: Outbox) -> None:
        self._limits = limits
        self._letters = letters
        self._out = out
        self._unheard: dict[MoveId, _Unheard] = {}

    def add(self, move: SourceMove, now_ns: int) -> None:
        """An abort was sent; whatever comes back from the target is the answer."""
        move_id = move.order.move_id
        self._unheard.pop(move_id, None)
        if len(self._unheard) >= self._limits.ended_moves_max:
            self._drop(next(iter(self._unheard)))
        self._unheard[move_id] = _Unheard(move)
        self._set_timer(move_id, now_ns)

    def heard(self, event: MoveAborted | AbortAcked | MoveCommitted) -> None:
        """The target knows of the end, be it by the abort or by itself."""
        unheard = self._unheard.get(event.move_id)
        peer = event.target if isinstance(event, MoveCommitted) else event.peer
        if unheard is not None and (unheard.move.target, unheard.move.lease) == (peer, event.lease):
            self._drop(event.move_id)

    def tick(self, move_id: MoveId, now_ns: int) -> None:
        """No answer: says it again, or leaves it."""
        unheard = self._unheard.get(move_id)
        if unheard is None:
            return
        unheard.repeats += 1
        move = unheard.move
        self._letters.abort(move, move.reason)
        if not move.in_flight:
            self._letters.ack(move_id, move.lease, move.target)
        if unheard.repeats < self._limits.lease_asks_max:
            self._set_timer(move_id, now_ns)
        else:
            del self._unheard[move_id]

    def peer_lost(self, key: WorkerKey) -> None:
        """A dead target has no lease."""
        for move_id, unheard in list(self._unheard.items()):
            if key.covers(unheard.move.target):
                self._drop(move_id)

    def check(self) -> None:
        """Integrity: only what has ended, and what was asked for, is aborted."""
        assert len(self._unheard) <= self._limits.ended_moves_max
        for move_id, unheard in self._unheard.items():
            assert unheard.move.ended, f"{move_id} is aborted, and goes on"
            assert unheard.move.lease, f"{move_id} is aborted, and was never asked for"

    def _drop(self, move_id: MoveId) -> None:
        del self._unheard[move_id]
        self._out.clear_timer(TimerKey(TIMER, move_id))

    def _set_timer(self, move_id: MoveId, now_ns: int) -> None:
        at_ns = now_ns + self._limits.lease_ask_ns
        self._out.set_timer(TimerKey(TIMER, move_id), at_ns)
