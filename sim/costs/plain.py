"""The two plain models: so many ns per token, and a device by two peaks.

`Roofline` adds up what a GPU must do: matrix products at the arithmetic or the
weight-reading limit, whichever is slower; prefill attention at the arithmetic
limit; decode attention at the speed of reading KV; and the host's own time.
The parts run one after the other, so a mixed iteration costs more than either
of its halves. Pure roofline is optimistic: the efficiencies say by how much.
"""

from dataclasses import dataclass

from ...proto.batch import Batch
from ..clock import NS_PER_S
from .work import Work, work_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Affine:
    """iteration_base_ns + tokens x token_ns: for tests, and what the router assumes."""

    iteration_base_ns: int
    token_ns: int

    def iteration_ns(self, batch: Batch) -> int:
        return self.iteration_base_ns + batch.tokens * self.token_ns

    def work_ns(self, work: Work) -> int:
        return self.iteration_base_ns + work.tokens * self.token_ns

    def describe(self) -> tuple[str, ...]:
        base_us, token_us = self.iteration_base_ns / 1e3, self.token_ns / 1e3
        return (f"affine: {base_us:g} us + {token_us:g} us per token, as given",)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelShape:
    """A decoder's dimensions. `ffn` is the width of a gated (three-matrix) MLP."""

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int
    vocab: int
    dtype_bytes: int = 2

    @property
    def layer_weights(self) -> int:
        """Weights of one layer: q, k, v, o and the MLP."""
        attention = self.hidden * self.head_dim * (2 * self.heads + 2 * self.kv_heads)
        return attention + 3 * self.hidden * self.ffn

    @property
    def kv_token_bytes(self) -> int:
        """Bytes of one token's keys and values, all layers."""
        return 2 * self.layers * self.kv_heads * self.head_dim * self.dtype_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """One worker's device(s). Efficiencies are the reached share of the peak."""

    flops_per_s: float
    bytes_per_s: float
    flops_efficiency: float = 0.6
    bytes_efficiency: float = 0.8
    overhead_ns: int = 1_000_000  # host time per iteration


class Roofline:
    """Iteration time of a `ModelShape` on `Hardware`."""

    def __init__(self, shape: ModelShape, hardware: Hardware) -> None:
        flops = hardware.flops_per_s * hardware.flops_efficiency
        bytes_ = hardware.bytes_per_s * hardware.bytes_efficiency
        weights = shape.layers * shape.layer_weights
        head = shape.hidden * shape.vocab
        self._hardware = hardware
        self._overhead_ns = hardware.overhead_ns
        self._token_ns = 2 * weights * NS_PER_S / flops
        self._draw_ns = 2 * head * NS_PER_S / flops
        self._weights_ns = (weights + head) * shape.dtype_bytes * NS_PER_S / bytes_
        # q·k and p·v: two multiply-adds per (query, key) pair, head dimension and layer.
        self._pair_ns = 4 * shape.heads * shape.head_dim * shape.layers * NS_PER_S / flops
        self._kv_ns = shape.kv_token_bytes * NS_PER_S / bytes_

    def iteration_ns(self, batch: Batch) -> int:
        return self.work_ns(work_of(batch))

    def work_ns(self, work: Work) -> int:
        """Nanoseconds of one iteration of that work."""
        gemm_ns = work.tokens * self._token_ns + work.draws * self._draw_ns
        attention_ns = work.pairs * self._pair_ns + work.decode_keys * self._kv_ns
        return int(max(gemm_ns, self._weights_ns) + attention_ns) + self._overhead_ns

    def describe(self) -> tuple[str, ...]:
        given = self._hardware
        peaks = f"{given.flops_per_s / 1e12:g} TFLOP/s x {given.flops_efficiency:g}, "
        peaks += f"{given.bytes_per_s / 1e9:g} GB/s x {given.bytes_efficiency:g}"
        host_us = given.overhead_ns / 1e3
        return (f"roofline: {peaks}, host {host_us:g} us per iteration; as given, not measured",)
