"""What goes to this worker's host memory, and what comes back from it.

    spill    a cached block that is next to be evicted is copied ahead of time, so
             that its eviction waits for nothing; a preempted request's blocks are
             copied at once (swap), and whoever needs them waits for the copy's end
    restore  a waiting request whose prefix lies here gets it back, if that is
             predicted to take less time than to compute it again

A copy under way holds its device blocks by reference and its host blocks as
filling or held: neither is used for anything else before the copy's end.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

from ...proto.effects import RestoreBlocks, SpillBlocks
from ...proto.ids import BlockId, HostBlockId, HostCopyId, PrefixHash
from ...proto.worker_events import BlocksRestored, BlocksSpilled, HostCopyFailed
from .blocks import BlockPool
from .host_pool import HostPool
from .limits import WorkerLimits
from .outbox import Outbox
from .sequence import Sequence
from .speed import HostMeter, SpeedMeter


@dataclass(slots=True, kw_only=True)
class _Spill:
    hashes: tuple[PrefixHash, ...]
    blocks: tuple[BlockId, ...]
    host_blocks: tuple[HostBlockId, ...]


@dataclass(slots=True, kw_only=True)
class _Restore:
    """`hits` are the prefix's other blocks, held so that they outlast the copy."""

    sequence: Sequence
    hashes: tuple[PrefixHash, ...]
    blocks: tuple[BlockId, ...]
    host_blocks: tuple[HostBlockId, ...]
    hits: tuple[BlockId, ...]


@dataclass(slots=True)
class _Walk:
    """A prefix as far as device and host memory have it, unbroken."""

    hits: list[BlockId] = field(default_factory=list)
    missing: list[PrefixHash] = field(default_factory=list)  # in host memory only
    from_start: int = 0  # blocks on the device before the first that is not


