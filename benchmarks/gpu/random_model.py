"""A model of SmolLM2-135M's shape with random weights, where no model can be had."""

import json
import tempfile
from pathlib import Path

import torch

LAYERS, HIDDEN, HEADS, KV_HEADS, FFN, VOCAB = 30, 576, 9, 3, 1536, 49152
CONTEXT_TOKENS = 2048


def write_random_model(layers: int = LAYERS, vocab: int = VOCAB) -> Path:
    """A Hugging Face folder; the same bits every time."""
    from safetensors.torch import save_file

    folder = Path(tempfile.mkdtemp(prefix="splitweave-model-")) / "random-SmolLM2-135M"
    folder.mkdir()
    config = {
        "architectures": ["LlamaForCausalLM"], "hidden_size": HIDDEN, "intermediate_size": FFN,
        "num_hidden_layers": layers, "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS, "vocab_size": vocab,
        "max_position_embeddings": CONTEXT_TOKENS, "rms_norm_eps": 1e-5, "hidden_act": "silu",
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    generator = torch.Generator().manual_seed(1)
    tensors = {
        f"{name}.weight": torch.randn(shape, generator=generator) * (2 / shape[1] ** 0.5)
        for name, shape in _linears(layers, vocab).items()
    }
    tensors |= {f"{name}.weight": torch.ones(HIDDEN) for name in _norms(layers)}
    save_file(tensors, folder / "model.safetensors")
    return folder


def _linears(layers: int, vocab: int) -> dict[str, tuple[int, int]]:
    kv = KV_HEADS * HIDDEN // HEADS
    shapes = {"model.embed_tokens": (vocab, HIDDEN), "lm_head": (vocab, HIDDEN)}
    for layer in range(layers):
        at = f"model.layers.{layer}"
        shapes |= {
            f"{at}.self_attn.q_proj": (HIDDEN, HIDDEN),
            f"{at}.self_attn.k_proj": (kv, HIDDEN),
            f"{at}.self_attn.v_proj": (kv, HIDDEN),
            f"{at}.self_attn.o_proj": (HIDDEN, HIDDEN),
            f"{at}.mlp.gate_proj": (FFN, HIDDEN),
            f"{at}.mlp.up_proj": (FFN, HIDDEN),
            f"{at}.mlp.down_proj": (HIDDEN, FFN),
        }
    return shapes


def _norms(layers: int) -> list[str]:
    names = ("input_layernorm", "post_attention_layernorm")
    each = [f"model.layers.{layer}.{name}" for layer in range(layers) for name in names]
    return ["model.norm", *each]
