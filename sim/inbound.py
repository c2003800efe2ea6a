"""Copies on their way to one worker, and the blocks they are going to write.

The check of "no block is reused while somebody may still write it": an
iteration must not write a block that a copy is on its way to, unless the lease
is closed and the copy's source is known to be dead here (its writes are fenced).
"""

from collections.abc import Callable

from ..proto.batch import Batch
from ..proto.ids import BlockId, MoveId, WorkerKey
from ..proto.move import Copy
from ..proto.views import WorkerInfo
from .errors import InvariantBroken


class Inbound:
    """What is in flight to one life of a worker."""

    def __init__(self, owner: WorkerInfo, alive: Callable[[WorkerKey], bool]) -> None:
        self._owner = owner.key
        self._block_tokens = owner.block_tokens
        self._alive = alive
        self._copies: dict[str, tuple[Copy, WorkerKey]] = {}
        self._blocks: dict[BlockId, str] = {}
        self._dead: set[WorkerKey] = set()

    def expect(self, copy: Copy, source: WorkerKey) -> None:
        """A copy has started."""
        self._copies[copy.copy_id] = (copy, source)
        for block in copy.target_blocks:
            self._blocks[block] = copy.copy_id

    def forget(self, copy: Copy) -> None:
        """A copy has landed, failed, or its source is gone."""
        self._copies.pop(copy.copy_id, None)
        for block in copy.target_blocks:
            if self._blocks.get(block) == copy.copy_id:
                del self._blocks[block]

    def fence(self, source: WorkerKey) -> None:
        """The core here was told that `source` is dead."""
        self._dead.add(source)

    def check_writes(self, batch: Batch, leases: set[MoveId]) -> None:
        """Raises InvariantBroken if the batch writes where a copy is to land."""
        if not self._blocks:
            return
        for chunk in batch.chunks:
            first = chunk.start // self._block_tokens
            last = (chunk.end - 1) // self._block_tokens
            for block in chunk.block_table[first : last + 1]:
                self._check_block(block, str(chunk.request_id), leases)

    def _check_block(self, block: BlockId, request_id: str, leases: set[MoveId]) -> None:
        copy_id = self._blocks.get(block)
        if copy_id is None:
            return
        copy, source = self._copies[copy_id]
        fenced = source in self._dead and copy.move_id not in leases
        if fenced or not self._alive(source):
            return
        raise InvariantBroken(
            f"worker {self._owner}: {request_id} writes block {block} while copy {copy_id} "
            f"of move {copy.move_id} from {source} is on its way to it"
        )
