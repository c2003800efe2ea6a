"""Measured (TTFT, TPOT) points of dense models, and what the device roofline says of them.

One set of factors per engine, fitted to half of the groups (model, system, TP, prompt
length), judged on the other half: a held-back point has no like it in the fit, and which
half a group is in is said by the hash of its name. Precision: as noted; where none is noted
the weights are bf16 (their TPOT at TP 2 says so).
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

from splitweave.sim.costs.catalogue import load_catalogue
from splitweave.sim.costs.decoder import Decoder
from splitweave.sim.costs.device import DeviceRoofline
from splitweave.sim.costs.efficiency import Efficiency
from splitweave.sim.costs.memory import derive_blocks
from splitweave.sim.costs.parallel import Parallel

from .closed_loop import ClosedLoop, Cost, Front, Latency, Load

QWEN3_32B = Decoder(
    layers=64, hidden=5120, heads=64, kv_heads=8, head_dim=128, ffn=25600, vocab=151936,
    qk_norm=True,
)  # fmt: skip
LLAMA_8B = Decoder(
    layers=32, hidden=4096, heads=32, kv_heads=8, head_dim=128, ffn=14336, vocab=128256
)
MODELS = {"Qwen/Qwen3-32B": QWEN3_32B, "nvidia/Llama-3.1-8B-Instruct-FP8": LLAMA_8B}
SYSTEMS = {"h100_sxm": "H100", "h200_sxm": "H200"}
REACH = 0.6  # of the peak, over a whole run


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
    def peak_share(self) -> float:
        """Of the GPUs' peak: the FLOP/s of all prompts and answers, if nothing was cached."""
        decoder, tokens = MODELS[self.model], self.prompt_tokens + self.output_tokens
        matrices = 2 * decoder.layers * (decoder.attention_weights + decoder.mlp_weights) * tokens
        pairs = self.prompt_tokens**2 / 2
        attention = 4 * decoder.layers * decoder.heads * decoder.head_dim * pairs
        rate = self.concurrency / (self.ttft_s + (self.output_tokens - 1) * self.tpot_s)
        device = load_catalogue().device(SYSTEMS[self.system])
        peak = device.fp8_tflops if self.fp8 and device.fp8_tflops else device.bf16_tflops
        return rate * (matrices + attention) / (self.tp * peak.value * 1e12)

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


def within_reach(points: Sequence[Point]) -> tuple[list[Point], list[Point]]:
    """(points that can be, points of a model and system of which one cannot be).

    Where a run's prompts would have taken more than REACH of the peak, they were cached.
    """
    beyond = {(p.model, p.system) for p in points if p.peak_share > REACH}
    inside = [p for p in points if (p.model, p.system) not in beyond]
    return inside, [p for p in points if (p.model, p.system) in beyond]


def halves(points: Sequence[Point]) -> tuple[list[Point], list[Point]]:
    """(to fit, to hold back), by the hash of the group's name."""
    held = {
        group
        for group in {point.group for point in points}
        if sha256("|".join(map(str, group)).encode()).digest()[0] % 2
    }
    return [p for p in points if p.group not in held], [p for p in points if p.group in held]


@dataclass(frozen=True, kw_only=True)
class Engine:
    """One engine: efficiencies, and the settings that nobody noted, all found on the fitted half.

    `turn_us`, `front_us`, `front_token_us` (per token of the prompt), `ahead`, `warm`: see
    `closed_loop.Front`. An iteration takes `batched_tokens_max` tokens.
    """

    efficiency: Efficiency
    batched_tokens_max: int = 8192
    ahead: int = 0
    warm: bool = False
    turn_us: float = 1000.0
    front_us: float = 500.0
    front_token_us: float = 0.5
    fp8_kv_bytes: float = 2.0  # of models with fp8 weights
    rounds: int = 10


def predict(point: Point, engine: Engine, cost: Cost | None = None) -> Latency:
    """What the roofline says of a point, or what another cost does."""
    decoder = MODELS[point.model]
    if point.fp8:
        decoder = replace(decoder, linear_bytes=1.0, kv_bytes=engine.fp8_kv_bytes)
    device, parallel = load_catalogue().device(SYSTEMS[point.system]), Parallel(tp=point.tp)
    load = Load(
        concurrency=point.concurrency,
        prompt_tokens=point.prompt_tokens,
        output_tokens=point.output_tokens,
        kv_tokens=derive_blocks(decoder, device, parallel, 1).count,
        batched_tokens_max=engine.batched_tokens_max,
        rounds=engine.rounds,
    )
    front_us = engine.front_us + engine.front_token_us * point.prompt_tokens
    front = Front(
        turn_s=engine.turn_us / 1e6,
        front_s=front_us / 1e6,
        ahead=engine.ahead,
        warm=engine.warm,
    )
    roofline = DeviceRoofline(decoder, device, parallel, engine.efficiency)
    return ClosedLoop(cost or roofline, load, front).run()
