"""Operators measured on silicon, tabulated: from the package `aiconfigurator-core` (Apache-2.0).

It holds millions of latencies of GEMMs, attention, experts and collectives, measured on A100,
H100, H200, L40S, B200 … under TensorRT-LLM, vLLM and SGLang, and adds them up for a whole
iteration of a model. That is asked once for a grid of iterations and kept as a measured table
(`table.py`), named by all that was asked for; a simulation reads that file only. The engine's
host time is not in it.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Protocol

from .errors import CostError
from .specs import AicSpec
from .table import COLUMNS

PACKAGE = "aiconfigurator-core"
PREFILLS = (16, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)
BEFORE = (0, 1024, 4096, 16384, 65536)
DECODES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
CONTEXTS = (128, 512, 1024, 2048, 4096, 8192, 16384, 65536)
MIXED = ((512, 8), (512, 64), (2048, 8), (2048, 64), (2048, 256), (8192, 64))
Row = tuple[int, int, int, int, float]


class Steps(Protocol):
    """What is asked of an engine of the package; milliseconds."""

    def predict_prefill_latency(self, bs: int, isl: int, prefix: int = 0) -> float: ...

    def decode_step_latency(self, gen_tokens: int, isl: int, osl: int) -> float: ...

    def mixed_step_latency(self, ctx_tokens: int, gen_tokens: int, isl: int, osl: int) -> float: ...


def tabulated(spec: AicSpec) -> Path:
    """The table of `spec`, made now if it does not exist yet. Raises CostError."""
    folder = Path(spec.cache) if spec.cache else Path.home() / ".cache" / "splitweave" / "aic"
    path = folder / f"{_name(spec)}.csv"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        written = path.with_suffix(f".{os.getpid()}")
        written.write_text(_text(spec, rows_of(_steps(spec))))
        written.replace(path)
    return path


def rows_of(steps: Steps) -> list[Row]:
    """The grid. A point that was not measured (too long for the package) is left out."""
    return [*_asked(_prefills(steps)), *_asked(_decodes(steps)), *_asked(_mixed(steps))]


def _prefills(steps: Steps) -> "Iterator[tuple[Sequence[int], Callable[[], float]]]":
    for tokens in PREFILLS:
        for before in BEFORE:
            shape = (tokens, before, 0, 0)
            yield shape, _ask(steps.predict_prefill_latency, 1, tokens + before, before)


def _decodes(steps: Steps) -> "Iterator[tuple[Sequence[int], Callable[[], float]]]":
    for decodes in DECODES:
        for context in CONTEXTS:
            yield (0, 0, decodes, context), _ask(steps.decode_step_latency, decodes, context, 2)


def _mixed(steps: Steps) -> "Iterator[tuple[Sequence[int], Callable[[], float]]]":
    for tokens, decodes in MIXED:
        shape = (tokens, 0, decodes, tokens + 1)
        yield shape, _ask(steps.mixed_step_latency, tokens, decodes, tokens, 2)


def _ask(call: Callable[..., float], *values: int) -> Callable[[], float]:
    return lambda: call(*values)


def _asked(points: "Iterator[tuple[Sequence[int], Callable[[], float]]]") -> Iterator[Row]:
    for shape, ask in points:
        try:
            time_ms = ask()
        except (ValueError, RuntimeError):
            continue
        tokens, before, decodes, context = shape
        yield tokens, before, decodes, context, time_ms * 1e3


def _steps(spec: AicSpec) -> Steps:
    try:
        sdk = import_module("aiconfigurator_core.sdk")
    except ImportError:
        raise CostError(
            f'kind = "aic" needs the package {PACKAGE}: pip install "splitweave[aic]"'
        ) from None
    quantized = {
        "gemm_quant_mode": spec.gemm, "kvcache_quant_mode": spec.kv, "fmha_quant_mode": spec.fmha,
    }  # fmt: skip
    try:
        steps: Steps = sdk.EngineHandle.compile(
            spec.model, spec.system, spec.engine,
            backend_version=spec.version, tp_size=spec.tp,
            moe_tp_size=spec.tp // spec.ep, moe_ep_size=spec.ep,
            **{name: mode for name, mode in quantized.items() if mode},
        )  # fmt: skip
    except (ValueError, RuntimeError, KeyError, OSError) as error:
        raise CostError(f"{PACKAGE}: {spec.model} on {spec.system}: {error}") from None
    return steps


@dataclass(frozen=True)
class _Said:
    """Provenance of a table."""

    spec: AicSpec

    def lines(self) -> Iterator[str]:
        spec = self.spec
        modes = ", ".join(
            f"{name} {mode}"
            for name, mode in (("GEMM", spec.gemm), ("KV", spec.kv), ("attention", spec.fmha))
            if mode
        )
        said = {
            "engine": spec.engine,
            "version": spec.version or "the package's newest",
            "kernel": f"operators of {PACKAGE} {version(PACKAGE)}, added up",
            "device": f"{spec.system}, TP {spec.tp}, EP {spec.ep}",
            "model": f"{spec.model} ({modes or 'as its config says'})",
            "date": "of the package",
        }
        for key, value in said.items():
            yield f"# {key} = {value}"


def _text(spec: AicSpec, rows: Sequence[Row]) -> str:
    if all(row[2] for row in rows) or all(row[0] for row in rows):
        raise CostError(f"{PACKAGE}: nothing was measured for {spec.model} on {spec.system}")
    lines = [*_Said(spec).lines(), ",".join(COLUMNS)]
    lines += [f"{a},{b},{c},{d},{time_us:.3f}" for a, b, c, d, time_us in rows]
    return "\n".join(lines) + "\n"


def _name(spec: AicSpec) -> str:
    asked = (
        spec.model, spec.system, spec.engine, spec.version, spec.tp, spec.ep, spec.gemm, spec.kv,
        spec.fmha, PREFILLS, BEFORE, DECODES, CONTEXTS, MIXED,
    )  # fmt: skip
    digest = sha256(repr(asked).encode()).hexdigest()[:12]
    return f"{spec.model.split('/')[-1]}-{spec.system}-{spec.engine}-tp{spec.tp}-{digest}"
