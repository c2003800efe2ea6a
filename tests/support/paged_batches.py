"""Batches for attention tests: sequences in a paged cache, under any block order."""

from dataclasses import dataclass

import torch
from torch import Tensor

HEADS, KV_HEADS, HEAD_SIZE = 6, 2, 64


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Every row of every sequence, as one prefill of all positions."""

    q_THD: Tensor
    kv_layer: Tensor
    block_tables_SB: Tensor
    sequence_T: Tensor
    positions_T: Tensor

    def rows(self, chosen: Tensor) -> "Batch":
        """The same cache, with only these rows asking."""
        return Batch(
            q_THD=self.q_THD[chosen],
            kv_layer=self.kv_layer,
            block_tables_SB=self.block_tables_SB,
            sequence_T=self.sequence_T[chosen],
            positions_T=self.positions_T[chosen],
        )


def paged_batch(lengths: list[int], block_tokens: int = 16, order_seed: int = 0) -> Batch:
    """The content depends on `lengths` alone; `order_seed` moves blocks about."""
    content = torch.Generator().manual_seed(1)
    total = sum(lengths)
    q_THD = torch.randn(total, HEADS, HEAD_SIZE, generator=content)
    kv_2TGD = torch.randn(2, total, KV_HEADS, HEAD_SIZE, generator=content)
    width = -(-max(lengths) // block_tokens)
    blocks = width * len(lengths) + 3
    order = torch.randperm(blocks, generator=torch.Generator().manual_seed(order_seed))
    tables = order[: width * len(lengths)].view(len(lengths), width).int()
    sequence_T = torch.cat([torch.full((n,), s) for s, n in enumerate(lengths)])
    positions_T = torch.cat([torch.arange(n) for n in lengths])
    # What lies in unused slots must not matter, whatever it is.
    kv_layer = torch.full((2, blocks, KV_HEADS, block_tokens, HEAD_SIZE), torch.nan)
    block_T = tables[sequence_T, positions_T // block_tokens].long()
    for half in range(2):
        kv_layer[half][block_T, :, positions_T % block_tokens] = kv_2TGD[half]
    return Batch(
        q_THD=q_THD,
        kv_layer=kv_layer,
        block_tables_SB=tables.contiguous(),
        sequence_T=sequence_T.int(),
        positions_T=positions_T.int(),
    )
