"""Moves that were ordered and whose end is not known.

Handoffs are ordered with the placement, migrations by an operator, by a drain,
or for a request that decodes on a prefill worker after its handoff was aborted.
At most one move per request is open. The source drives it; an end is heard in
its report, seen in a view, or assumed when its views leave it out for `move_ns_max`.
"""

from dataclasses import dataclass
from enum import StrEnum

from ...proto.ids import MoveId, RequestId, WorkerKey
from ...proto.move import MoveKind, MoveOrder


class Why(StrEnum):
    """Who wanted a move."""

    HANDOFF = "handoff"
    OPERATOR = "operator"
    DRAIN = "drain"
    MISPLACED = "misplaced"  # it decodes where only prefill is done


@dataclass(slots=True, kw_only=True)
class OpenMove:
    """One ordered move. `heard_ns` is when it was last seen to be under way."""

    order: MoveOrder
    why: Why
    started_ns: int
    heard_ns: int
    ask_id: str | None = None
    committed: bool = False  # the target's view lists the request; the report is to come


class OpenMoves:
    """By id, by request, and how many migrations each worker has."""

    def __init__(self) -> None:
        self._by_id: dict[MoveId, OpenMove] = {}
        self._by_request: dict[RequestId, OpenMove] = {}
        self._migrations: dict[WorkerKey, int] = {}
        self._ordered = 0

    def __len__(self) -> int:
        return len(self._by_id)

    def new_id(self, request_id: RequestId, now_ns: int) -> MoveId:
        """Never given before: the clock tells lives of the controller apart."""
        self._ordered += 1
        return MoveId(f"{request_id}/{now_ns:x}.{self._ordered}")

    def add(self, move: OpenMove) -> None:
        """A move has been ordered; its request must have none open."""
        order = move.order
        assert order.request_id not in self._by_request, order
        self._by_id[order.move_id] = self._by_request[order.request_id] = move
        self._count(order, 1)

    def end(self, move: OpenMove) -> None:
        """Its end is known, or assumed."""
        order = move.order
        del self._by_id[order.move_id]
        del self._by_request[order.request_id]
        self._count(order, -1)

    def get(self, move_id: MoveId) -> OpenMove | None:
        return self._by_id.get(move_id)

    def of_request(self, request_id: RequestId) -> OpenMove | None:
        return self._by_request.get(request_id)

    def all(self) -> list[OpenMove]:
        """Oldest first."""
        return list(self._by_id.values())

    def involving(self, key: WorkerKey) -> list[OpenMove]:
        """Moves from or to a worker, oldest first."""
        return [m for m in self._by_id.values() if key in (m.order.source, m.order.target)]

    def migrations(self, key: WorkerKey) -> int:
        """Open migrations from or to a worker."""
        return self._migrations.get(key, 0)

    def asks(self) -> int:
        """Operators who wait for a move's end."""
        return sum(move.ask_id is not None for move in self._by_id.values())

    def silent(self, before_ns: int) -> list[OpenMove]:
        """Moves that nothing was heard of since `before_ns`."""
        return [move for move in self._by_id.values() if move.heard_ns <= before_ns]

    def check(self) -> None:
        """Programmer's errors only."""
        assert len(self._by_id) == len(self._by_request)
        migrations = [m for m in self._by_id.values() if m.order.kind is MoveKind.MIGRATION]
        assert sum(self._migrations.values()) == 2 * len(migrations), self._migrations

    def _count(self, order: MoveOrder, change: int) -> None:
        if order.kind is not MoveKind.MIGRATION:
            return
        for key in (order.source, order.target):
            count = self._migrations.get(key, 0) + change
            if count:
                self._migrations[key] = count
            else:
                del self._migrations[key]
