"""A worker's host memory, simulated: copies run one after the other at its bandwidth.

A copy reads and writes when it ends: whoever gives blocks away before that pays.
"""

from collections.abc import Callable
from random import Random
from typing import Any

from ..proto.effects import RestoreBlocks, SpillBlocks
from ..proto.worker_events import BlocksRestored, BlocksSpilled, HostCopyFailed
from .clock import NS_PER_S, Scheduler
from .content import BlockContent, HostContent

HostCopy = SpillBlocks | RestoreBlocks


class HostMemory:
    """One life's host memory; empty at first."""

    def __init__(
        self, block_bytes: int, bytes_per_s: float, content: BlockContent | None, blocks: int
    ) -> None:
        self._block_ns = block_bytes * NS_PER_S / bytes_per_s
        self._content = content
        self._kept: HostContent = [[] for _ in range(blocks if content is not None else 0)]
        self._free_ns = 0
        self._random = Random("host memory")
        self.fail = 0.0  # with this probability a copy comes to nothing
        self.closed = False

    def connect(self, scheduler: Scheduler, post: Callable[[Any], None]) -> None:
        """Where ends go. Before anything else."""
        self._scheduler = scheduler
        self._post = post

    def start(self, copy: HostCopy) -> None:
        """Begin a copy; it ends in `BlocksSpilled` or `BlocksRestored`."""
        start_ns = max(self._free_ns, self._scheduler.now_ns)
        self._free_ns = start_ns + int(len(copy.blocks) * self._block_ns) + 1
        self._scheduler.at(self._free_ns, self._end, copy)

    def _end(self, copy: HostCopy) -> None:
        if self.closed:
            return
        if self.fail and self._random.random() < self.fail:
            self._post(HostCopyFailed(host_copy_id=copy.host_copy_id, reason="drawn"))
        elif isinstance(copy, SpillBlocks):
            if self._content is not None:
                self._content.spill(copy, self._kept)
            self._post(BlocksSpilled(host_copy_id=copy.host_copy_id))
        else:
            if self._content is not None:
                self._content.restore(copy, self._kept)
            self._post(BlocksRestored(host_copy_id=copy.host_copy_id))
