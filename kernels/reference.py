"""The plain-torch kernels: obviously right, on any device, not row-invariant.

Every other implementation is tested against this one. They also serve devices
that have no kernels of their own; there the bits of a row may depend on the
batch it was in (torch picks a matmul by shape).
"""

import torch
from torch import Tensor
from torch.nn import functional

from .seam import PackedWeight


class ReferenceKernels:
    """The `Kernels` seam in plain torch; see `seam.Kernels` for the contracts."""

    def pack(self, weight_NK: Tensor) -> PackedWeight:
        out_features, in_features = weight_NK.shape
        return PackedWeight(data=weight_NK, in_features=in_features, out_features=out_features)

    def linear(self, x_TK: Tensor, packed: PackedWeight, bias_N: Tensor | None = None) -> Tensor:
        return functional.linear(x_TK, packed.data, bias_N)

    def rms_norm(self, x_TC: Tensor, weight_C: Tensor, eps: float) -> Tensor:
        mean_square = x_TC.pow(2).mean(dim=-1, keepdim=True)
        return x_TC * torch.rsqrt(mean_square + eps) * weight_C

    def add_rms_norm(
        self, x_TC: Tensor, residual_TC: Tensor, weight_C: Tensor, eps: float
    ) -> Tensor:
        residual_TC += x_TC
        return self.rms_norm(residual_TC, weight_C, eps)

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
        positions = positions_T.long()
        cos, sin = cos_PD2[positions][:, None], sin_PD2[positions][:, None]
        _rotate(q_THD, cos, sin)
        _rotate(k_TGD, cos, sin)
        block_tokens = kv_layer.shape[3]
        block, offset = slots_T.long() // block_tokens, slots_T.long() % block_tokens
        kv_layer[0][block, :, offset] = k_TGD
        kv_layer[1][block, :, offset] = v_TGD

    def paged_attention(
        self,
        q_THD: Tensor,
        kv_layer: Tensor,
        block_tables_SB: Tensor,
        sequence_T: Tensor,
        positions_T: Tensor,
        scale: float,
    ) -> Tensor:
        out_THD = torch.empty(q_THD.shape, dtype=q_THD.dtype, device=q_THD.device)
        block_tokens = kv_layer.shape[3]
        rows = zip(sequence_T.tolist(), positions_T.tolist(), strict=True)
        for row, (sequence, position) in enumerate(rows):
            blocks = block_tables_SB[sequence, : position // block_tokens + 1].long()
            # [2, blocks, G, tokens, D] -> [2, G, positions, D]
            kv = kv_layer[:, blocks].transpose(1, 2).flatten(2, 3)[:, :, : position + 1]
            out_THD[row] = _attend(q_THD[row], kv[0], kv[1], scale)
        return out_THD

    def silu_mul(self, gate_up_T2F: Tensor) -> Tensor:
        gate_TF, up_TF = gate_up_T2F.chunk(2, dim=-1)
        return functional.silu(gate_TF) * up_TF


def _rotate(x_THD: Tensor, cos: Tensor, sin: Tensor) -> None:
    half = x_THD.shape[-1] // 2
    low, high = x_THD[..., :half].clone(), x_THD[..., half:].clone()
    x_THD[..., :half] = low * cos - high * sin
    x_THD[..., half:] = high * cos + low * sin


def _attend(q_HD: Tensor, k_GPD: Tensor, v_GPD: Tensor, scale: float) -> Tensor:
    heads, head_size = q_HD.shape
    q = q_HD.reshape(k_GPD.shape[0], -1, head_size)
    weights = torch.softmax(q @ k_GPD.transpose(1, 2) * scale, dim=-1)
    return (weights @ v_GPD).reshape(heads, head_size)
