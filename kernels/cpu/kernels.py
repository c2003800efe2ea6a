"""`CpuKernels`: the exact kernels behind the `Kernels` seam.

This is where tensors become addresses: shapes, types and strides are checked
here, and nothing behind it checks again.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..seam import PackedWeight
from . import attention, matmul, rows
from .emit import LANES
from .tile import PANEL

# numba's simplest thread pool does not take calls from two threads at once.
_POOL_LOCK = threading.Lock()


@contextmanager
def _pool(threads: int) -> Iterator[None]:
    """Hold numba's pool; the thread count is a setting of the calling thread."""
    with _POOL_LOCK:
        numba.set_num_threads(threads)
        yield


class CpuKernels:
    """float32 on CPU; equal rows give equal bits in any company (see `cpu`)."""

    def __init__(self, threads: int | None = None) -> None:
        self._zeros = torch.zeros(0)
        self._threads = 0
        self.set_threads(_threads_max() if threads is None else threads)

    def set_threads(self, threads: int) -> None:
        """How many threads a kernel may use; the results are the same for any."""
        limit = _threads_max()
        if not 1 <= threads <= limit:
            raise ValueError(f"threads ({threads}) is not within 1..{limit} (cores)")
        self._threads = threads

    def pack(self, weight_NK: Tensor) -> PackedWeight:
        """[N, K] to [N / 32][K][32]; missing columns of the last panel are 0."""
        out_features, in_features = weight_NK.shape
        panels = -(-out_features // PANEL)
        padded = torch.zeros(panels * PANEL, in_features)
        padded[:out_features] = weight_NK
        data = padded.view(panels, PANEL, in_features).transpose(1, 2).contiguous()
        if self._zeros.numel() < panels * PANEL:
            self._zeros = torch.zeros(panels * PANEL)
        return PackedWeight(data=data, in_features=in_features, out_features=out_features)

    def linear(self, x_TK: Tensor, packed: PackedWeight, bias_N: Tensor | None = None) -> Tensor:
        count, depth = x_TK.shape
        panels = packed.data.shape[0]
        assert depth == packed.in_features, (depth, packed.in_features)
        _check_rows(x_TK)
        start_N = self._start(packed, bias_N)
        if count == 0:
            return torch.empty(0, packed.out_features)
        y_TN = torch.empty(count, panels * PANEL)
        with _pool(self._threads):
            matmul.linear(
                x_TK.data_ptr(), x_TK.stride(0), packed.data.data_ptr(),
                start_N.data_ptr(), y_TN.data_ptr(), panels * PANEL,
                count, depth, panels, self._threads,
            )  # fmt: skip
        if panels * PANEL == packed.out_features:
            return y_TN
        return y_TN[:, : packed.out_features].contiguous()

    def rms_norm(self, x_TC: Tensor, weight_C: Tensor, eps: float) -> Tensor:
        size = x_TC.shape[-1]
        inner = prod(x_TC.shape[1:-1])
        assert weight_C.shape == (size,), (weight_C.shape, size)
        _check_rows(x_TC)
        _check_size(size)
        y_TC = torch.empty(x_TC.shape)
        with _pool(self._threads):
            rows.norm(
                x_TC.data_ptr(), x_TC.stride(0), _flat(weight_C), y_TC.data_ptr(),
                x_TC.shape[0], inner, size, eps, self._threads,
            )  # fmt: skip
        return y_TC

    def add_rms_norm(
        self, x_TC: Tensor, residual_TC: Tensor, weight_C: Tensor, eps: float
    ) -> Tensor:
        count, size = x_TC.shape
        assert residual_TC.shape == x_TC.shape, (residual_TC.shape, x_TC.shape)
        assert weight_C.shape == (size,), (weight_C.shape, size)
        _check_rows(x_TC)
        _check_size(size)
        y_TC = torch.empty(count, size)
        with _pool(self._threads):
            rows.add_norm(
                x_TC.data_ptr(), x_TC.stride(0), _flat(residual_TC), _flat(weight_C),
                y_TC.data_ptr(), count, size, eps, self._threads,
            )  # fmt: skip
        return y_TC

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
        for x in (q_THD, k_TGD, v_TGD):
            _check_rows(x)
        layer = _layer(q_THD, kv_layer)
        assert k_TGD.shape == v_TGD.shape, (k_TGD.shape, v_TGD.shape)
        assert k_TGD.shape[1:] == (kv_layer.shape[2], kv_layer.shape[4]), k_TGD.shape
        counts = {len(x) for x in (q_THD, k_TGD, positions_T, slots_T)}
        assert len(counts) == 1, f"rows of q, k, positions and slots differ: {counts}"
        rows.rope_store(
            q_THD.data_ptr(), q_THD.stride(0), k_TGD.data_ptr(), k_TGD.stride(0),
            v_TGD.data_ptr(), v_TGD.stride(0), _flat(cos_PD2), _flat(sin_PD2),
            positions_T.numpy(), slots_T.numpy(), layer,
        )  # fmt: skip

    def paged_attention(
        self,
        q_THD: Tensor,
        kv_layer: Tensor,
        block_tables_SB: Tensor,
        sequence_T: Tensor,
        positions_T: Tensor,
        scale: float,
    ) -> Tensor:
        _check_rows(q_THD)
        layer = _layer(q_THD, kv_layer)
        counts = {len(x) for x in (q_THD, sequence_T, positions_T)}
        assert len(counts) == 1, f"rows of q, sequences and positions differ: {counts}"
        out_THD = torch.empty(q_THD.shape)
        with _pool(self._threads):
            attention.attend(
                q_THD.data_ptr(), q_THD.stride(0), out_THD.data_ptr(),
                block_tables_SB.numpy(), sequence_T.numpy(), positions_T.numpy(),
                layer, scale, self._threads,
            )  # fmt: skip
        return out_THD

    def silu_mul(self, gate_up_T2F: Tensor) -> Tensor:
        count, both = gate_up_T2F.shape
        size = both // 2
        assert both == 2 * size, f"gate and up ({both} columns) are of unlike widths"
        _check_rows(gate_up_T2F)
        _check_size(size)
        y_TF = torch.empty(count, size)
        with _pool(self._threads):
            rows.gate(
                gate_up_T2F.data_ptr(), gate_up_T2F.stride(0), y_TF.data_ptr(),
                count, size, self._threads,
            )  # fmt: skip
        return y_TF

    def _start(self, packed: PackedWeight, bias_N: Tensor | None) -> Tensor:
        """Where the chains begin: the bias, padded to whole panels, or zeros."""
        width = packed.data.shape[0] * PANEL
        if bias_N is None:
            if self._zeros.numel() < width:  # packed by another instance
                self._zeros = torch.zeros(width)
            return self._zeros
        assert bias_N.shape == (packed.out_features,), bias_N.shape
        assert bias_N.dtype == torch.float32, bias_N.dtype
        if width == packed.out_features:
            return bias_N.contiguous()
        padded_N = torch.zeros(width)
        padded_N[: packed.out_features] = bias_N
        return padded_N


def _threads_max() -> int:
    """The size of numba's pool: the cores this process may use."""
    return int(vars(numba.config)["NUMBA_NUM_THREADS"])


def _check_rows(x: Tensor) -> None:
    """float32, and dense behind the first dimension."""
    assert x.dtype == torch.float32, x.dtype
    if x.is_contiguous():
        return
    expected = 1
    for size, stride in zip(x.shape[:0:-1], x.stride()[:0:-1], strict=True):
        assert stride == expected, (x.shape, x.stride())
        expected *= size


def _check_size(size: int) -> None:
    assert size % LANES == 0, f"row size ({size}) is not a multiple of {LANES}"


def _flat(x: Tensor) -> int:
    """The address of a dense float32 tensor."""
    assert x.dtype == torch.float32, x.dtype
    assert x.is_contiguous(), (x.shape, x.stride())
    return x.data_ptr()


def _layer(q_THD: Tensor, kv_layer: Tensor) -> NDArray[np.int64]:
    """(address, blocks, H, G, block_tokens, D) of one layer's paged cache."""
    _two, blocks, kv_heads, block_tokens, head_size = kv_layer.shape
    heads = q_THD.shape[1]
    assert q_THD.shape[2] == head_size, (q_THD.shape, head_size)
    assert heads % kv_heads == 0, (heads, kv_heads)
    assert head_size % PANEL == 0, f"head size ({head_size}) is not a multiple of {PANEL}"
    return np.array([_flat(kv_layer), blocks, heads, kv_heads, block_tokens, head_size], np.int64)
