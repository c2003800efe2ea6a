"""A Llama of random weights as a Hugging Face folder: milliseconds to write and to run."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

HIDDEN, HEADS, KV_HEADS, FFN, LAYERS, VOCAB = 64, 2, 1, 96, 6, 307
HEAD_SIZE = HIDDEN // HEADS


def write_tiny_llama(
    folder: Path, seed: int = 0, hidden: int = HIDDEN, ffn: int = FFN, **config: object
) -> Path:
    """The same bits for the same seed; `config` overrides what config.json says."""
    folder.mkdir(parents=True, exist_ok=True)
    known = {
        "architectures": ["LlamaForCausalLM"], "hidden_size": hidden, "intermediate_size": ffn,
        "num_hidden_layers": LAYERS, "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS, "vocab_size": VOCAB, "max_position_embeddings": 512,
        "rms_norm_eps": 1e-5, "hidden_act": "silu",
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps({**known, **config}))
    shapes = {"model.embed_tokens": (VOCAB, hidden), "lm_head": (VOCAB, hidden)}
    for layer in range(LAYERS):
        at = f"model.layers.{layer}"
        shapes |= {
            f"{at}.self_attn.q_proj": (HEADS * HEAD_SIZE, hidden),
            f"{at}.self_attn.k_proj": (KV_HEADS * HEAD_SIZE, hidden),
            f"{at}.self_attn.v_proj": (KV_HEADS * HEAD_SIZE, hidden),
            f"{at}.self_attn.o_proj": (hidden, HEADS * HEAD_SIZE),
            f"{at}.mlp.gate_proj": (ffn, hidden),
            f"{at}.mlp.up_proj": (ffn, hidden),
            f"{at}.mlp.down_proj": (hidden, ffn),
        }
    norms = ["model.norm"]
    norms += [f"model.layers.{i}.input_layernorm" for i in range(LAYERS)]
    norms += [f"model.layers.{i}.post_attention_layernorm" for i in range(LAYERS)]
    random = torch.Generator().manual_seed(seed)
    tensors = {
        f"{name}.weight": torch.randn(shape, generator=random) * 3 / shape[1] ** 0.5
        for name, shape in shapes.items()
    }
    tensors |= {f"{name}.weight": torch.ones(hidden) for name in norms}
    save_file(tensors, folder / "model.safetensors")
    return folder
