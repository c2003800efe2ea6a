"""Gathers KV blocks into one message and scatters one back, on a GPU.

The heads [first, last) of one block in one plane (a layer's keys, or its
values) lie together: a *run*. Runs are copied as 4-byte words, whatever the
elements are, sixteen bytes per thread and load.

    cache   plane 0 | block 0: head 0, head 1, … | block 1: … | …    plane 1 | …
    message plane 0 | run of blocks[0], run of blocks[1], …   |      plane 1 | …

    grid    (blocks of the message, planes, chunks of a run)

The reference beside it is `kernels/block_copy.py`.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

CHUNK_WORDS_MAX = 2048  # of one program: 8 KiB, four loads of each of 128 threads
WARPS = 4


@triton.jit  # type: ignore[untyped-decorator]
def gather_kernel(
    cache: tl.tensor,
    message: tl.tensor,
    blocks: tl.tensor,
    plane_words: tl.tensor,
    block_words: tl.tensor,
    first_word: tl.tensor,
    RUN: tl.constexpr,
    CHUNK: tl.constexpr,
) -> None:
    place, plane = tl.program_id(0), tl.program_id(1)
    word = tl.program_id(2) * CHUNK + tl.arange(0, CHUNK)
    block = tl.load(blocks + place)
    held = plane.to(tl.int64) * plane_words + block * block_words + first_word
    sent = (plane.to(tl.int64) * tl.num_programs(0) + place) * RUN
    moved = tl.load(cache + held + word, mask=word < RUN)
    tl.store(message + sent + word, moved, mask=word < RUN)


@triton.jit  # type: ignore[untyped-decorator]
def scatter_kernel(
    cache: tl.tensor,
    message: tl.tensor,
    blocks: tl.tensor,
    plane_words: tl.tensor,
    block_words: tl.tensor,
    first_word: tl.tensor,
    RUN: tl.constexpr,
    CHUNK: tl.constexpr,
) -> None:
    place, plane = tl.program_id(0), tl.program_id(1)
    word = tl.program_id(2) * CHUNK + tl.arange(0, CHUNK)
    block = tl.load(blocks + place)
    held = plane.to(tl.int64) * plane_words + block * block_words + first_word
    sent = (plane.to(tl.int64) * tl.num_programs(0) + place) * RUN
    moved = tl.load(message + sent + word, mask=word < RUN)
    tl.store(cache + held + word, moved, mask=word < RUN)


def gather(cache_L2NGTD: Tensor, blocks_B: Tensor, first_head: int, last_head: int) -> Tensor:
    """See the reference. The cache's head size times its element's bytes is a multiple of 4."""
    layers, two, _, _, tokens, head_dim = cache_L2NGTD.shape
    shape = (layers, two, blocks_B.numel(), last_head - first_head, tokens, head_dim)
    message = torch.empty(shape, dtype=cache_L2NGTD.dtype, device=cache_L2NGTD.device)
    _copy(gather_kernel, cache_L2NGTD, blocks_B, first_head, message)
    return message


def scatter(
    cache_L2NGTD: Tensor, blocks_B: Tensor, first_head: int, last_head: int, moved_L2BHTD: Tensor
) -> None:
    """See the reference. The message is contiguous."""
    assert moved_L2BHTD.shape[3] == last_head - first_head, moved_L2BHTD.shape
    _copy(scatter_kernel, cache_L2NGTD, blocks_B, first_head, moved_L2BHTD)


def _copy(
    kernel: Any,
    cache_L2NGTD: Tensor,
    blocks_B: Tensor,
    first_head: int,
    message_L2BHTD: Tensor,
) -> None:
    assert cache_L2NGTD.is_contiguous(), cache_L2NGTD.stride()
    assert message_L2BHTD.is_contiguous(), message_L2BHTD.stride()
    cache, message = cache_L2NGTD.view(torch.int32), message_L2BHTD.view(torch.int32)
    layers, two, count, *run_shape = message.shape
    if not message.numel():
        return
    run = run_shape[0] * run_shape[1] * run_shape[2]
    chunk = min(CHUNK_WORDS_MAX, triton.next_power_of_2(run))
    grid = (count, layers * two, triton.cdiv(run, chunk))
    kernel[grid](
        cache,
        message,
        blocks_B,
        cache.stride(1),
        cache.stride(2),
        first_head * cache.stride(3),
        RUN=run,
        CHUNK=chunk,
        num_warps=WARPS,
    )
