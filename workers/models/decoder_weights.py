"""A decoder's weights as its forward pass wants them, and their way there.

q, k and v are one linear, gate and up another: one pass over the activations
each. Linears are packed for the kernels; everything else stays as it is.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ...kernels.seam import Kernels, PackedWeight
from .spec import ModelSpec, RopeKind
from .tensor_source import TensorSource, need

# A stored weight: a plain tensor, or a linear in its packed form.
Weight = Tensor | PackedWeight


@dataclass(frozen=True, kw_only=True)
class LayerWeights:
    """One decoder layer. C hidden, D head size, F feed-forward size."""

    attention_norm: Tensor
    qkv: PackedWeight
    qkv_bias: Tensor | None
    q_norm: Tensor | None
    k_norm: Tensor | None
    output: PackedWeight
    output_bias: Tensor | None
    ffn_norm: Tensor
    gate_up: PackedWeight
    gate_up_bias: Tensor | None
    down: PackedWeight
    down_bias: Tensor | None


@dataclass(frozen=True, kw_only=True)
class DecoderWeights:
    """A whole decoder. `head` is packed even where it is tied to the embedding."""

    embedding: Tensor
    layers: tuple[LayerWeights, ...]
    final_norm: Tensor
    head: PackedWeight
    rope_factors: Tensor | None


def assemble(source: TensorSource, kernels: Kernels) -> Iterator[tuple[str, Weight]]:
    """Every weight by its name in `bind`, in file order, one at a time.

    Raises ModelFileError if a tensor is missing or has another shape.
    """
    spec = source.spec
    embedding_VC = need(source, "model.embed_tokens.weight", (spec.vocab, spec.hidden))
    yield "embedding", embedding_VC
    if spec.tied_embeddings:
        yield "head", kernels.pack(embedding_VC)
    else:
        yield "head", kernels.pack(need(source, "lm_head.weight", (spec.vocab, spec.hidden)))
    yield "final_norm", need(source, "model.norm.weight", (spec.hidden,))
    if spec.rope_scaling.kind is RopeKind.FACTORS:
        yield "rope_factors", need(source, "rope_freqs", (spec.head_dim // 2,))
    for layer in range(spec.layers):
        for name, weight in _assemble_layer(source, kernels, f"model.layers.{layer}."):
            yield f"{layer}.{name}", weight


def _assemble_layer(
    source: TensorSource, kernels: Kernels, prefix: str
) -> Iterator[tuple[str, Weight]]:
    spec = source.spec
    hidden, ffn, queries, kvs = spec.hidden, spec.ffn, spec.query_columns, spec.kv_columns

    def tensor(name: str, *shape: int) -> Tensor:
        return need(source, prefix + name, shape)

    def fused(parts: Mapping[str, int], depth: int) -> Tensor:
        return torch.cat([tensor(f"{name}.weight", rows, depth) for name, rows in parts.items()])

    def biases(parts: Mapping[str, int]) -> Tensor:
        return torch.cat([tensor(f"{name}.bias", rows) for name, rows in parts.items()])

    qkv = {"self_attn.q_proj": queries, "self_attn.k_proj": kvs, "self_attn.v_proj": kvs}
    gate_up = {"mlp.gate_proj": ffn, "mlp.up_proj": ffn}
    yield "attention_norm", tensor("input_layernorm.weight", hidden)
    yield "qkv", kernels.pack(fused(qkv, hidden))
    if spec.attention_bias:
        yield "qkv_bias", biases(qkv)
    if spec.qk_norm:
        yield "q_norm", tensor("self_attn.q_norm.weight", spec.head_dim)
        yield "k_norm", tensor("self_attn.k_norm.weight", spec.head_dim)
    yield "output", kernels.pack(tensor("self_attn.o_proj.weight", hidden, queries))
    if spec.output_bias:
        yield "output_bias", tensor("self_attn.o_proj.bias", hidden)
    yield "ffn_norm", tensor("post_attention_layernorm.weight", hidden)
    yield "gate_up", kernels.pack(fused(gate_up, hidden))
    yield "down", kernels.pack(tensor("mlp.down_proj.weight", hidden, ffn))
    if spec.ffn_bias:
        yield "gate_up_bias", biases(gate_up)
        yield "down_bias", tensor("mlp.down_proj.bias", hidden)


def bind(spec: ModelSpec, weights: Mapping[str, Weight]) -> DecoderWeights:
    """The weights that `assemble` named, in their places."""
    return DecoderWeights(
        embedding=_plain(weights, "embedding"),
        layers=tuple(_bind_layer(weights, f"{layer}.") for layer in range(spec.layers)),
        final_norm=_plain(weights, "final_norm"),
        head=_packed(weights, "head"),
        rope_factors=_optional(weights, "rope_factors"),
    )


def _bind_layer(weights: Mapping[str, Weight], prefix: str) -> LayerWeights:
    return LayerWeights(
        attention_norm=_plain(weights, prefix + "attention_norm"),
        qkv=_packed(weights, prefix + "qkv"),
        qkv_bias=_optional(weights, prefix + "qkv_bias"),
        q_norm=_optional(weights, prefix + "q_norm"),
        k_norm=_optional(weights, prefix + "k_norm"),
        output=_packed(weights, prefix + "output"),
        output_bias=_optional(weights, prefix + "output_bias"),
        ffn_norm=_plain(weights, prefix + "ffn_norm"),
        gate_up=_packed(weights, prefix + "gate_up"),
        gate_up_bias=_optional(weights, prefix + "gate_up_bias"),
        down=_packed(weights, prefix + "down"),
        down_bias=_optional(weights, prefix + "down_bias"),
    )


def move(weight: Weight, device: str) -> Weight:
    """The weight on another device."""
    if isinstance(weight, PackedWeight):
        return PackedWeight(
            data=weight.data.to(device),
            in_features=weight.in_features,
            out_features=weight.out_features,
        )
    return weight.to(device)


def _plain(weights: Mapping[str, Weight], name: str) -> Tensor:
    weight = weights[name]
    assert isinstance(weight, Tensor), name
    return weight


def _optional(weights: Mapping[str, Weight], name: str) -> Tensor | None:
    return _plain(weights, name) if name in weights else None


def _packed(weights: Mapping[str, Weight], name: str) -> PackedWeight:
    weight = weights[name]
    assert isinstance(weight, PackedWeight), name
    return weight
