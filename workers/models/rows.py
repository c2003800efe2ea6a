"""A batch as index arrays: one entry per token, in chunk order."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...proto.batch import Batch


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Where each of T tokens stands. All int32 but `token_ids` and `drawn` (int64).

    `sequence[t]` is the row of `block_tables` with token t's blocks;
    `drawn` are the R rows whose logits are wanted, ascending.
    """

    token_ids: Tensor
    positions: Tensor
    slots: Tensor
    sequence: Tensor
    block_tables: Tensor
    drawn: Tensor


def rows_of(batch: Batch, block_tokens: int, device: str = "cpu") -> Rows:
    """The batch, flattened: its tokens in chunk order, the last of each drawing chunk."""
    chunks = batch.chunks
    lengths = np.array([len(chunk.token_ids) for chunk in chunks], dtype=np.int32)
    ends = lengths.cumsum(dtype=np.int32)
    sequence_T = np.repeat(np.arange(len(chunks), dtype=np.int32), lengths)
    # A token's position: its index in the batch, moved by where its chunk begins.
    shift = np.array([chunk.start for chunk in chunks], dtype=np.int32) - (ends - lengths)
    positions_T = np.arange(len(sequence_T), dtype=np.int32) + shift[sequence_T]
    tables_SB = _tables(batch)
    block_T = tables_SB[sequence_T, positions_T // block_tokens]
    draws = np.array([chunk.draw is not None for chunk in chunks], dtype=np.bool_)
    token_ids = [token for chunk in chunks for token in chunk.token_ids]
    return Rows(
        token_ids=_tensor(np.array(token_ids, dtype=np.int64), device),
        positions=_tensor(positions_T, device),
        slots=_tensor(block_T * np.int32(block_tokens) + positions_T % block_tokens, device),
        sequence=_tensor(sequence_T, device),
        block_tables=_tensor(tables_SB, device),
        drawn=_tensor((ends[draws] - 1).astype(np.int64), device),
    )


def _tables(batch: Batch) -> NDArray[np.int32]:
    """Block tables as one array, short ones padded with block 0, which nobody reads there."""
    width = max(len(chunk.block_table) for chunk in batch.chunks)
    tables_SB = np.zeros((len(batch.chunks), width), dtype=np.int32)
    for row, chunk in zip(tables_SB, batch.chunks, strict=True):
        row[: len(chunk.block_table)] = chunk.block_table
    return tables_SB


def _tensor(array: NDArray[np.generic], device: str) -> Tensor:
    return torch.from_numpy(array).to(device)
