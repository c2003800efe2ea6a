"""What splitwise-sim answers on its trace, and the same trace through ours.

BLOOM-176B, TP8 on DGX-H100, 70 requests/s for two minutes. Its lookups are kept as a
test-only cost: the time of a prompt batch by its tokens; of a mixed one 1.1 x that; of a
decode iteration at x = number of decodes on an axis of prompt tokens x batch, so off its
edge in a straight line; context never enters. `RightLookups` asks the same measurements
for decodes by batch and context. TTFT as there; TBT = (response - TTFT) / tokens; E2E =
response.
"""

import csv
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from statistics import mean, median

from splitweave.sim.queue import EventQueue

from .splitwise_cluster import Cluster, Kind, MixedPool, ShortestQueue, Weights, jobs_of
from .splitwise_machine import Job

MIXED = 1.1
BLOOM = "bloom-176b"
BATCH_CONTEXT = 512 + 128 / 2  # at which batches were measured
PARTS_BEFORE = (1024.0, 2048.0, 4096.0, 6144.0, 8192.0, 12_288.0)
Row = tuple[float, float, float, float, float]
Series = dict[str, list[float]]
Trace = list[tuple[float, int, int]]


def read_trace(folder: Path, requests: int = 0) -> Trace:
    """(arrival in seconds, prompt tokens, output tokens), of the first so many (0: all)."""
    with (folder / "trace_conv_70rps_2min.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))[: requests or None]
    return [
        (float(row["arrival_timestamp"]), int(row["prompt_size"]), int(row["token_size"]))
        for row in rows
    ]


def reported(folder: Path, requests: int = 0) -> Series:
    """What splitwise-sim said of every request, or of the first so many (0: all)."""
    with (folder / "requests.csv").open(newline="") as file:
        rows = sorted(csv.DictReader(file), key=lambda row: float(row["request_ids"]))
    rows = rows[: requests or None]
    columns = {"TTFT": "ttft_times", "TBT": "tbt_times", "E2E": "response_times"}
    return {name: [float(row[column]) for row in rows] for name, column in columns.items()}


@cache
def measured(folder: Path, hardware: str) -> tuple[dict[str, float], ...]:
    """The rows of BLOOM-176B, TP8, on such GPUs; times in ms."""
    with (folder / "perf_model.csv").open(newline="") as file:
        chosen = [
            row
            for row in csv.DictReader(file)
            if (row["model"], row["hardware"], row["tensor_parallel"]) == (BLOOM, hardware, "8")
        ]
    names = ("prompt_size", "batch_size", "token_size", "prompt_time", "token_time")
    return tuple({name: float(row[name]) for name in names} for row in chosen)


class Line:
    """Straight between points, and beyond them by the outermost two."""

    def __init__(self, points: dict[float, float]) -> None:
        self._x = sorted(points)
        self._y = [points[x] for x in self._x]

    def at(self, x: float) -> float:
        after = min(max(bisect_right(self._x, x), 1), len(self._x) - 1)
        (x0, x1), (y0, y1) = self._x[after - 1 : after + 1], self._y[after - 1 : after + 1]
        return y0 + (y1 - y0) * (x - x0) / (x1 - x0)


def line_of(folder: Path, hardware: str, column: str) -> Line:
    """Seconds by prompt tokens x batch: the median of what was measured."""
    found: dict[float, list[float]] = defaultdict(list)
    for row in measured(folder, hardware):
        found[row["prompt_size"] * row["batch_size"]].append(row[column] / 1e3)
    return Line({x: median(y) for x, y in found.items()})


class TheirLookups:
    """splitwise-sim's, context and all."""

    context_matters = False

    def __init__(self, folder: Path, hardware: str) -> None:
        self._prompt = line_of(folder, hardware, "prompt_time")
        self._token = line_of(folder, hardware, "token_time")

    def iteration_s(self, prompt_tokens: int, contexts: list[int]) -> float:
        if not prompt_tokens:
            return self._token.at(len(contexts))
        return self._prompt.at(prompt_tokens + len(contexts)) * (MIXED if contexts else 1.0)


class RightLookups:
    """The same measurements, decodes by how many there are and what they read (`right_table`)."""

    context_matters = True

    def __init__(self, folder: Path, hardware: str) -> None:
        self._prompt = line_of(folder, hardware, "prompt_time")
        self._slope_s = _slope(_decodes(folder, hardware, "context", None)) / 1e3
        batches = _decodes(folder, hardware, "batch_size", BATCH_CONTEXT)
        self._batch = Line({n: ms / 1e3 for n, ms in batches.items()})

    def iteration_s(self, prompt_tokens: int, contexts: list[int]) -> float:
        count, keys = len(contexts), sum(contexts)
        if not prompt_tokens:
            return self._batch.at(count) + self._slope_s * (keys - count * BATCH_CONTEXT)
        together = self._prompt.at(prompt_tokens + count) + self._slope_s * keys
        return together * (MIXED if contexts else 1.0)


def their_table(folder: Path, hardware: str) -> list[Row]:
    """Its lookups as a measured table, for a world of ours."""
    token = line_of(folder, hardware, "token_time")
    rows = [(0.0, 0.0, n, 1.0, token.at(n) * 1e6) for n in (1.0, 64.0, 128.0, 256.0, 512.0)]
    return [*_prompt_rows(folder, hardware), *rows]


def right_table(folder: Path, hardware: str) -> list[Row]:
    """Prompts as there; decodes by how many there are and what they read.

    Batches were measured at one context, contexts with a batch of one: each decode adds what
    a context beyond that costs it. (For BLOOM on 8 H100 that is 0.14 us a token; reading its KV
    at the memory's full speed takes 0.15.)
    """
    batches = _decodes(folder, hardware, "batch_size", BATCH_CONTEXT)
    contexts = _decodes(folder, hardware, "context", None)
    slope = _slope(contexts)
    rows = [
        (0.0, 0.0, n, context, y * 1e3 + n * slope * 1e3 * (context - BATCH_CONTEXT))
        for n, y in batches.items()
        for context in (1.0, BATCH_CONTEXT, 16_384.0)
    ]
    return [*_prompt_rows(folder, hardware), *rows]


def _decodes(folder: Path, hardware: str, by: str, context: float | None) -> dict[float, float]:
    """Milliseconds, medians: of any batch at that context, or of a batch of one at any."""
    found: dict[float, list[float]] = defaultdict(list)
    for row in measured(folder, hardware):
        said = row | {"context": row["prompt_size"] + row["token_size"] / 2}
        alone = context is None and row["batch_size"] == 1
        if alone or said["context"] == context:
            found[said[by]].append(row["token_time"])
    return {x: median(found[x]) for x in sorted(found)}


def _slope(points: dict[float, float]) -> float:
    """Least squares."""
    x, y = mean(points), mean(points.values())
    above = sum((a - x) * (b - y) for a, b in points.items())
    return above / sum((a - x) ** 2 for a in points)


def table_text(rows: Sequence[Row]) -> str:
    """The CSV file of a measured table."""
    said = {
        "engine": "DGX, Splitwise", "version": "ISCA 2024", "kernel": "unknown",
        "device": "8 GPUs", "model": "BLOOM-176B TP8", "date": "2023",
    }  # fmt: skip
    lines = [f"# {key} = {value}" for key, value in said.items()]
    lines.append("prefill_tokens,prefill_context,decodes,decode_context,time_us")
    return "\n".join([*lines, *(",".join(f"{cell:.6g}" for cell in row) for row in rows)]) + "\n"


def _prompt_rows(folder: Path, hardware: str) -> list[Row]:
    """Prompts by tokens, and mixed rows by which the table finds its factor.

    A later part of a prompt takes what the prompt takes longer with it, so that parts add up.
    """
    line = line_of(folder, hardware, "prompt_time")
    tokens = sorted({row["prompt_size"] * row["batch_size"] for row in measured(folder, hardware)})
    rows = [(x, 0.0, 0.0, 0.0, line.at(x) * 1e6) for x in (1.0, *tokens)]
    rows += [
        (x, before, 0.0, 0.0, (line.at(before + x) - line.at(before)) * 1e6)
        for before in PARTS_BEFORE
        for x in (1.0, *tokens)
    ]
    mixed = [(x - 1, 0.0, 1.0, 1.0, line.at(x) * 1e6 * MIXED) for x in tokens]
    return [*rows, *mixed]


def times_of(jobs: Sequence[Job]) -> Series:
    """What became of them, in their order."""
    return {
        "TTFT": [job.first_s - job.arrived_s for job in jobs],
        "TBT": [(job.last_s - job.first_s) / job.output_tokens for job in jobs],
        "E2E": [job.last_s - job.arrived_s for job in jobs],
    }


def baseline(trace: Trace, kind: Kind) -> Series:
    """Their rules: every machine does both."""
    return _run(ShortestQueue(EventQueue(), Weights(), kind), trace)


def splitwise(trace: Trace, prompt: Kind, token: Kind) -> Series:
    """Their rules: prompt and token machines."""
    return _run(MixedPool(EventQueue(), Weights(), prompt, token), trace)


def _run(cluster: Cluster, trace: Trace) -> Series:
    jobs = jobs_of(trace)
    cluster.run(jobs)
    return times_of(jobs)
