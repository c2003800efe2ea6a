"""Measured (TTFT, TPOT) points of dense models, and what the device roofline says of them.

One set of efficiencies per engine, fitted to half of the groups (model, system, TP, prompt
length), judged on the other half: a held-back point has no like it in the fit. Precision:
as noted; where none is noted the weights are bf16 (their TPOT at TP 2 says so).
"""

import csv
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from math import exp, log
from pathlib import Path
from statistics import median

from splitweave.sim.costs.catalogue import load_catalogue
from splitweave.sim.costs.decoder import Decoder
from splitweave.sim.costs.device import DeviceRoofline
from splitweave.sim.costs.efficiency import Efficiency
from splitweave.sim.costs.memory import derive_blocks
from splitweave.sim.costs.parallel import Parallel

from .closed_loop import ClosedLoop, Latency, Load

QWEN3_32B = Decoder(
    layers=64, hidden=5120, heads=64, kv_heads=8, head_dim=128, ffn=25600, vocab=151936,
    qk_norm=True,
)  # fmt: skip
LLAMA_8B = Decoder(
    layers=32, hidden=4096, heads=32, kv_heads=8, head_dim=128, ffn=14336, vocab=128256
)
MODELS = {"Qwen/Qwen3-32B": QWEN3_32B, "nvidia/Llama-3.1-8B-Instruct-FP8": LLAMA_8B}
SYSTEMS = {"h100_sxm": "H100", "h200_sxm": "H200"}
FITTED = ("gemm", "attention", "weights", "kv", "link", "layer_us", "host_us", "request_us")
SHARES = ("gemm", "attention", "weights", "kv", "link")
TTFT_WEIGHT = 0.5  # of a TTFT's error beside a TPOT's, in the fit


@dataclass(frozen=True, kw_only=True)
class Point:
    """One measured point."""

    engine: str
    model: str
    system: str
    tp: int
    fp8: bool
    prompt_tokens: int
    output_tokens: int
    concurrency: int
    ttft_s: float
    tpot_s: float

    @property
    def group(self) -> tuple[str, str, int, int]:
        """Points of one group are similar: they are fitted together or held back together."""
        return self.model, self.system, self.tp, self.prompt_tokens


def read_points(path: Path) -> list[Point]:
    """The dense, aggregated points on H100 and H200."""
    with path.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["mode"] == "agg"]
    return [
        Point(
            engine=row["backend"], model=row["model_path"], system=row["system"],
            tp=int(row["tp_size"]), fp8=row["gemm_quant_mode"].startswith("fp8"),
            prompt_tokens=int(row["isl"]), output_tokens=int(row["osl"]),
            concurrency=int(row["batch_size"]), ttft_s=float(row["silicon_ttft_ms"]) / 1e3,
            tpot_s=float(row["silicon_tpot_ms"]) / 1e3,
        )
        for row in rows
        if row["model_path"] in MODELS and row["system"] in SYSTEMS
    ]  # fmt: skip


def halves(points: Sequence[Point]) -> tuple[list[Point], list[Point]]:
    """(to fit, to hold back): every other group."""
    groups = sorted({point.group for point in points})
    fitted = set(groups[::2])
    return [p for p in points if p.group in fitted], [p for p in points if p.group not in fitted]


@dataclass(frozen=True, kw_only=True)
class Engine:
    """One engine: efficiencies, and the settings that nobody noted, all found on the fitted half.

    An iteration takes batched_tokens_max tokens, or `prompts` whole prompts if those are more.
    """

    efficiency: Efficiency
    batched_tokens_max: int = 8192
    prompts: int = 1
    fp8_kv_bytes: float = 2.0  # of models with fp8 weights
    rounds: int = 10


def predict(point: Point, engine: Engine) -> Latency:
    """What the roofline says of a point."""
    decoder = MODELS[point.model]
    if point.fp8:
        decoder = replace(decoder, linear_bytes=1.0, kv_bytes=engine.fp8_kv_bytes)
    device, parallel = load_catalogue().device(SYSTEMS[point.system]), Parallel(tp=point.tp)
    load = Load(
        concurrency=point.concurrency,
        prompt_tokens=point.prompt_tokens,
        output_tokens=point.output_tokens,
        kv_tokens=derive_blocks(decoder, device, parallel, 1).count,
        batched_tokens_max=max(engine.batched_tokens_max, engine.prompts * point.prompt_tokens),
        rounds=engine.rounds,
    )
    return ClosedLoop(DeviceRoofline(decoder, device, parallel, engine.efficiency), load).run()


@dataclass(frozen=True, kw_only=True)
class Errors:
    """Absolute relative errors, medians, over so many points."""

    points: int
    ttft: float
    tpot: float


def errors(points: Sequence[Point], engine: Engine) -> Errors:
    """How far predictions are off."""
    said = [predict(point, engine) for point in points]
    pairs = list(zip(points, said, strict=True))
    return Errors(
        points=len(points),
        ttft=median(abs(s.ttft_s / p.ttft_s - 1) for p, s in pairs),
        tpot=median(abs(s.tpot_s / p.tpot_s - 1) for p, s in pairs),
    )


def settle(points: Sequence[Point], start: Engine, choices: Sequence[Engine]) -> Engine:
    """The settings of least loss, each choice with the efficiencies that fit it best."""
    best, least = start, loss(points, start)
    for choice in choices:
        tried = fit(points, choice, sweeps=1)
        found = loss(points, tried)
        if found < least:
            best, least = tried, found
    return best


def fit(points: Sequence[Point], start: Engine, sweeps: int = 3) -> Engine:
    """Coordinate descent on the loss: each factor up and down, by smaller and smaller steps."""
    best, least = start, loss(points, start)
    for sweep in range(sweeps):
        step = log(1.5) / 2**sweep
        for name in FITTED:
            for direction in (step, -step):
                tried = _moved(best, name, direction)
                while tried != best and (found := loss(points, tried)) < least:
                    best, least = tried, found
                    tried = _moved(best, name, direction)
    return best


def _moved(engine: Engine, name: str, step: float) -> Engine:
    value = asdict(engine.efficiency)[name] * exp(step)
    if name in SHARES:
        value = min(1.0, value)
    return replace(engine, efficiency=replace(engine.efficiency, **{name: value}))


def loss(points: Sequence[Point], engine: Engine) -> float:
    """Mean absolute log ratio of TPOT, and half of that of TTFT."""
    total = 0.0
    for point in points:
        said = predict(point, engine)
        total += abs(log(said.tpot_s / point.tpot_s))
        total += TTFT_WEIGHT * abs(log(said.ttft_s / point.ttft_s))
    return total / len(points)
