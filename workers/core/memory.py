"""What a worker remembers of the past: ended moves and dead peers. Both bounded."""

from collections import OrderedDict

from ...proto.ids import Epoch, Incarnation, MoveId, WorkerId, WorkerKey


class EndedMoves:
    """Moves that ended here; the least recently heard of is forgotten first."""

    def __init__(self, size_max: int) -> None:
        self._size_max = size_max
        self._moves: OrderedDict[MoveId, Epoch | None] = OrderedDict()

    def __contains__(self, move_id: MoveId) -> bool:
        return move_id in self._moves

    def add(self, move_id: MoveId, committed: Epoch | None = None) -> None:
        """`committed` is the request's epoch if this worker committed it as the target."""
        self._moves[move_id] = committed or self._moves.get(move_id)
        self._moves.move_to_end(move_id)
        if len(self._moves) > self._size_max:
            self._moves.popitem(last=False)

    def committed(self, move_id: MoveId) -> Epoch | None:
        """The epoch this worker committed the move with, if it did."""
        return self._moves.get(move_id)


class DeadPeers:
    """The highest dead incarnation of each worker: whatever it or an older one says is void."""

    def __init__(self, size_max: int) -> None:
        self._size_max = size_max
        self._dead: OrderedDict[WorkerId, Incarnation] = OrderedDict()

    def add(self, key: WorkerKey) -> None:
        known = self._dead.get(key.worker_id, key.incarnation)
        self._dead[key.worker_id] = max(known, key.incarnation)
        self._dead.move_to_end(key.worker_id)
        if len(self._dead) > self._size_max:
            self._dead.popitem(last=False)

    def all(self) -> tuple[WorkerKey, ...]:
        """The highest dead life of each, the least recently heard of first."""
        return tuple([WorkerKey(name, incarnation) for name, incarnation in self._dead.items()])

    def __contains__(self, key: WorkerKey) -> bool:
        known = self._dead.get(key.worker_id)
        return known is not None and key.incarnation <= known