class HostTier:
    """One worker's host memory. Without room it does nothing."""

    def __init__(
        self,
        limits: WorkerLimits,
        blocks: BlockPool,
        pool: HostPool,
        speed: SpeedMeter,
        out: Outbox,
    ) -> None:
        self.pool = pool
        self._limits = limits
        self._blocks = blocks
        self._speed = speed
        self._meter: HostMeter = speed.host
        self._out = out
        self._ordered = 0
        self._spill_again_ns = 0
        self._spills: dict[HostCopyId, _Spill] = {}
        self._restores: dict[HostCopyId, _Restore] = {}

    @property
    def coming(self) -> int:
        """Device blocks that can be evicted as soon as the spills under way have ended."""
        return sum(
            self._blocks.held_once(block)
            for spill in self._spills.values()
            for block in spill.blocks
        )

    @property
    def copying(self) -> bool:
        """Whether any copy to host memory or back is under way."""
        return bool(self._spills or self._restores)

    # ---- to host memory

    def spill_ahead(self, now_ns: int) -> None:
        """Copies what is to be evicted next, one batch at a time."""
        ahead = min(self._limits.spill_ahead_blocks - self._blocks.free, self.pool.total)
        if self._spills or ahead <= 0 or now_ns < self._spill_again_ns:
            return
        next_out = list(islice(self._blocks.oldest(), ahead))
        wanted = [(block, known) for block, known in next_out if known not in self.pool]
        if not wanted:
            return
        # What is there of the next ones stays: to evict it for others would never end.
        kept = self.pool.touch([known for _, known in next_out])
        count = min(self._limits.spill_blocks_max, self.pool.room - kept)
        self._spill(wanted[: max(0, count)], now_ns)

    def swap(self, blocks: tuple[BlockId, ...], computed: int, now_ns: int) -> None:
        """Copies what a preempted request has just let go of, if to compute it again
        is predicted to take longer. Without room for all of it: nothing.
        """
        wanted = []
        for block in blocks:
            known = self._blocks.hash_of(block)
            if known is not None and self._blocks.unheld((block,)) and known not in self.pool:
                wanted.append((block, known))
        there_and_back_ns = self._meter.predict_ns(
            self._meter.under_way + len(wanted) + len(blocks)
        )
        if len(wanted) <= self.pool.room and there_and_back_ns < self._recompute_ns(computed):
            self._spill(wanted, now_ns)

    def _spill(self, wanted: list[tuple[BlockId, PrefixHash]], now_ns: int) -> None:
        if not wanted:
            return
        blocks = tuple([block for block, _ in wanted])
        hashes = tuple([known for _, known in wanted])
        spill = _Spill(hashes=hashes, blocks=blocks, host_blocks=self.pool.take(hashes))
        self._blocks.hold(blocks)
        copy_id = self._new_id(len(blocks), now_ns)
        self._spills[copy_id] = spill
        self._out.put(
            SpillBlocks(host_copy_id=copy_id, blocks=blocks, host_blocks=spill.host_blocks)
        )

    # ---- and back

    def restore(self, sequence: Sequence, available: int, now_ns: int) -> None:
        """Begins to bring back the prefix of a waiting request, if that is worth it.

        `available` are the device blocks that the request may have in all. Once per
        admission: what is lost again meanwhile is computed.
        """
        if sequence.arriving or sequence.restored or not len(self.pool.findable):
            return
        if len(self._restores) >= self._limits.restores_max:
            return
        walk = self._walk(sequence)
        if not walk.missing:
            return
        needed = sequence.blocks_for(sequence.known) - len(walk.hits)
        if self._blocks.unheld(walk.hits) + needed > available:
            return
        tokens = (len(walk.hits) + len(walk.missing) - walk.from_start) * sequence.block_tokens
        restore_ns = self._meter.predict_ns(self._meter.under_way + len(walk.missing))
        if restore_ns >= self._recompute_ns(tokens):
            sequence.restored = True
            return
        self._begin(sequence, walk, now_ns)

    def _begin(self, sequence: Sequence, walk: _Walk, now_ns: int) -> None:
        self._blocks.hold(walk.hits)
        hashes = tuple(walk.missing)
        restore = _Restore(
            sequence=sequence,
            hashes=hashes,
            blocks=self._blocks.allocate(len(hashes)),
            host_blocks=self.pool.hold(hashes),
            hits=tuple(walk.hits),
        )
        copy_id = self._new_id(len(hashes), now_ns)
        self._restores[copy_id] = restore
        sequence.arriving = copy_id
        self._out.put(
            RestoreBlocks(
                host_copy_id=copy_id, blocks=restore.blocks, host_blocks=restore.host_blocks
            )
        )

    # ---- ends

    def take(self, event: BlocksSpilled | BlocksRestored | HostCopyFailed, now_ns: int) -> None:
        """A copy has come to its end; unknown ones are no error."""
        copy_id = event.host_copy_id
        spill, restore = self._spills.pop(copy_id, None), self._restores.pop(copy_id, None)
        failed = isinstance(event, HostCopyFailed)
        self._meter.ended(copy_id, None if failed else now_ns)
        if spill is not None and failed:
            self._spill_again_ns = now_ns + self._limits.spill_again_ns
            self.pool.unfilled(spill.hashes)
            self._blocks.release(spill.blocks)
        elif spill is not None:  # in both memories now; on the device they are the next to go
            self.pool.filled(spill.hashes)
            self._blocks.release_oldest(spill.blocks)
        if restore is not None and not failed:
            for block, prefix_hash in zip(restore.blocks, restore.hashes, strict=True):
                self._blocks.publish(block, prefix_hash)
            restore.sequence.host_tokens = len(restore.blocks) * restore.sequence.block_tokens
        if restore is not None:
            self._end(restore)
            self.pool.forget(restore.hashes if failed else ())

    def _end(self, restore: _Restore) -> None:
        self.pool.release(restore.host_blocks)
        self._blocks.release(restore.hits)
        self._blocks.release(restore.blocks)
        restore.sequence.arriving = ""
        restore.sequence.restored = True

    # ---- predictions

    def _recompute_ns(self, tokens: int) -> float:
        speed = self._speed.speed
        iterations = tokens // self._limits.prefill_chunk_tokens
        return tokens * speed.token_ns + iterations * speed.iteration_ns

    def _walk(self, sequence: Sequence) -> _Walk:
        walk = _Walk()
        limit = (sequence.known - 1) // sequence.block_tokens
        for prefix_hash in sequence.hashes[:limit]:
            block = self._blocks.find(prefix_hash)
            if block is not None:
                walk.hits.append(block)
                walk.from_start += 0 if walk.missing else 1
            elif self.pool.find(prefix_hash) is not None:
                walk.missing.append(prefix_hash)
            else:
                break
        return walk

    def _new_id(self, blocks: int, now_ns: int) -> HostCopyId:
        self._ordered += 1
        copy_id = HostCopyId(f"host.{self._ordered}")
        self._meter.began(copy_id, blocks, now_ns)
        return copy_id

    # ---- integrity

    def arriving(self, sequence: Sequence) -> bool:
        """Whether a restore that is under way will end the request's wait."""
        return HostCopyId(sequence.arriving) in self._restores

    def held_blocks(self) -> Iterator[BlockId]:
        """Each device block once per copy that holds it."""
        for spill in self._spills.values():
            yield from spill.blocks
        for restore in self._restores.values():
            yield from restore.blocks
            yield from restore.hits

    def check(self) -> None:
        """Integrity: the host pool is in the state that the copies under way imply."""
        filling = [block for spill in self._spills.values() for block in spill.host_blocks]
        read = [block for restore in self._restores.values() for block in restore.host_blocks]
        self.pool.check(filling, read)
        assert len(self._restores) <= self._limits.restores_max, len(self._restores)
        for copy_id, restore in self._restores.items():
            assert restore.sequence.arriving == copy_id, f"{copy_id} has no request"
