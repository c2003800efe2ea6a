"""The one motion of KV: its stages, its legal moves, its orders and reports.

A move copies the blocks of one request from a source to a target while the
source may still be appending. The source frees nothing before the commit: at
every instant at least one side can finish the request.
"""

from dataclasses import dataclass
from enum import StrEnum

from .ids import BlockId, Epoch, MoveId, RequestId, WorkerKey


class Stage(StrEnum):
    """How far a move has come; both sides keep their own."""

    RESERVE = "reserve"
    COPY = "copy"
    HANDOVER = "handover"
    COMMITTED = "committed"
    ABORTED = "aborted"


# Every legal move. Anything else is a bug in the caller.
NEXT: dict[Stage, frozenset[Stage]] = {
    Stage.RESERVE: frozenset({Stage.COPY, Stage.ABORTED}),
    Stage.COPY: frozenset({Stage.COPY, Stage.HANDOVER, Stage.ABORTED}),
    Stage.HANDOVER: frozenset({Stage.COMMITTED, Stage.ABORTED}),
    Stage.COMMITTED: frozenset(),
    Stage.ABORTED: frozenset(),
}


def advance(stage: Stage, to: Stage) -> Stage:
    """The stage after a legal move; an illegal one is a programmer's error."""
    assert to in NEXT[stage], f"illegal move {stage} -> {to}"
    return to


class MoveKind(StrEnum):
    """Why KV moves. The machine is the same."""

    HANDOFF = "handoff"
    MIGRATION = "migration"
    FETCH = "fetch"  # of cached blocks, to where a request waits; no request moves


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveOrder:
    """The controller's wish: this request shall go from `source` to `target`."""

    move_id: MoveId
    kind: MoveKind
    request_id: RequestId
    source: WorkerKey
    target: WorkerKey


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchPlan:
    """The first `blocks` blocks of a request's prompt are cached at `source`: get them there."""

    move_id: MoveId
    source: WorkerKey
    blocks: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """One copy of whole blocks, layers [first_layer, last_layer), source to target.

    `source_blocks[i]` goes to `target_blocks[i]`. Ends in one `CopySent` or
    `CopyFailed` at the source, and in `BlocksLanded` at the target if it arrived.
    It is for that `lease` of its move alone: no other copy ever has its id.
    """

    copy_id: str
    move_id: MoveId
    lease: int
    target: WorkerKey
    first_layer: int
    last_layer: int
    source_blocks: tuple[BlockId, ...]
    target_blocks: tuple[BlockId, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveReport:
    """What one move cost, measured by its source on the source's clock.

    `blocks` were ordered to be copied, in `copies` messages. A committed move has
    sent all of them: `transfer_bytes` is `blocks` times the bytes of a block.
    `hidden_bytes` were sent before the source stopped computing the request.
    `reserve_ns + copy_ns + handover_ns` is the move's wall time, to the nanosecond:
    asking for the lease, copying while the source runs, and from the stop to the
    end. `flight_ns` is how long at least one copy was under way; one that rides on
    an iteration counts from that iteration's start. `repeats` counts what was said
    again because no answer came: asks, offers, aborts. `reason` is empty for a
    committed move. `pulled`: a handoff whose target had no room before the prefill had
    ended, and opened the lease when it had; nothing of it was hidden by the prefill.
    """

    move_id: MoveId
    kind: MoveKind
    request_id: RequestId
    epoch: Epoch
    source: WorkerKey
    target: WorkerKey
    outcome: Stage
    reason: str
    blocks: int
    transfer_bytes: int
    hidden_bytes: int
    reserve_ns: int
    copy_ns: int
    handover_ns: int
    asked_ns: int
    ended_ns: int
    flight_ns: int = 0
    copies: int = 0
    repeats: int = 0
    pulled: bool = False

    @property
    def stages_ns(self) -> int:
        """The three stages together: the same as `wall_ns`, or the report is wrong."""
        return self.reserve_ns + self.copy_ns + self.handover_ns

    @property
    def wall_ns(self) -> int:
        """From asking for the lease to the commit or the abort."""
        return self.ended_ns - self.asked_ns

    @property
    def hidden_share(self) -> float:
        """Of the bytes, those sent while the source still computed the request."""
        return self.hidden_bytes / self.transfer_bytes if self.transfer_bytes else 0.0

    @property
    def bytes_per_s(self) -> float:
        """Bandwidth while anything was under way."""
        return self.transfer_bytes / self.flight_ns * 1e9 if self.flight_ns else 0.0
