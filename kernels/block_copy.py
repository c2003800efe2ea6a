"""Gathers KV blocks into one message and scatters one back: the plain-torch reference.

    cache_L2NGTD   [layers, 2, blocks of the cache, heads, tokens, head size], layers maybe a slice
    blocks_B       which blocks, int64
    moved_L2BHTD   the message: heads [first, last) of those blocks, contiguous

It moves bits and computes nothing, so every implementation must equal it exactly.
"""

from torch import Tensor


def gather(cache_L2NGTD: Tensor, blocks_B: Tensor, first_head: int, last_head: int) -> Tensor:
    """A contiguous copy of some heads of some blocks."""
    return cache_L2NGTD[:, :, :, first_head:last_head].index_select(2, blocks_B)


def scatter(
    cache_L2NGTD: Tensor, blocks_B: Tensor, first_head: int, last_head: int, moved_L2BHTD: Tensor
) -> None:
    """Put what `gather` gave into some heads of some blocks, none of them named twice."""
    cache_L2NGTD[:, :, :, first_head:last_head].index_copy_(2, blocks_B, moved_L2BHTD)
