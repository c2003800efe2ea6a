"""Copies on their way to one worker, and the blocks they are going to write.

The check of "no block is reused while somebody may still write it": neither
may an iteration write a block that a copy is on its way to, nor may a copy set
out for a block that the running iteration writes. Exempt is a copy whose lease
is closed and whose source is known to be dead here, or has sent all of it: the
source can do nothing more, and what lands without a lease is not written.
"""

from collections.abc import Callable

from ..proto.batch import Batch
from ..proto.ids import BlockId, MoveId, RequestId, WorkerKey
from ..proto.move import Copy
from ..proto.views import WorkerInfo
from ..proto.worker_events import FetchGranted, LeaseOpened
from .errors import InvariantBroken

LeaseName = tuple[MoveId, int]  # the move, and the number of its lease


class Inbound:
    """What is in flight to one life of a worker."""

    def __init__(self, owner: WorkerInfo, alive: Callable[[WorkerKey], bool]) -> None:
        self._owner = owner.key
        self._block_tokens = owner.block_tokens
        self._alive = alive
        self._copies: dict[str, tuple[Copy, WorkerKey]] = {}
        self._blocks: dict[BlockId, str] = {}
        self._dead: set[WorkerKey] = set()
        self._left: set[str] = set()
        self._writing: dict[BlockId, RequestId] = {}

    def expect(self, copy: Copy, source: WorkerKey, leases: set[LeaseName]) -> None:
        """A copy has started. Raises InvariantBroken if the engine writes where it goes."""
        self._copies[copy.copy_id] = (copy, source)
        self._blocks.update(dict.fromkeys(copy.target_blocks, copy.copy_id))
        if self._writing and (copy.move_id, copy.lease) in leases:
            for block in copy.target_blocks:
                if block in self._writing:
                    self._refuse(block, self._writing[block])

    def left(self, copy: Copy) -> None:
        """The last byte of a copy has left its source."""
        self._left.add(copy.copy_id)

    def forget(self, copy: Copy) -> None:
        """A copy has landed, failed, or its source is gone."""
        self._copies.pop(copy.copy_id, None)
        self._left.discard(copy.copy_id)
        for block in copy.target_blocks:
            if self._blocks.get(block) == copy.copy_id:
                del self._blocks[block]

    def fence(self, source: WorkerKey) -> None:
        """The core here was told that `source` is dead."""
        self._dead.add(source)

    def begin_writes(self, batch: Batch, leases: set[LeaseName]) -> None:
        """An iteration starts. Raises InvariantBroken if it writes where a copy is to land."""
        for chunk in batch.chunks:
            first = chunk.start // self._block_tokens
            last = (chunk.end - 1) // self._block_tokens
            for block in chunk.block_table[first : last + 1]:
                self._writing[block] = chunk.request_id
                if block in self._blocks and not self._fenced(block, leases):
                    self._refuse(block, chunk.request_id)

    def check_lease(self, lease: LeaseOpened | FetchGranted) -> None:
        """Raises InvariantBroken if a lease has a block that the running iteration writes."""
        present = lease.present if isinstance(lease, LeaseOpened) else 0
        for block in lease.blocks[present:]:
            if block in self._writing:
                raise InvariantBroken(
                    f"worker {self._owner}: block {block} is lent to move {lease.move_id} while "
                    f"the running iteration writes it for {self._writing[block]}"
                )

    def end_writes(self) -> None:
        """The iteration has ended."""
        self._writing.clear()

    def _fenced(self, block: BlockId, leases: set[LeaseName]) -> bool:
        copy, source = self._copies[self._blocks[block]]
        over = source in self._dead or copy.copy_id in self._left
        return not self._alive(source) or (over and (copy.move_id, copy.lease) not in leases)

    def _refuse(self, block: BlockId, request_id: RequestId) -> None:
        copy, source = self._copies[self._blocks[block]]
        raise InvariantBroken(
            f"worker {self._owner}: {request_id} writes block {block} while copy {copy.copy_id} "
            f"of move {copy.move_id} from {source} is on its way to it"
        )
