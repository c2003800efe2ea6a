"""What a model is: the numbers that decide its forward pass. No torch here."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from .errors import ModelError, UnsupportedModel


class Family(StrEnum):
    """The decoder families this package computes."""

    LLAMA = "llama"
    MISTRAL = "mistral"
    QWEN2 = "qwen2"
    QWEN3 = "qwen3"


class RopeKind(StrEnum):
    """How rotary frequencies are stretched beyond the trained context."""

    NONE = "none"
    LINEAR = "linear"
    LLAMA3 = "llama3"
    YARN = "yarn"
    FACTORS = "factors"  # one divisor per frequency, given as the tensor rope_freqs (GGUF)


@dataclass(frozen=True, slots=True, kw_only=True)
class RopeScaling:
    """Parameters of the kinds; those that a kind does not use keep their defaults.

    `original_context_tokens` is the context of the first training;
    `attention_factor` multiplies cos and sin (yarn), None: 0.1 ln(factor) + 1.
    """

    kind: RopeKind = RopeKind.NONE
    factor: float = 1.0
    original_context_tokens: int = 0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    attention_factor: float | None = None
    truncate: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """One decoder-only model. Sizes are in elements, contexts in tokens.

    `context_tokens` is the longest sequence computed exactly: the trained
    context, or a sliding window where that is shorter (up to the window's
    length, windowed attention is full attention).
    """

    family: Family
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int
    vocab: int
    context_tokens: int
    rms_eps: float
    rope_theta: float
    rope_scaling: RopeScaling = RopeScaling()
    tied_embeddings: bool = False
    attention_bias: bool = False
    output_bias: bool = False
    ffn_bias: bool = False
    qk_norm: bool = False
    bos_token_id: int | None = None
    eos_token_ids: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for key in ("layers", "hidden", "heads", "kv_heads", "head_dim", "ffn", "vocab"):
            if getattr(self, key) < 1:
                raise ModelError(f"{key} ({getattr(self, key)}) is below 1")
        if self.context_tokens < 1:
            raise ModelError(f"context_tokens ({self.context_tokens}) is below 1")
        if self.heads % self.kv_heads:
            raise ModelError(f"heads ({self.heads}) is not a multiple of kv_heads {self.kv_heads}")
        if self.head_dim % 2:
            raise UnsupportedModel(f"head_dim ({self.head_dim}) is odd; rotary pairs need it even")

    @property
    def query_columns(self) -> int:
        return self.heads * self.head_dim

    @property
    def kv_columns(self) -> int:
        return self.kv_heads * self.head_dim


def refuse_architecture(name: str, where: Path) -> UnsupportedModel:
    """The error for an architecture that is none of ours."""
    supported = ", ".join(family.value for family in Family)
    return UnsupportedModel(f"{where}: architecture {name!r} is not supported; one of: {supported}")
