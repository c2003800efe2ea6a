"""One decoder forward pass for all families, over a flattened batch.

Every step is row-wise or a kernel whose rows are independent of each other, so
a row's bits do not depend on what it is batched with (on exact kernels).
"""

from collections.abc import Callable

from torch import Tensor

from ...kernels.seam import Kernels
from .decoder_weights import DecoderWeights, LayerWeights
from .rope import rope_tables
from .rows import Rows
from .spec import ModelSpec


class Decoder:
    """A model's forward pass. `positions` bounds the positions it can be asked for."""

    def __init__(
        self, spec: ModelSpec, weights: DecoderWeights, kernels: Kernels, positions: int
    ) -> None:
        self.spec = spec
        self._weights = weights
        self._kernels = kernels
        self._scale = spec.head_dim**-0.5
        device = weights.embedding.device
        cos_PD2, sin_PD2 = rope_tables(spec, positions, _on_cpu(weights.rope_factors))
        self._cos_PD2, self._sin_PD2 = cos_PD2.to(device), sin_PD2.to(device)

    def forward(self, rows: Rows, kv: Tensor, on_layer: Callable[[int], None]) -> Tensor:
        """Logits [R, vocab] of the drawn rows; their batch's keys and values go to `kv`.

        `kv` is [layers, 2, blocks, G, block_tokens, D]. `on_layer(i)` is called
        when layer i of `kv` holds all of this batch.
        """
        kernels, layers = self._kernels, self._weights.layers
        residual_TC = self._weights.embedding[rows.token_ids]
        x_TC = kernels.rms_norm(residual_TC, layers[0].attention_norm, self.spec.rms_eps)
        last = len(layers) - 1
        for index, layer in enumerate(layers):
            q_THD = self._project(layer, x_TC, rows, kv[index])
            on_layer(index)
            if index == last:
                if not len(rows.drawn):
                    return residual_TC.new_empty(0, self.spec.vocab)
                rows, q_THD, residual_TC = _only_drawn(rows, q_THD, residual_TC)
            x_TC = self._attend(layer, q_THD, rows, kv[index])
            x_TC = self._feed_forward(layer, x_TC, residual_TC)
            norm_C = self._weights.final_norm if index == last else layers[index + 1].attention_norm
            x_TC = kernels.add_rms_norm(x_TC, residual_TC, norm_C, self.spec.rms_eps)
        return kernels.linear(x_TC, self._weights.head)

    def _project(self, layer: LayerWeights, x_TC: Tensor, rows: Rows, kv_layer: Tensor) -> Tensor:
        """Queries, rotated; keys and values go to their slots."""
        spec, kernels = self.spec, self._kernels
        qkv_TN = kernels.linear(x_TC, layer.qkv, layer.qkv_bias)
        q_TN, k_TN, v_TN = qkv_TN.split((spec.query_columns, spec.kv_columns, spec.kv_columns), 1)
        q_THD: Tensor = q_TN.unflatten(1, (spec.heads, spec.head_dim))
        k_TGD: Tensor = k_TN.unflatten(1, (spec.kv_heads, spec.head_dim))
        v_TGD: Tensor = v_TN.unflatten(1, (spec.kv_heads, spec.head_dim))
        if layer.q_norm is not None and layer.k_norm is not None:
            q_THD = kernels.rms_norm(q_THD, layer.q_norm, spec.rms_eps)
            k_TGD = kernels.rms_norm(k_TGD, layer.k_norm, spec.rms_eps)
        kernels.rope_store(
            q_THD, k_TGD, v_TGD, self._cos_PD2, self._sin_PD2,
            rows.positions, rows.slots, kv_layer,
        )  # fmt: skip
        return q_THD

    def _attend(self, layer: LayerWeights, q_THD: Tensor, rows: Rows, kv_layer: Tensor) -> Tensor:
        out_THD = self._kernels.paged_attention(
            q_THD, kv_layer, rows.block_tables, rows.sequence, rows.positions, self._scale
        )
        return self._kernels.linear(out_THD.flatten(1), layer.output, layer.output_bias)

    def _feed_forward(self, layer: LayerWeights, x_TC: Tensor, residual_TC: Tensor) -> Tensor:
        """Adds attention's x to the residual; returns what the block adds to it."""
        kernels = self._kernels
        x_TC = kernels.add_rms_norm(x_TC, residual_TC, layer.ffn_norm, self.spec.rms_eps)
        gate_up_T2F = kernels.linear(x_TC, layer.gate_up, layer.gate_up_bias)
        return kernels.linear(kernels.silu_mul(gate_up_T2F), layer.down, layer.down_bias)


def _only_drawn(rows: Rows, q_THD: Tensor, residual_TC: Tensor) -> tuple[Rows, Tensor, Tensor]:
    """After the last layer's keys are stored, only drawn rows have a future."""
    drawn_R = rows.drawn
    if len(drawn_R) == len(residual_TC):
        return rows, q_THD, residual_TC
    kept = Rows(
        token_ids=rows.token_ids[drawn_R],
        positions=rows.positions[drawn_R],
        slots=rows.slots[drawn_R],
        sequence=rows.sequence[drawn_R],
        block_tables=rows.block_tables,
        drawn=drawn_R,
    )
    return kept, q_THD[drawn_R], residual_TC[drawn_R]


def _on_cpu(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.cpu()
