"""A decoder by its dimensions: parameters, bytes, KV per token, FLOPs per token.

One layer, dense or with experts; `linear` are the matrices that every token meets:

    norm ─ q k v ─ attention ─ o ─ norm ─ [router ─ k of E experts (+ shared)] | gated MLP
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoder:
    """Dimensions. `ffn`: width of a gated (three-matrix) MLP, of the dense layers.

    With `experts` > 0 all layers but the first `dense_layers` have experts of width
    `expert_ffn`, of which a token meets `experts_per_token`, beside a shared one of
    width `shared_ffn`. `linear_bytes`: of one weight of a layer's matrices;
    embeddings, head and norms have `other_bytes`; `kv_bytes` of one key or value element.
    """

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int
    vocab: int
    experts: int = 0
    experts_per_token: int = 0
    expert_ffn: int = 0
    shared_ffn: int = 0
    dense_layers: int = 0
    tied: bool = False
    qkv_bias: bool = False
    qk_norm: bool = False
    linear_bytes: float = 2.0
    other_bytes: float = 2.0
    kv_bytes: float = 2.0

    @property
    def moe_layers(self) -> int:
        """Layers with experts."""
        return self.layers - self.dense_layers if self.experts else 0

    @property
    def attention_weights(self) -> int:
        """Weights of q, k, v and o in one layer."""
        return self.hidden * self.head_dim * 2 * (self.heads + self.kv_heads)

    @property
    def mlp_weights(self) -> int:
        """Weights of a dense layer's MLP."""
        return 3 * self.hidden * self.ffn

    @property
    def expert_weights(self) -> int:
        """Weights of one expert."""
        return 3 * self.hidden * self.expert_ffn

    @property
    def routed_weights(self) -> int:
        """Weights that every token meets in a layer with experts, the experts aside."""
        shared = 3 * self.hidden * self.shared_ffn + (self.hidden if self.shared_ffn else 0)
        return self.hidden * self.experts + shared

    @property
    def head_weights(self) -> int:
        """Weights of the head (the embedding's own, where they are tied)."""
        return self.hidden * self.vocab

    @property
    def linear_parameters(self) -> int:
        """Weights of all layers' matrices."""
        dense = (self.layers - self.moe_layers) * self.mlp_weights
        experts = self.moe_layers * (self.experts * self.expert_weights + self.routed_weights)
        return self.layers * self.attention_weights + dense + experts

    @property
    def parameters(self) -> int:
        """All parameters: what a model card calls its size."""
        norms = 2 * self.hidden + (2 * self.head_dim if self.qk_norm else 0)
        biases = (self.heads + 2 * self.kv_heads) * self.head_dim if self.qkv_bias else 0
        embeddings = self.head_weights * (1 if self.tied else 2)
        return self.linear_parameters + self.layers * (norms + biases) + self.hidden + embeddings

    @property
    def active_parameters(self) -> int:
        """Parameters that one token meets, the embedding's other rows included."""
        idle = self.experts - self.experts_per_token
        return self.parameters - self.moe_layers * idle * self.expert_weights

    @property
    def weight_bytes(self) -> float:
        """Bytes of all parameters."""
        linear = self.linear_parameters
        return linear * self.linear_bytes + (self.parameters - linear) * self.other_bytes

    @property
    def kv_token_bytes(self) -> float:
        """Bytes of one token's keys and values, all layers."""
        return 2 * self.layers * self.kv_heads * self.head_dim * self.kv_bytes

    def flops_per_token(self, context: float = 0.0, *, draws: bool = True) -> float:
        """Multiply-adds x 2 of one token that attends to `context` tokens."""
        active = self.experts_per_token * self.expert_weights + self.routed_weights
        mlp = (self.layers - self.moe_layers) * self.mlp_weights + self.moe_layers * active
        head = self.head_weights if draws else 0
        attention = 4 * self.heads * self.head_dim * self.layers * context
        return 2.0 * (self.layers * self.attention_weights + mlp + head) + attention

    def active_experts(self, tokens: float) -> float:
        """Expected experts that at least one of `tokens` tokens meets, routing uniform.

        E (1 - (1 - k/E)^n): each token leaves out a given expert with 1 - k/E.
        """
        if not self.experts:
            return 0.0
        missed = float((1 - self.experts_per_token / self.experts) ** tokens)
        return self.experts * (1 - missed)
