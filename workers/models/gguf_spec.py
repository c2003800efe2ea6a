"""A ModelSpec from GGUF metadata. Keys: ggml's docs/gguf.md."""

import math

from .errors import UnsupportedModel
from .gguf_file import GgufFile
from .spec import Family, ModelSpec, RopeKind, RopeScaling, refuse_architecture

# Mistral's GGUF files call themselves llama.
FAMILIES = {"llama": Family.LLAMA, "qwen2": Family.QWEN2, "qwen3": Family.QWEN3}
ROPE_FREQS = "rope_freqs.weight"
# Tokens that end an answer; not every model has all of them.
_ENDS = ("eos_token_id", "eot_token_id", "eom_token_id")


def spec_of_gguf(file: GgufFile) -> ModelSpec:
    """Raises UnsupportedModel for architectures and options that are not ours."""
    name = file.need("general.architecture", str)
    family = FAMILIES.get(name)
    if family is None:
        raise refuse_architecture(name, file.path)
    if file.get(f"{name}.expert_count", int):
        raise UnsupportedModel(f"{file.path}: {name}.expert_count > 0: experts are not supported")
    hidden = file.need(f"{name}.embedding_length", int)
    heads = file.need(f"{name}.attention.head_count", int)
    head_dim = file.get(f"{name}.attention.key_length", int) or hidden // heads
    _check_rotary(file, name, head_dim)
    scaling = _scaling(file, name)
    return ModelSpec(
        family=family,
        layers=file.need(f"{name}.block_count", int),
        hidden=hidden,
        heads=heads,
        kv_heads=file.get(f"{name}.attention.head_count_kv", int) or heads,
        head_dim=head_dim,
        ffn=file.need(f"{name}.feed_forward_length", int),
        vocab=_vocab(file, name),
        context_tokens=_context(file, name),
        rms_eps=file.need(f"{name}.attention.layer_norm_rms_epsilon", float),
        rope_theta=file.get(f"{name}.rope.freq_base", float) or 10_000.0,
        rope_scaling=scaling,
        tied_embeddings="output.weight" not in file.tensors,
        attention_bias="blk.0.attn_q.bias" in file.tensors,
        output_bias="blk.0.attn_output.bias" in file.tensors,
        ffn_bias="blk.0.ffn_down.bias" in file.tensors,
        qk_norm="blk.0.attn_q_norm.weight" in file.tensors,
        bos_token_id=file.get("tokenizer.ggml.bos_token_id", int),
        eos_token_ids=end_tokens(file),
    )


def end_tokens(file: GgufFile) -> tuple[int, ...]:
    """Ids that end an answer, ascending."""
    found = (file.get(f"tokenizer.ggml.{key}", int) for key in _ENDS)
    return tuple(sorted({token for token in found if token is not None}))


def _vocab(file: GgufFile, name: str) -> int:
    """Rows of the embedding: it may be padded beyond the list of tokens."""
    embedding = file.tensors.get("token_embd.weight")
    if embedding is not None:
        return embedding.shape[0]
    return file.need(f"{name}.vocab_size", int)


def _context(file: GgufFile, name: str) -> int:
    trained = file.need(f"{name}.context_length", int)
    window = file.get(f"{name}.attention.sliding_window", int)
    return min(trained, window) if window else trained


def _check_rotary(file: GgufFile, name: str, head_dim: int) -> None:
    rotated = file.get(f"{name}.rope.dimension_count", int)
    if rotated is not None and rotated != head_dim:
        raise UnsupportedModel(
            f"{file.path}: {name}.rope.dimension_count ({rotated}) is not the head size "
            f"({head_dim}): partial rotation is not supported"
        )
    value = file.get(f"{name}.attention.value_length", int)
    if value is not None and value != head_dim:
        raise UnsupportedModel(
            f"{file.path}: {name}.attention.value_length ({value}) is not the key length "
            f"({head_dim})"
        )


def _scaling(file: GgufFile, name: str) -> RopeScaling:
    prefix = f"{name}.rope.scaling"
    kind = file.get(f"{prefix}.type", str) or "none"
    factor = file.get(f"{prefix}.factor", float) or file.get(f"{name}.rope.scale_linear", float)
    original = file.get(f"{prefix}.original_context_length", int)
    if ROPE_FREQS in file.tensors:
        return RopeScaling(kind=RopeKind.FACTORS)
    match kind:
        case "none" | "linear":
            if not factor or factor == 1.0:
                return RopeScaling()
            return RopeScaling(kind=RopeKind.LINEAR, factor=factor)
        case "yarn":
            factor = factor or 1.0
            return RopeScaling(
                kind=RopeKind.YARN,
                factor=factor,
                original_context_tokens=original or file.need(f"{name}.context_length", int),
                beta_fast=file.get(f"{prefix}.yarn_beta_fast", float) or 32.0,
                beta_slow=file.get(f"{prefix}.yarn_beta_slow", float) or 1.0,
                attention_factor=_yarn_attention(file, prefix, factor),
            )
        case other:
            raise UnsupportedModel(
                f"{file.path}: {prefix}.type {other!r} is not supported; one of: none, linear, yarn"
            )


def _yarn_attention(file: GgufFile, prefix: str, factor: float) -> float:
    """llama.cpp: attn_factor * (1 + 0.1 ln(factor)), the second from yarn itself."""
    given = file.get(f"{prefix}.attn_factor", float) or 1.0
    return given * (1.0 + 0.1 * math.log(factor)) if factor > 1.0 else given
