"""A worker's paged KV memory: one tensor, addressed by block id.

    kv [layers, 2, blocks, kv_heads, block_tokens, head_dim]  float32

keys at index 0, values at 1. A (layer, block, head) is contiguous. Which block
holds what is the WorkerCore's affair; this only stores, gathers and scatters.
"""

import math
from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from ...kernels.cpu.row_copy import LINE_BYTES
from ...kernels.select import select_block_copy
from ..core.head_ranges import HeadRange
from ..models.errors import ModelError
from ..models.spec import ModelSpec
from .block_rows import BlockBytes, BlockRows, WholeRows
from .layer_marks import LayerMarks

ELEMENT_BYTES = 4


def block_bytes(spec: ModelSpec, block_tokens: int) -> int:
    """Bytes of one block over all layers."""
    return spec.layers * 2 * spec.kv_columns * block_tokens * ELEMENT_BYTES


def blocks_for(memory_bytes: int, spec: ModelSpec, block_tokens: int) -> int:
    """How many blocks fit into `memory_bytes`; ModelError if not even one does."""
    each = block_bytes(spec, block_tokens)
    if memory_bytes < each:
        raise ModelError(f"KV memory ({memory_bytes} bytes) is below one block ({each} bytes)")
    return memory_bytes // each


class KvCache:
    """The memory of `blocks` blocks. Reads and writes may come from any thread.

    On a GPU both run on the calling thread's stream: a read behind the layers' `marks`,
    a write until it is through.
    """

    def __init__(
        self, spec: ModelSpec, blocks: int, block_tokens: int, device: str = "cpu"
    ) -> None:
        if blocks < 1 or block_tokens < 1:
            raise ModelError(f"blocks ({blocks}) and block_tokens ({block_tokens}) must be >= 1")
        shape = (spec.layers, 2, blocks, spec.kv_heads, block_tokens, spec.head_dim)
        self.blocks = blocks
        self.block_tokens = block_tokens
        self.block_bytes = block_bytes(spec, block_tokens)
        self.tensor = _zeros(shape, device)
        self.marks = LayerMarks(spec.layers, self.tensor.device)
        self._all = HeadRange(first=0, last=spec.kv_heads)
        self._copy = select_block_copy(device)
        self._head_bytes = block_tokens * spec.head_dim * ELEMENT_BYTES

    def read(self, first_layer: int, last_layer: int, blocks: Sequence[int]) -> Tensor:
        """A contiguous copy [last - first, 2, len(blocks), G, block_tokens, D]."""
        return self.read_heads(first_layer, last_layer, blocks, self._all)

    def write(
        self, first_layer: int, last_layer: int, blocks: Sequence[int], payload: Tensor
    ) -> None:
        """Put what `read` gave, or its flat bytes, into `blocks`, in their order."""
        self.write_heads(first_layer, last_layer, blocks, self._all, payload)

    def read_heads(
        self, first_layer: int, last_layer: int, blocks: Sequence[int], heads: HeadRange
    ) -> Tensor:
        """As `read`, of some of the heads held here: [.., len(heads), block_tokens, D]."""
        self.marks.follow(last_layer - 1)
        held = self.tensor[first_layer:last_layer]
        return self._copy.gather(held, self._index(blocks), heads.first, heads.last)

    def write_heads(
        self,
        first_layer: int,
        last_layer: int,
        blocks: Sequence[int],
        heads: HeadRange,
        payload: Tensor,
    ) -> None:
        """As `write`, of some of the heads held here; the others keep what they have."""
        held = self.tensor[first_layer:last_layer]
        shape = (*held.shape[:2], len(blocks), len(heads), *held.shape[4:])
        moved = payload.to(held.device).view(held.dtype).view(shape)
        self._copy.scatter(held, self._index(blocks), heads.first, heads.last, moved)
        self.marks.settle()

    def rows(self, first_layer: int, last_layer: int, blocks: Sequence[int]) -> BlockBytes:
        """The bytes that `read` would give, in pieces. IndexError for other blocks."""
        return self.rows_of_heads(first_layer, last_layer, blocks, self._all)

    def rows_of_heads(
        self, first_layer: int, last_layer: int, blocks: Sequence[int], heads: HeadRange
    ) -> BlockBytes:
        """The bytes that `read_heads` would give, in pieces. IndexError as `rows`."""
        layers, _, held = self.tensor.shape[:3]
        if not 0 <= first_layer <= last_layer <= layers:
            raise IndexError(f"layers {first_layer}..{last_layer} of {layers}")
        if blocks and not 0 <= min(blocks) <= max(blocks) < held:
            raise IndexError(f"blocks {min(blocks)}..{max(blocks)} of {held}")
        if self.tensor.device.type == "cpu":
            return self._block_rows(first_layer, last_layer, blocks, heads)
        return WholeRows(
            (last_layer - first_layer) * 2 * len(blocks) * len(heads) * self._head_bytes,
            partial(self.read_heads, first_layer, last_layer, blocks, heads),
            partial(self.write_heads, first_layer, last_layer, blocks, heads),
        )

    def _block_rows(
        self, first_layer: int, last_layer: int, blocks: Sequence[int], heads: HeadRange
    ) -> BlockRows:
        """No copy: rows of the cache itself, one for each (layer, keys or values, block)."""
        planes = np.arange(2 * first_layer, 2 * last_layer, dtype=np.int64)
        index = planes[:, None] * self.blocks + np.array(blocks, dtype=np.int64)
        table = self.tensor.view(torch.uint8).flatten(0, 2).flatten(1)
        each = self._head_bytes
        return BlockRows(table[:, heads.first * each : heads.last * each], index.ravel())

    def _index(self, blocks: Sequence[int]) -> Tensor:
        return torch.tensor(blocks, dtype=torch.int64, device=self.tensor.device)


def _zeros(shape: tuple[int, ...], device: str) -> Tensor:
    """On CPU from calloc: memory is taken when a block is first written, not at start. It
    begins at a line of the cache, so that rows can be written a line at a time.
    """
    if device == "cpu":
        line = LINE_BYTES // ELEMENT_BYTES
        flat = np.zeros(math.prod(shape) + line, dtype=np.float32)
        first = -flat.ctypes.data % LINE_BYTES // ELEMENT_BYTES
        return torch.from_numpy(flat[first : first + math.prod(shape)].reshape(shape))
    return torch.zeros(shape, dtype=torch.float32, device=device)
