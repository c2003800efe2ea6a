"""Copies in flight from this worker. Each holds its source blocks until it ends."""

from collections.abc import Iterator
from dataclasses import dataclass

from ...proto.effects import CopyBlocks
from ...proto.ids import BlockId
from ...proto.move import Copy
from .blocks import BlockPool
from .limits import WorkerLimits
from .outbox import Outbox
from .scheduler import Entry
from .source_move import SourceMove


@dataclass(frozen=True, slots=True)
class _Layers:
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class KvShape:
    """How many layers a block has, and bytes over all of them."""

    layers: int
    block_bytes: int


class CopyDesk:
    """Orders copies for moves and takes their ends."""

    def __init__(
        self,
        limits: WorkerLimits,
        model: KvShape,
        blocks: BlockPool,
        out: Outbox,
    ) -> None:
        layers = model.layers
        self._limits = limits
        self._block_bytes = model.block_bytes
        self._blocks = blocks
        self._out = out
        self._in_flight: dict[str, SourceMove] = {}
        self._all = _Layers(0, layers)

    def ahead(self, move: SourceMove) -> None:
        """Full blocks that exist and were not copied yet, as far as flight allows."""
        sequence = move.sequence
        full = min(sequence.computed // sequence.block_tokens, len(move.target_blocks))
        while move.issued < full and len(move.in_flight) < self._limits.copies_in_flight_max:
            self._issue(move, full)

    def rest(self, move: SourceMove) -> None:
        """All that is left, the unfinished last block included. The source has stopped."""
        while move.issued < move.computed_blocks:
            self._issue(move, move.computed_blocks)

    def one(self, move: SourceMove, bytes_max: int) -> str | None:
        """One copy of full blocks that exist, at most so heavy; its id, None if there is none."""
        sequence = move.sequence
        full = min(sequence.computed // sequence.block_tokens, len(move.target_blocks))
        if move.issued >= full:
            return None
        blocks = max(1, bytes_max // self._block_bytes)
        self._issue(move, min(full, move.issued + blocks))
        return move.copies[-1]

    def during(self, move: SourceMove, entry: Entry, *, with_tail: bool) -> list[Copy]:
        """Copies that an iteration starts, one for each group of layers.

        Of all blocks that are full after it and were not copied before: what an
        earlier iteration could not start rides on this one. If much is in flight they
        are left to a later one, but not by the last: what it leaves is not hidden.
        """
        sequence = entry.sequence
        full = sequence.blocks_for(entry.end) if with_tail else entry.end // sequence.block_tokens
        last = min(full, len(move.target_blocks))
        busy = len(move.in_flight) >= self._limits.copies_in_flight_max
        if last <= move.issued or (busy and not with_tail):
            return []
        first, move.issued = move.issued, last
        return [self._copy(move, first, last, layers) for layers in self._groups(last - first)]

    def _groups(self, blocks: int) -> list[_Layers]:
        """Layers together until a copy of `blocks` blocks is worth a message."""
        layers = self._all.last
        layer_bytes = max(1, blocks * self._block_bytes // layers)
        size = max(self._limits.layer_group, -(-self._limits.copy_bytes_min // layer_bytes))
        firsts = range(0, layers, size)
        return [_Layers(first, min(first + size, layers)) for first in firsts]

    def end(self, copy_id: str) -> SourceMove | None:
        """A copy has ended; its source blocks are let go. None if it is not known."""
        move = self._in_flight.pop(copy_id, None)
        if move is not None:
            self._blocks.release(move.in_flight.pop(copy_id).source_blocks)
        return move

    def bytes_of(self, copy_id: str) -> int:
        """What a copy in flight weighs; 0 if it is not known."""
        move = self._in_flight.get(copy_id)
        return 0 if move is None else self._bytes(move.in_flight[copy_id])

    def all_blocks(self) -> Iterator[BlockId]:
        """Each block once per copy in flight."""
        for copy_id, move in self._in_flight.items():
            yield from move.in_flight[copy_id].source_blocks

    def check(self) -> None:
        """Integrity: both ways of finding a copy agree."""
        for copy_id, move in self._in_flight.items():
            assert copy_id in move.in_flight, f"copy {copy_id} is lost"

    def _bytes(self, copy: Copy) -> int:
        layers = copy.last_layer - copy.first_layer
        return len(copy.source_blocks) * self._block_bytes * layers // self._all.last

    def _issue(self, move: SourceMove, limit: int) -> None:
        first = move.issued
        move.issued = min(limit, first + self._limits.copy_blocks_max)
        self._out.put(CopyBlocks(copy=self._copy(move, first, move.issued, self._all)))

    def _copy(self, move: SourceMove, first: int, last: int, layers: _Layers) -> Copy:
        copy = Copy(
            copy_id=f"{move.order.move_id}/{move.lease}.{len(move.copies)}",
            move_id=move.order.move_id,
            lease=move.lease,
            target=move.target,
            first_layer=layers.first,
            last_layer=layers.last,
            source_blocks=move.sequence.blocks[first:last],
            target_blocks=move.target_blocks[first:last],
        )
        self._blocks.hold(copy.source_blocks)
        move.copies.append(copy.copy_id)
        move.in_flight[copy.copy_id] = copy
        self._in_flight[copy.copy_id] = move
        return copy
