"""Our forward pass is transformers': Shows 3."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from splitweave.workers.live.engine import TorchEngine
from splitweave.workers.models.gguf_source import GgufSource
from splitweave.workers.models.tokenizer import Tokenizer, load_tokenizer

# Sums of thousands of float32 products in another order: SmolLM2's differ by some 1e-4.
TOLERANCE = 2e-3
GREEDY_TOKENS = 128
PROMPT_TOKENS_MIN = 300

PROMPTS = {
    "prose": (
        "The history of the lighthouse begins long before electric light. Keepers carried oil up "
        "the stairs each evening, trimmed the wicks, and wrote the weather into a book. "
    ) * 12,
    "code": (
        "def merge(left, right):\n    result = []\n    while left and right:\n        source = "
        "left if left[0] <= right[0] else right\n        result.append(source.pop(0))\n"
        "    return result + left + right\n\n"
    ) * 7,
    "unicode": "Größe: 12,5 µm — 数学は楽しい。Привет, мир! 🙂 naïve café, ñandú; " * 14,
}  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer(smollm_path: Path) -> Tokenizer:
    return load_tokenizer(smollm_path)


@pytest.fixture(scope="module")
def reference(smollm_path: Path) -> torch.nn.Module:
    """transformers' Llama with the same dequantized weights."""
    import transformers

    source = GgufSource(smollm_path)
    spec = source.spec
    config = transformers.LlamaConfig(
        vocab_size=spec.vocab, hidden_size=spec.hidden, intermediate_size=spec.ffn,
        num_hidden_layers=spec.layers, num_attention_heads=spec.heads,
        num_key_value_heads=spec.kv_heads, max_position_embeddings=spec.context_tokens,
        rms_norm_eps=spec.rms_eps, tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": spec.rope_theta},
    )  # fmt: skip
    with torch.device("meta"):
        model = transformers.LlamaForCausalLM(config)
    names = {name for name, _ in model.named_parameters()} | {"lm_head.weight"}
    state = {name: source.find(name) for name in names - {"lm_head.weight"}}
    state["lm_head.weight"] = state["model.embed_tokens.weight"]
    model.load_state_dict(state, assign=True)
    model.model.rotary_emb = type(model.model.rotary_emb)(config)
    return model.eval()


def greedy(model: torch.nn.Module, prompt: Sequence[int], ours: Sequence[int]) -> list[int]:
    """What the model draws greedily after the prompt and each of our tokens before.

    By induction ours are its own greedy tokens if these are equal; one pass instead of many.
    """
    with torch.inference_mode():
        logits = model(torch.tensor([[*prompt, *ours[:-1]]])).logits[0]
    return logits[len(prompt) - 1 :].argmax(-1).tolist()


@pytest.mark.parametrize("name", PROMPTS)
def test_smollm_logits_are_transformers_logits(
    name: str,
    smollm: TorchEngine,
    tokenizer: Tokenizer,
    reference: torch.nn.Module,
    all_logits: Callable[..., torch.Tensor],
) -> None:
    prompt = tokenizer.encode(PROMPTS[name])
    assert len(prompt) >= PROMPT_TOKENS_MIN
    ours = all_logits(smollm, prompt, range(60))
    with torch.inference_mode():
        theirs = reference(torch.tensor([prompt])).logits[0]
    assert (ours - theirs).abs().max().item() <= TOLERANCE


@pytest.mark.parametrize("name", PROMPTS)
def test_smollm_greedy_tokens_are_transformers_tokens(
    name: str,
    smollm: TorchEngine,
    tokenizer: Tokenizer,
    reference: torch.nn.Module,
    generate: Callable[..., list[int]],
) -> None:
    prompt = tokenizer.encode(PROMPTS[name])
    ours = generate(smollm, prompt, GREEDY_TOKENS, range(60))
    assert len(ours) == GREEDY_TOKENS
    assert ours == greedy(reference, prompt, ours)


def test_every_family_agrees_with_transformers(
    tiny: tuple[Path, TorchEngine],
    all_logits: Callable[..., torch.Tensor],
    generate: Callable[..., list[int]],
) -> None:
    import transformers

    folder, engine = tiny
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    numbers = torch.Generator().manual_seed(1)
    for _ in range(3):
        prompt = torch.randint(3, 257, (310,), generator=numbers).tolist()
        with torch.inference_mode():
            theirs = model(torch.tensor([prompt])).logits[0]
        assert (all_logits(engine, prompt, range(30)) - theirs).abs().max().item() <= TOLERANCE
        ours = generate(engine, prompt, GREEDY_TOKENS, range(30))
        assert len(ours) == GREEDY_TOKENS
        assert ours == greedy(model, prompt, ours)
