"""Disaggregated points of dense models on H100 and H200: in the collection there is one.

Its concurrency was not noted, so neither how many decode at once nor how long a prompt waits
is known. Predicted is one prompt alone on a prefill worker and its KV's way over the link, and
a decode of half of the batch that its decode workers allow.
"""

import csv
from dataclasses import dataclass, replace
from pathlib import Path

from splitweave.sim.costs.catalogue import load_catalogue
from splitweave.sim.costs.device import DeviceRoofline
from splitweave.sim.costs.parallel import Parallel
from splitweave.sim.costs.work import Prefill, Work

from .silicon import MODELS, SYSTEMS, Engine


@dataclass(frozen=True, kw_only=True)
class SplitPoint:
    """Prefill and decode workers apart. `batch`: what a decode worker allows at once."""

    engine: str
    model: str
    system: str
    prefill_tp: int
    decode_tp: int
    batch: int
    fp8: bool
    prompt_tokens: int
    output_tokens: int
    ttft_s: float
    tpot_s: float


def read_split_points(path: Path) -> list[SplitPoint]:
    """The dense, disaggregated points on H100 and H200."""
    with path.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["mode"] == "disagg"]
    return [
        SplitPoint(
            engine=row["backend"], model=row["model_path"], system=row["system"],
            prefill_tp=int(row["prefill_tp_size"]), decode_tp=int(row["decode_tp_size"]),
            batch=int(row["decode_batch_size"]), fp8=row["gemm_quant_mode"].startswith("fp8"),
            prompt_tokens=int(row["isl"]), output_tokens=int(row["osl"]),
            ttft_s=float(row["silicon_ttft_ms"]) / 1e3, tpot_s=float(row["silicon_tpot_ms"]) / 1e3,
        )
        for row in rows
        if row["model_path"] in MODELS and row["system"] in SYSTEMS
    ]  # fmt: skip


def predict_split(point: SplitPoint, engine: Engine) -> tuple[float, float]:
    """(TTFT, TPOT) in seconds; see the module for what they assume."""
    decoder = MODELS[point.model]
    if point.fp8:
        decoder = replace(decoder, linear_bytes=1.0, kv_bytes=engine.fp8_kv_bytes)
    device = load_catalogue().device(SYSTEMS[point.system])

    def seconds(tp: int, work: Work) -> float:
        cost = DeviceRoofline(decoder, device, Parallel(tp=tp), engine.efficiency)
        return cost.work_ns(work) / 1e9

    done, prompt = 0, []
    while done < point.prompt_tokens:
        tokens = min(engine.batched_tokens_max, point.prompt_tokens - done)
        prompt.append(Work((Prefill(tokens, done),), draws=1))
        done += tokens
    around = engine.turn_us + engine.front_us + engine.front_token_us * point.prompt_tokens
    way = point.prompt_tokens * decoder.kv_token_bytes / (device.link_gbytes_per_s.value * 1e9)
    ttft = sum(seconds(point.prefill_tp, work) for work in prompt) + around / 1e6 + way
    count = point.batch // 2
    context = point.prompt_tokens + point.output_tokens // 2
    tpot = seconds(point.decode_tp, Work((), count, count * context, context, count))
    return ttft, tpot
