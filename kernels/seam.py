"""What a decoder layer asks of its kernels: the seam between model and machine.

Every implementation takes and returns float32 torch tensors; int tensors are
int32. Legend for shape suffixes:

    T tokens in the flattened batch     C hidden size        K, N linear in, out
    H query heads   G key/value heads   D head size          F feed-forward size
    S sequences     B blocks a sequence P positions          D2 = D / 2

A token's KV slot is `block_id * block_tokens + offset`. A layer's cache is one
tensor [2, blocks, G, block_tokens, D]: keys at index 0, values at index 1.

The exact implementations promise more than the types say: the bits of an
output row are a function of that row's inputs alone (see `cpu/`).
"""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class PackedWeight:
    """A linear layer's weight in the layout its kernels want.

    `data` belongs to the implementation that packed it; nobody else reads it.
    """

    data: Tensor
    in_features: int
    out_features: int


class Kernels(Protocol):
    """The operations of one decoder layer. All tensors live on one device."""

    def pack(self, weight_NK: Tensor) -> PackedWeight:
        """Lay out a linear's weight [N, K] once, at load time."""
        ...

    def linear(self, x_TK: Tensor, packed: PackedWeight, bias_N: Tensor | None = None) -> Tensor:
        """y_TN = x_TK @ weight_NK.T (+ bias_N). Rows of x may be strided."""
        ...

    def rms_norm(self, x_TC: Tensor, weight_C: Tensor, eps: float) -> Tensor:
        """y = x / sqrt(mean(x^2) + eps) * weight over the last dimension.

        Also takes [T, H, D] (query and key norms). arXiv 1910.07467.
        """
        ...

    def add_rms_norm(
        self, x_TC: Tensor, residual_TC: Tensor, weight_C: Tensor, eps: float
    ) -> Tensor:
        """residual += x in place, then the norm of the new residual."""
        ...

    def rope_store(
        self,
        q_THD: Tensor,
        k_TGD: Tensor,
        v_TGD: Tensor,
        cos_PD2: Tensor,
        sin_PD2: Tensor,
        positions_T: Tensor,
        slots_T: Tensor,
        kv_layer: Tensor,
    ) -> None:
        """Rotate q and k in place, then write k and v into their slots.

        Half-split rotation as in Hugging Face Llama (arXiv 2104.09864): element
        i pairs with i + D/2. q, k and v may be strided views of one buffer.
        """
        ...

    def paged_attention(
        self,
        q_THD: Tensor,
        kv_layer: Tensor,
        block_tables_SB: Tensor,
        sequence_T: Tensor,
        positions_T: Tensor,
        scale: float,
    ) -> Tensor:
        """out_THD: row t attends to positions 0..positions_T[t] of its sequence.

        `sequence_T[t]` is the row of `block_tables_SB` that holds its blocks.
        Query head h reads key/value head h // (H / G).
        """
        ...

    def silu_mul(self, gate_up_T2F: Tensor) -> Tensor:
        """y_TF = silu(gate) * up, gate in the first F columns, up in the last."""
        ...


class BlockCopy(Protocol):
    """Some heads of some KV blocks as one message, and back: `block_copy.py` is the reference."""

    def gather(
        self, cache_L2NGTD: Tensor, blocks_B: Tensor, first_head: int, last_head: int
    ) -> Tensor:
        """A contiguous copy [L, 2, B, last - first, T, D]; `blocks_B` is int64."""
        ...

    def scatter(
        self,
        cache_L2NGTD: Tensor,
        blocks_B: Tensor,
        first_head: int,
        last_head: int,
        moved_L2BHTD: Tensor,
    ) -> None:
        """Put what `gather` gave into heads [first, last) of those blocks."""
        ...
