"""Reads a Hugging Face config.json into a `Decoder`.

Read are the keys that decide what an iteration costs. What changes the cost and is
not described here (latent attention, state-space layers, sliding windows that
would shrink the KV) is refused by name rather than mispriced.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from .decoder import Decoder
from .errors import CostError

T = TypeVar("T", int, bool, str)

DTYPE_BYTES = {"float32": 4.0, "float16": 2.0, "bfloat16": 2.0, "float8_e4m3fn": 1.0}
QUANT_BYTES = {"fp8": 1.0, "modelopt": 1.0, "compressed-tensors": 1.0}
QK_NORM = ("qwen3", "qwen3_moe")
QKV_BIAS = ("qwen2", "qwen2_moe")
NOT_DESCRIBED = {
    "kv_lora_rank": "multi-head latent attention",
    "linear_num_key_heads": "linear attention layers",
    "ssm_cfg": "state-space layers",
    "state_size": "state-space layers",
}
EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts")


def read_decoder(path: Path) -> Decoder:
    """The decoder of `path`, a config.json or a folder with one. Raises CostError."""
    file = path / "config.json" if path.is_dir() else path
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise CostError(f"{file}: {error.strerror}") from None
    except ValueError as error:
        raise CostError(f"{file}: not JSON: {error}") from None
    if not isinstance(config, dict):
        raise CostError(f"{file}: not a JSON object")
    return _decoder(_Keys(str(file), config.get("text_config", config)), config)


class _Keys:
    """Typed access; every refusal names file and key."""

    def __init__(self, origin: str, config: Any) -> None:
        if not isinstance(config, Mapping):
            raise CostError(f"{origin}: text_config: not a JSON object")
        self.origin = origin
        self.config = config

    def get(self, key: str, default: T) -> T:
        value = self.config.get(key)
        if value is None:
            return default
        right = isinstance(value, type(default)) and isinstance(value, bool) == isinstance(
            default, bool
        )
        if not right or (type(default) is int and value < 0):
            wanted = {int: "a whole number >= 0", bool: "true or false", str: "text"}
            raise CostError(f"{self.origin}: {key}: {wanted[type(default)]} (got {value!r})")
        return value  # type: ignore[no-any-return]

    def need(self, key: str) -> int:
        value = self.get(key, 0)
        if value == 0:
            raise CostError(f"{self.origin}: missing key {key}, or it is 0")
        return value


def _decoder(keys: _Keys, outer: Mapping[str, Any]) -> Decoder:
    for key, what in NOT_DESCRIBED.items():
        if keys.config.get(key) is not None:
            raise CostError(f"{keys.origin}: {key}: {what}: no cost model describes it")
    hidden, heads = keys.need("hidden_size"), keys.need("num_attention_heads")
    family = keys.get("model_type", "")
    plain = _plain_bytes(keys, outer)
    return Decoder(
        layers=keys.need("num_hidden_layers"),
        hidden=hidden,
        heads=heads,
        kv_heads=keys.get("num_key_value_heads", heads),
        head_dim=keys.get("head_dim", hidden // heads),
        ffn=keys.need("intermediate_size"),
        vocab=keys.need("vocab_size"),
        tied=keys.get("tie_word_embeddings", outer.get("tie_word_embeddings") is True),
        qkv_bias=keys.get("attention_bias", default=False) or family in QKV_BIAS,
        qk_norm=family in QK_NORM,
        linear_bytes=_linear_bytes(keys, outer, plain),
        other_bytes=plain,
        kv_bytes=plain,
        **_experts(keys),
    )


def _experts(keys: _Keys) -> dict[str, int]:
    experts = next((keys.get(key, 0) for key in EXPERTS if key in keys.config), 0)
    if experts == 0:
        return {}
    if keys.get("decoder_sparse_step", 1) != 1 or keys.config.get("mlp_only_layers"):
        raise CostError(f"{keys.origin}: decoder_sparse_step: only every layer alike is described")
    expert_ffn = keys.get("moe_intermediate_size", keys.need("intermediate_size"))
    shared = keys.get("n_shared_experts", 0) * expert_ffn
    return {
        "experts": experts,
        "experts_per_token": keys.need("num_experts_per_tok"),
        "expert_ffn": expert_ffn,
        "shared_ffn": keys.get("shared_expert_intermediate_size", shared),
        "dense_layers": keys.get("first_k_dense_replace", 0),
    }


def _plain_bytes(keys: _Keys, outer: Mapping[str, Any]) -> float:
    name = keys.config.get("torch_dtype", keys.config.get("dtype")) or outer.get("torch_dtype")
    if name is None:
        return 2.0
    if name not in DTYPE_BYTES:
        raise CostError(f"{keys.origin}: torch_dtype: {name!r} (known: {', '.join(DTYPE_BYTES)})")
    return DTYPE_BYTES[name]


def _linear_bytes(keys: _Keys, outer: Mapping[str, Any], plain: float) -> float:
    given = keys.config.get("quantization_config") or outer.get("quantization_config")
    if not isinstance(given, Mapping):
        return plain
    bits = given.get("bits")
    if isinstance(bits, int) and bits > 0:
        return bits / 8
    method = given.get("quant_method")
    if method not in QUANT_BYTES:
        known = ", ".join(QUANT_BYTES)
        raise CostError(
            f"{keys.origin}: quantization_config: no bits, and quant_method {method!r} "
            f"(known: {known})"
        )
    return QUANT_BYTES[method]
