"""A config.json becomes a decoder: parameters as on the model cards, refusals by name."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from splitweave.sim.costs.config_json import read_decoder
from splitweave.sim.costs.decoder import Decoder
from splitweave.sim.costs.errors import CostError

LLAMA_8B = {
    "model_type": "llama", "num_hidden_layers": 32, "hidden_size": 4096, "vocab_size": 128256,
    "num_attention_heads": 32, "num_key_value_heads": 8, "intermediate_size": 14336,
    "torch_dtype": "bfloat16", "tie_word_embeddings": False,
}  # fmt: skip
LLAMA_70B = LLAMA_8B | {
    "num_hidden_layers": 80, "hidden_size": 8192, "num_attention_heads": 64,
    "intermediate_size": 28672,
}  # fmt: skip
SMOLLM2 = {
    "model_type": "llama", "num_hidden_layers": 30, "hidden_size": 576, "vocab_size": 49152,
    "num_attention_heads": 9, "num_key_value_heads": 3, "intermediate_size": 1536,
    "torch_dtype": "bfloat16", "tie_word_embeddings": True,
}  # fmt: skip
QWEN25_7B = {
    "model_type": "qwen2", "num_hidden_layers": 28, "hidden_size": 3584, "vocab_size": 152064,
    "num_attention_heads": 28, "num_key_value_heads": 4, "intermediate_size": 18944,
}  # fmt: skip
QWEN3_32B = {
    "model_type": "qwen3", "num_hidden_layers": 64, "hidden_size": 5120, "vocab_size": 151936,
    "num_attention_heads": 64, "num_key_value_heads": 8, "intermediate_size": 25600,
    "head_dim": 128,
}  # fmt: skip
MIXTRAL = {
    "model_type": "mixtral", "num_hidden_layers": 32, "hidden_size": 4096, "vocab_size": 32000,
    "num_attention_heads": 32, "num_key_value_heads": 8, "intermediate_size": 14336,
    "num_local_experts": 8, "num_experts_per_tok": 2,
}  # fmt: skip
QWEN3_235B = {
    "model_type": "qwen3_moe", "num_hidden_layers": 94, "hidden_size": 4096, "vocab_size": 151936,
    "num_attention_heads": 64, "num_key_value_heads": 4, "intermediate_size": 12288,
    "head_dim": 128, "num_experts": 128, "num_experts_per_tok": 8, "moe_intermediate_size": 1536,
    "decoder_sparse_step": 1, "mlp_only_layers": [],
}  # fmt: skip


def decoder(tmp_path: Path, config: dict[str, Any]) -> Decoder:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config))
    return read_decoder(path)


@pytest.mark.parametrize(
    ("config", "parameters"),
    [
        (LLAMA_8B, 8_030_261_248),
        (LLAMA_70B, 70_553_706_496),
        (SMOLLM2, 134_515_008),
        (QWEN25_7B, 7_615_616_512),
        (QWEN3_32B, 32_762_123_264),
        (MIXTRAL, 46_702_792_704),
        (QWEN3_235B, 235_093_634_560),
    ],
    ids=["llama-8b", "llama-70b", "smollm2", "qwen2.5-7b", "qwen3-32b", "mixtral", "qwen3-235b"],
)
def test_parameters_are_those_of_the_published_weights(
    tmp_path: Path, config: dict[str, Any], parameters: int
) -> None:
    assert decoder(tmp_path, config).parameters == parameters


def test_a_token_meets_only_its_experts(tmp_path: Path) -> None:
    active = decoder(tmp_path, QWEN3_235B).active_parameters
    assert active == pytest.approx(22e9, rel=0.02)  # "A22B"
    assert decoder(tmp_path, MIXTRAL).active_parameters == pytest.approx(12.9e9, rel=0.01)
    dense = decoder(tmp_path, LLAMA_8B)
    assert dense.active_parameters == dense.parameters


def test_kv_bytes_count_kv_heads_only(tmp_path: Path) -> None:
    assert decoder(tmp_path, LLAMA_8B).kv_token_bytes == 2 * 32 * 8 * 128 * 2
    assert decoder(tmp_path, LLAMA_70B).kv_token_bytes == 327_680
    assert decoder(tmp_path, LLAMA_8B | {"torch_dtype": "float32"}).kv_token_bytes == 262_144


def test_flops_of_a_token_are_twice_the_weights_it_meets(tmp_path: Path) -> None:
    model = decoder(tmp_path, LLAMA_8B)
    embeddings_and_norms = 128256 * 4096 + 65 * 4096
    assert model.flops_per_token() == 2 * (model.parameters - embeddings_and_norms)
    assert model.flops_per_token(draws=False) == 2 * model.linear_parameters
    attention = model.flops_per_token(1000) - model.flops_per_token()
    assert attention == 1000 * 4 * 32 * 128 * 32


def test_a_quantized_model_has_narrow_layers_and_wide_embeddings(tmp_path: Path) -> None:
    narrow = decoder(tmp_path, LLAMA_8B | {"quantization_config": {"quant_method": "fp8"}})
    assert (narrow.linear_bytes, narrow.other_bytes, narrow.kv_bytes) == (1.0, 2.0, 2.0)
    four = decoder(tmp_path, LLAMA_8B | {"quantization_config": {"quant_method": "awq", "bits": 4}})
    assert four.linear_bytes == 0.5
    assert four.weight_bytes < narrow.weight_bytes < decoder(tmp_path, LLAMA_8B).weight_bytes


def test_what_lies_in_text_config_is_read_from_there(tmp_path: Path) -> None:
    inner = decoder(tmp_path, {"model_type": "outer", "text_config": LLAMA_8B})
    assert inner == decoder(tmp_path, LLAMA_8B)


def test_a_folder_stands_for_its_config_json(tmp_path: Path) -> None:
    assert decoder(tmp_path, SMOLLM2) == read_decoder(tmp_path)


def test_dense_layers_before_the_experts_are_counted(tmp_path: Path) -> None:
    mixed = {
        **QWEN3_235B, "first_k_dense_replace": 3, "n_shared_experts": 1, "model_type": "other",
    }  # fmt: skip
    model = decoder(tmp_path, mixed)
    assert (model.moe_layers, model.shared_ffn) == (91, 1536)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kv_lora_rank": 512}, "kv_lora_rank: multi-head latent attention"),
        ({"state_size": 16}, "state_size: state-space layers"),
        ({"hidden_size": None}, "missing key hidden_size"),
        ({"hidden_size": "big"}, "hidden_size: a whole number >= 0 (got 'big')"),
        ({"num_hidden_layers": -1}, "num_hidden_layers: a whole number >= 0 (got -1)"),
        ({"num_hidden_layers": True}, "num_hidden_layers: a whole number >= 0 (got True)"),
        ({"tie_word_embeddings": 1}, "tie_word_embeddings: true or false (got 1)"),
        ({"torch_dtype": "int3"}, "torch_dtype: 'int3' (known: float32"),
        ({"quantization_config": {"quant_method": "odd"}}, "quant_method 'odd' (known: fp8"),
        ({"num_experts": 8}, "missing key num_experts_per_tok"),
        ({"num_experts": 8, "num_experts_per_tok": 2, "decoder_sparse_step": 2}, "sparse_step"),
        ({"text_config": 3}, "text_config: not a JSON object"),
    ],
)
def test_what_is_missing_wrong_or_not_described_is_refused_by_name(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(CostError) as caught:
        decoder(tmp_path, LLAMA_8B | change)
    assert message in str(caught.value)
    assert "config.json" in str(caught.value)


@pytest.mark.parametrize(("text", "message"), [("{", "not JSON"), ("[1]", "not a JSON object")])
def test_a_file_that_is_no_config_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(CostError, match=message):
        read_decoder(tmp_path)
    with pytest.raises(CostError, match="No such file"):
        read_decoder(tmp_path / "nowhere.json")


def _experts(experts: int, per_token: int) -> Decoder:
    return Decoder(
        layers=1, hidden=8, heads=2, kv_heads=1, head_dim=4, ffn=8, vocab=16, experts=experts,
        experts_per_token=per_token, expert_ffn=8,
    )  # fmt: skip


@given(st.integers(2, 256), st.data())
@settings(deadline=None)
def test_more_tokens_meet_more_experts_up_to_all(experts: int, data: st.DataObject) -> None:
    model = _experts(experts, data.draw(st.integers(1, experts)))
    assert model.active_experts(1) == pytest.approx(model.experts_per_token)
    counts = [model.active_experts(tokens) for tokens in (1, 2, 8, 64, 4096)]
    assert counts == sorted(counts)
    assert counts[-1] <= experts


def test_a_dense_decoder_has_no_active_experts() -> None:
    assert _experts(0, 0).active_experts(10) == 0
    assert _experts(0, 0).moe_layers == 0
