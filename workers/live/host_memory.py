"""Host memory for KV blocks that the device has no room for.

    kept [host_blocks, layers, 2, kv_heads, block_tokens, head_dim]  float32

One thread copies, in the order in which the core ordered, off the engine's path.
On a GPU the memory is pinned and the copies have a stream of their own: a block
that is spilled or restored is touched by no running batch, the WorkerCore sees
to that.
"""

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...proto.effects import RestoreBlocks, SpillBlocks
from ...proto.worker_events import BlocksRestored, BlocksSpilled, HostCopyFailed
from .engine import Engine

log = logging.getLogger(__name__)
HostCopy = SpillBlocks | RestoreBlocks
PROBE_BLOCKS = 8


class HostMemory:
    """Room for `blocks` blocks of `engine`; `post` takes events from its thread."""

    def __init__(self, engine: Engine, blocks: int, device: str) -> None:
        self._engine = engine
        self._layers = engine.spec.layers
        probe = engine.read_blocks(0, self._layers, [0])
        layers, both, _, heads, block_tokens, head_dim = probe.shape
        shape = (blocks, layers, both, heads, block_tokens, head_dim)
        self._on_gpu = device != "cpu"
        self._stream = torch.cuda.Stream(device) if self._on_gpu else None
        self._device = probe.device
        self.kept = _memory(shape, pinned=self._on_gpu)
        self._orders: queue.SimpleQueue[HostCopy] = queue.SimpleQueue()

    def start(self, post: Callable[[Any], None]) -> None:
        """Begin to take orders; each ends in one event. The thread ends with the process."""
        self._post = post
        threading.Thread(target=self._run, name="host-memory", daemon=True).start()

    def order(self, copy: HostCopy) -> None:
        """Queue a copy. The core bounds how many there are."""
        self._orders.put(copy)

    def spill(self, blocks: Sequence[int], host_blocks: Sequence[int]) -> None:
        """Copy `blocks` to `host_blocks`; done when it returns."""
        with self._on_stream():
            payload = self._engine.read_blocks(0, self._layers, blocks)
            for index, host_block in enumerate(host_blocks):
                part = payload[:, :, index]
                source = part.contiguous() if self._on_gpu else part
                self.kept[host_block].copy_(source, non_blocking=True)

    def restore(self, blocks: Sequence[int], host_blocks: Sequence[int]) -> None:
        """Copy `host_blocks` to `blocks`; done when it returns."""
        with self._on_stream():
            _, layers, *rest = self.kept.shape
            shape = (layers, rest[0], len(blocks), *rest[1:])
            payload = torch.empty(shape, dtype=self.kept.dtype, device=self._device)
            for index, host_block in enumerate(host_blocks):
                part = self.kept[host_block]
                there = part.to(self._device, non_blocking=True) if self._on_gpu else part
                payload[:, :, index].copy_(there)
            self._engine.write_blocks(0, self._layers, blocks, payload)

    def measure_block_ns(self) -> float:
        """Nanoseconds per block brought back. Before anything else uses the engine."""
        count = min(PROBE_BLOCKS, self.kept.shape[0], self._engine.blocks)
        probe = range(count)
        self.spill(probe, probe)
        started_ns = time.perf_counter_ns()
        self.restore(probe, probe)
        return (time.perf_counter_ns() - started_ns) / count

    @contextlib.contextmanager
    def _on_stream(self) -> Iterator[None]:
        if self._stream is None:
            yield
            return
        with torch.cuda.stream(self._stream):
            yield
        self._stream.synchronize()

    def _run(self) -> None:
        while True:
            copy = self._orders.get()
            try:
                self._post(self._copy(copy))
            except Exception as error:
                log.exception("host copy %s failed", copy.host_copy_id)
                self._post(HostCopyFailed(host_copy_id=copy.host_copy_id, reason=str(error)))

    def _copy(self, copy: HostCopy) -> BlocksSpilled | BlocksRestored:
        if isinstance(copy, SpillBlocks):
            self.spill(copy.blocks, copy.host_blocks)
            return BlocksSpilled(host_copy_id=copy.host_copy_id)
        self.restore(copy.blocks, copy.host_blocks)
        return BlocksRestored(host_copy_id=copy.host_copy_id)


def _memory(shape: tuple[int, ...], *, pinned: bool) -> Tensor:
    """Unpinned from calloc: memory is taken when a block is first written."""
    if pinned:
        return torch.zeros(shape, dtype=torch.float32, pin_memory=True)
    return torch.from_numpy(np.zeros(shape, dtype=np.float32))
