"""What becomes of a stream's life when it ends: one row, and how it ended."""

from dataclasses import dataclass
from typing import Protocol

from ...proto.effects import StreamAccount
from ...proto.gateway_events import RejectCode
from ...proto.move import MoveKind, MoveReport, Stage
from ...proto.requests import RequestClass
from .records import CLASSES, UNKNOWN, Ending, Records, Row


@dataclass(slots=True, kw_only=True)
class Stages:
    """How far a request has come on its way to the first token, ns; UNKNOWN if not there.

    An attempt that ends before the client has its first token starts them anew.
    """

    placed_ns: int = UNKNOWN
    began_ns: int = UNKNOWN
    computed_ns: int = UNKNOWN

    def place(self, now_ns: int) -> None:
        """The controller sends the request to a worker."""
        self.placed_ns, self.began_ns, self.computed_ns = now_ns, UNKNOWN, UNKNOWN

    def compute(self, begins_ns: int, ends_ns: int, *, draws: bool) -> None:
        """An iteration computes a part of its prompt, and perhaps draws its first token."""
        if self.began_ns == UNKNOWN:
            self.began_ns = begins_ns
        if draws:
            self.computed_ns = ends_ns


class Life(Protocol):
    """What is asked of a stream; `clients.Stream` is it."""

    asked_ns: int
    first_ns: int | None
    last_ns: int | None
    prompt_tokens: int
    tokens: int
    hung_up: bool
    request_class: RequestClass
    stages: Stages
    error: RejectCode | None
    account: StreamAccount | None


def ending_of(life: Life) -> Ending:
    """How it ended for its client."""
    if life.hung_up:
        return Ending.CANCELLED
    if life.error is None:
        return Ending.COMPLETED
    rejected = life.error is RejectCode.RESOURCE_EXHAUSTED
    return Ending.REJECTED if rejected else Ending.FAILED


def row_of(life: Life, ending: Ending, records: Records) -> Row:
    """Its row. Without an account (it failed) nothing is known of moves and cache."""
    account, stages = life.account, life.stages
    moves = account.moves if account is not None else ()
    carried = [move for move in moves if _carries(move)]
    source, target = records.number(account.workers if account is not None else ())
    return Row(
        asked_ns=life.asked_ns,
        placed_ns=stages.placed_ns,
        began_ns=stages.began_ns,
        computed_ns=stages.computed_ns,
        first_ns=UNKNOWN if life.first_ns is None else life.first_ns,
        last_ns=UNKNOWN if life.last_ns is None else life.last_ns,
        fetch_ns=sum(move.wall_ns for move in moves if move.kind is MoveKind.FETCH),
        transfer_ns=sum(move.wall_ns for move in carried),
        exposed_ns=sum(move.handover_ns for move in carried),
        transfer_bytes=sum(move.transfer_bytes for move in moves),
        prompt_tokens=life.prompt_tokens,
        output_tokens=life.tokens,
        cached_tokens=account.cached_tokens if account is not None else 0,
        cached_host_tokens=account.cached_host_tokens if account is not None else 0,
        cached_peer_tokens=account.cached_peer_tokens if account is not None else 0,
        attempts=account.attempts if account is not None else 0,
        migrations=sum(move.kind is MoveKind.MIGRATION for move in carried),
        source=source,
        target=target,
        ending=ending,
        request_class=CLASSES.index(life.request_class),
    )


def _carries(move: MoveReport) -> bool:
    """Whether the request itself went with it."""
    return move.kind is not MoveKind.FETCH and move.outcome is Stage.COMMITTED
