"""A ModelSpec from a Hugging Face folder's config.json."""

import json
import math
from pathlib import Path
from typing import Any

from .errors import ModelFileError, UnsupportedModel
from .spec import Family, ModelSpec, RopeKind, RopeScaling, refuse_architecture

ARCHITECTURES = {
    "LlamaForCausalLM": Family.LLAMA,
    "MistralForCausalLM": Family.MISTRAL,
    "Qwen2ForCausalLM": Family.QWEN2,
    "Qwen3ForCausalLM": Family.QWEN3,
}
ROPE_THETA = 10_000.0
RMS_EPS = 1e-6
ACTIVATIONS = ("silu", "swish")


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object. Raises ModelFileError naming the file and what is wrong."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelFileError(path, "no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ModelFileError(path, f"cannot be read: {error}") from error
    except json.JSONDecodeError as error:
        raise ModelFileError(path, f"is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise ModelFileError(path, f"holds {type(found).__name__}, not an object")
    return found


def spec_of_folder(folder: Path) -> ModelSpec:
    """Raises UnsupportedModel for architectures and options that are not ours."""
    path = folder / "config.json"
    config = read_json(path)
    family = _family(config, path)
    _check_options(config, path)
    hidden, heads = _int(config, "hidden_size", path), _int(config, "num_attention_heads", path)
    rope = _rope(config, path)
    bias = bool(config.get("attention_bias", False))
    return ModelSpec(
        family=family,
        layers=_int(config, "num_hidden_layers", path),
        hidden=hidden,
        heads=heads,
        kv_heads=config.get("num_key_value_heads") or heads,
        head_dim=config.get("head_dim") or hidden // heads,
        ffn=_int(config, "intermediate_size", path),
        vocab=_int(config, "vocab_size", path),
        context_tokens=_context(config, path),
        rms_eps=float(config.get("rms_norm_eps", RMS_EPS)),
        rope_theta=_theta(config),
        rope_scaling=rope,
        tied_embeddings=bool(config.get("tie_word_embeddings", False)),
        attention_bias=family is Family.QWEN2 or bias,
        output_bias=bias and family in (Family.LLAMA, Family.QWEN3),
        ffn_bias=bool(config.get("mlp_bias", False)) and family is Family.LLAMA,
        qk_norm=family is Family.QWEN3,
        bos_token_id=bos_token(config),
        eos_token_ids=end_tokens_of_folder(folder, config),
    )


def _family(config: dict[str, Any], path: Path) -> Family:
    names = config.get("architectures") or [config.get("model_type") or "(none named)"]
    for name in names:
        if name in ARCHITECTURES:
            return ARCHITECTURES[name]
    raise refuse_architecture(", ".join(map(str, names)), path)


def _check_options(config: dict[str, Any], path: Path) -> None:
    activation = config.get("hidden_act", "silu")
    if activation not in ACTIVATIONS:
        raise UnsupportedModel(f"{path}: hidden_act {activation!r} is not one of {ACTIVATIONS}")
    if config.get("quantization_config"):
        method = config["quantization_config"].get("quant_method", "unnamed")
        raise UnsupportedModel(f"{path}: quantization_config ({method}) is not supported")
    if float(_rope_dict(config).get("partial_rotary_factor", 1.0)) != 1.0:
        raise UnsupportedModel(f"{path}: partial_rotary_factor other than 1 is not supported")


def _int(config: dict[str, Any], key: str, path: Path) -> int:
    value = config.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ModelFileError(path, f"{key} ({value!r}) is not a positive integer")
    return value


def _context(config: dict[str, Any], path: Path) -> int:
    """The trained context, or the sliding window if that is shorter and in use."""
    trained = _int(config, "max_position_embeddings", path)
    window = config.get("sliding_window")
    if not window or config.get("use_sliding_window") is False:
        return trained
    return min(trained, int(window))


def _rope_dict(config: dict[str, Any]) -> dict[str, Any]:
    """transformers 5 writes rope_parameters, before it was rope_scaling."""
    return config.get("rope_parameters") or config.get("rope_scaling") or {}


def _theta(config: dict[str, Any]) -> float:
    return float(_rope_dict(config).get("rope_theta") or config.get("rope_theta") or ROPE_THETA)


def _rope(config: dict[str, Any], path: Path) -> RopeScaling:
    given = _rope_dict(config)
    kind = given.get("rope_type") or given.get("type") or "default"
    trained = _int(config, "max_position_embeddings", path)
    original = int(given.get("original_max_position_embeddings") or trained)
    match kind:
        case "default":
            return RopeScaling()
        case "linear":
            return RopeScaling(kind=RopeKind.LINEAR, factor=_number(given, "factor", path))
        case "llama3":
            return RopeScaling(
                kind=RopeKind.LLAMA3,
                factor=_number(given, "factor", path),
                original_context_tokens=original,
                low_freq_factor=_number(given, "low_freq_factor", path),
                high_freq_factor=_number(given, "high_freq_factor", path),
            )
        case "yarn":
            return _yarn(given, original, trained)
        case other:
            raise UnsupportedModel(
                f"{path}: rope_type {other!r} is not supported; one of: default, linear, "
                "llama3, yarn"
            )


def _number(given: dict[str, Any], key: str, path: Path) -> float:
    value = given.get(key)
    if not isinstance(value, int | float) or value <= 0:
        raise ModelFileError(path, f"rope_parameters.{key} ({value!r}) is not a positive number")
    return float(value)


def _yarn(given: dict[str, Any], original: int, trained: int) -> RopeScaling:
    factor = float(given.get("factor") or trained / original)
    attention = given.get("attention_factor")
    if attention is None:
        attention = _yarn_attention(factor, given.get("mscale"), given.get("mscale_all_dim"))
    return RopeScaling(
        kind=RopeKind.YARN,
        factor=factor,
        original_context_tokens=original,
        beta_fast=float(given.get("beta_fast") or 32.0),
        beta_slow=float(given.get("beta_slow") or 1.0),
        attention_factor=float(attention),
        truncate=bool(given.get("truncate", True)),
    )


def _yarn_attention(factor: float, mscale: float | None, all_dim: float | None) -> float:
    """The factor on cos and sin (arXiv 2309.00071, and DeepSeek's two mscales)."""

    def scale(weight: float) -> float:
        return 0.1 * weight * math.log(factor) + 1.0 if factor > 1.0 else 1.0

    return scale(mscale) / scale(all_dim) if mscale and all_dim else scale(1.0)


def bos_token(config: dict[str, Any]) -> int | None:
    bos = config.get("bos_token_id")
    return bos if isinstance(bos, int) else None


def end_tokens_of_folder(folder: Path, config: dict[str, Any]) -> tuple[int, ...]:
    """Ids that end an answer: config.json's and generation_config.json's."""
    found: set[int] = set()
    sources = [config]
    if (folder / "generation_config.json").is_file():
        sources.append(read_json(folder / "generation_config.json"))
    for source in sources:
        eos = source.get("eos_token_id")
        found.update([eos] if isinstance(eos, int) else eos or [])
    return tuple(sorted(found))
