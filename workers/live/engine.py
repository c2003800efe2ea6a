"""The engine: runs one batch, and reads and writes KV blocks. Nothing else.

`Engine` is the seam another engine may stand behind; `TorchEngine` is ours.
One thread calls `run`; blocks may be read and written from any thread, but
only blocks that no running batch writes: the WorkerCore sees to that.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from ...kernels.seam import Kernels
from ...kernels.select import select
from ...proto.batch import Batch
from ...proto.requests import SampledToken
from ..models.decoder import Decoder
from ..models.errors import ModelError, UnsupportedModel
from ..models.load import load_decoder_weights
from ..models.rows import Rows, rows_of
from ..models.sampling import draw
from ..models.spec import ModelSpec
from .block_rows import BlockBytes
from .kv_cache import KvCache

# What the CPU kernels' vectors and panels want sizes to be multiples of.
CPU_HEAD_DIM_STEP = 32
CPU_ROW_STEP = 16


class Engine(Protocol):
    """A model with its KV blocks."""

    @property
    def spec(self) -> ModelSpec: ...

    @property
    def block_bytes(self) -> int:
        """Bytes of one block over all layers."""
        ...

    @property
    def blocks(self) -> int:
        """How many KV blocks there are."""
        ...

    def run(self, batch: Batch, on_layer: Callable[[int], None]) -> tuple[SampledToken | None, ...]:
        """Compute a batch: its KV into its blocks, one token per chunk that draws.

        `on_layer(i)` is called, on this thread, when the blocks hold all of the
        batch for layer i. The result has one entry per chunk, None where
        `chunk.draw` is None.
        """
        ...

    def read_blocks(self, first_layer: int, last_layer: int, blocks: Sequence[int]) -> Tensor:
        """A contiguous copy [last - first, 2, len(blocks), G, block_tokens, D] float32.

        On the engine's device: on a GPU it follows, on the caller's stream, what the batch
        in progress has stored of these layers.
        """
        ...

    def block_rows(self, first_layer: int, last_layer: int, blocks: Sequence[int]) -> BlockBytes:
        """The bytes that `read_blocks` would give, to be read, or written, in pieces.

        Raises IndexError for layers or blocks that there are not.
        """
        ...

    def write_blocks(
        self, first_layer: int, last_layer: int, blocks: Sequence[int], payload: Tensor
    ) -> None:
        """Put what `read_blocks` gave, or its flat bytes, into `blocks`, in their order."""
        ...


class TorchEngine:
    """The decoder of `models` over a paged cache; see `Engine`."""

    def __init__(self, decoder: Decoder, cache: KvCache, device: str = "cpu") -> None:
        self.spec = decoder.spec
        self.block_bytes = cache.block_bytes
        self.blocks = cache.blocks
        self.cache = cache
        self._decoder = decoder
        self._device = device

    def run(self, batch: Batch, on_layer: Callable[[int], None]) -> tuple[SampledToken | None, ...]:
        rows = rows_of(batch, self.cache.block_tokens, self._device)

        def marked(layer: int) -> None:
            self.cache.marks.stored(layer)
            on_layer(layer)

        logits = self.logits(rows, marked).numpy(force=True)
        drawn = iter(logits)
        return tuple(
            None if chunk.draw is None else draw(next(drawn), chunk.draw) for chunk in batch.chunks
        )

    @torch.inference_mode()
    def logits(self, rows: Rows, on_layer: Callable[[int], None]) -> Tensor:
        """Logits [R, vocab] of the drawn rows; the batch's KV goes to its blocks."""
        return self._decoder.forward(rows, self.cache.tensor, on_layer)

    def read_blocks(self, first_layer: int, last_layer: int, blocks: Sequence[int]) -> Tensor:
        return self.cache.read(first_layer, last_layer, blocks)

    def block_rows(self, first_layer: int, last_layer: int, blocks: Sequence[int]) -> BlockBytes:
        return self.cache.rows(first_layer, last_layer, blocks)

    def write_blocks(
        self, first_layer: int, last_layer: int, blocks: Sequence[int], payload: Tensor
    ) -> None:
        self.cache.write(first_layer, last_layer, blocks, payload)


def load_engine(
    model_path: Path | str,
    blocks: int,
    block_tokens: int,
    device: str = "cpu",
    threads: int = 2,
) -> TorchEngine:
    """An engine with `blocks` KV blocks of `block_tokens` tokens. Raises ModelError.

    `threads` are CPU threads; they change speed, never a result.
    """
    kernels = _kernels(device, threads)
    spec, weights = load_decoder_weights(Path(model_path), kernels, device)
    if device == "cpu":
        _check_cpu(spec)
    cache = KvCache(spec, blocks, block_tokens, device)
    positions = min(spec.context_tokens, blocks * block_tokens)
    return TorchEngine(Decoder(spec, weights, kernels, positions), cache, device)


def _kernels(device: str, threads: int) -> Kernels:
    kernels = select(device)
    if device != "cpu":
        return kernels
    torch.set_num_threads(threads)
    set_threads = getattr(kernels, "set_threads", None)
    if set_threads is not None:
        try:
            set_threads(threads)
        except ValueError as error:
            raise ModelError(str(error)) from error
    return kernels


def _check_cpu(spec: ModelSpec) -> None:
    if spec.head_dim % CPU_HEAD_DIM_STEP:
        raise UnsupportedModel(
            f"head_dim ({spec.head_dim}) is not a multiple of {CPU_HEAD_DIM_STEP}, as the CPU "
            "kernels need"
        )
    for key in ("hidden", "ffn"):
        if getattr(spec, key) % CPU_ROW_STEP:
            raise UnsupportedModel(
                f"{key} ({getattr(spec, key)}) is not a multiple of {CPU_ROW_STEP}, as the CPU "
                "kernels need"
            )
