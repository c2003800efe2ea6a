"""A worker's host memory in the fleet: copies run one after the other, and read and
write at their ends, so that whoever gives blocks away too early pays.
"""

from copy import deepcopy

from machine import Content, Machine
from splitweave.proto.effects import RestoreBlocks, SpillBlocks
from splitweave.proto.worker_events import BlocksRestored, BlocksSpilled, HostCopyFailed

HostCopy = SpillBlocks | RestoreBlocks


class HostMemory:
    """What lies in it, and until when its one copier is busy."""

    def __init__(self, blocks: int) -> None:
        self.content: Content = [[] for _ in range(blocks)]
        self.blocks = blocks
        self.spills = 0
        self.restores = 0
        self._free_ns = 0

    def book(self, now_ns: int, copy_ns: int) -> int:
        """When a copy that is ordered now will have ended."""
        self._free_ns = max(self._free_ns, now_ns) + copy_ns
        return self._free_ns

    def end(self, copy: HostCopy, machine: Machine) -> BlocksSpilled | BlocksRestored:
        """The copy, done at once; its event."""
        for block, host_block in zip(copy.blocks, copy.host_blocks, strict=True):
            if isinstance(copy, SpillBlocks):
                self.content[host_block] = deepcopy(machine.content[block])
            else:
                machine.content[block] = deepcopy(self.content[host_block])
        if isinstance(copy, SpillBlocks):
            self.spills += len(copy.blocks)
            return BlocksSpilled(host_copy_id=copy.host_copy_id)
        self.restores += len(copy.blocks)
        return BlocksRestored(host_copy_id=copy.host_copy_id)

    def fail(self, copy: HostCopy, machine: Machine) -> HostCopyFailed:
        """Half of the copy, and an error."""
        if isinstance(copy, RestoreBlocks):
            machine.content[copy.blocks[0]] = [
                [b"half"] * machine.block_tokens for _ in range(machine.layers)
            ]
        else:
            self.content[copy.host_blocks[0]] = []
        return HostCopyFailed(host_copy_id=copy.host_copy_id, reason="planted")
