"""A run as files: results.json, requests.csv, samples.csv, trace.json, report.html."""

import csv
from collections.abc import Callable, Iterator
from enum import StrEnum
from itertools import chain
from pathlib import Path
from typing import Any

from ..clock import NS_PER_S
from .html import page_of
from .perfetto import write_trace
from .records import CLASSES, UNKNOWN, Ending, Row
from .results import Results


class File(StrEnum):
    """What may be written, by the name it has in a folder."""

    RESULTS = "results.json"
    REQUESTS = "requests.csv"
    SAMPLES = "samples.csv"
    TRACE = "trace.json"
    REPORT = "report.html"


def write(results: Results, file: File, path: Path) -> None:
    """One file at `path`, its folder made if need be. Raises ResultsError, OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    WRITERS[file](results, path)


def write_all(results: Results, folder: Path) -> list[Path]:
    """All of them into `folder`; where they are. Raises ResultsError, OSError."""
    paths = [folder / file for file in File]
    for file, path in zip(File, paths, strict=True):
        write(results, file, path)
    return paths


def _write_results(results: Results, path: Path) -> None:
    path.write_text(results.as_json())


def _write_requests(results: Results, path: Path) -> None:
    """One line per request, in order of arrival; seconds; empty: it never came that far."""
    records = results.run().world.clients.records
    names = {number: worker_id for worker_id, number in records.workers.items()}
    slo = results.run().scenario.slo
    lines = (
        {
            "request": request_id,
            "class": CLASSES[row.request_class].value,
            "ending": Ending(row.ending).name.lower(),
            "slo_met": int(_met(row, slo.ttft_s, slo.tpot_s)),
            "arrival_s": row.asked_ns / NS_PER_S,
            **_latencies(row),
            "prompt_tokens": row.prompt_tokens,
            "output_tokens": row.output_tokens,
            "cached_tokens": row.cached_tokens,
            "cached_host_tokens": row.cached_host_tokens,
            "cached_peer_tokens": row.cached_peer_tokens,
            "transfer_bytes": row.transfer_bytes,
            "migrations": row.migrations,
            "placements": row.attempts,
            "first_worker": names.get(row.source, ""),
            "last_worker": names.get(row.target, ""),
        }
        for request_id, row in records.by_arrival()
    )
    _write_csv(path, lines)


def _latencies(row: Row) -> dict[str, float | str]:
    points = [row.asked_ns, row.placed_ns, row.began_ns, row.computed_ns, row.first_ns]
    stages = ("queue_s", "wait_s", "prefill_s", "delivery_s")
    spans = {
        name: (end - start) / NS_PER_S if UNKNOWN not in (start, end) else ""
        for name, start, end in zip(stages, points, points[1:], strict=False)
    }
    got = row.first_ns != UNKNOWN
    wait_s, fetch_s = spans["wait_s"], row.fetch_ns / NS_PER_S
    if not isinstance(wait_s, str):
        fetch_s = min(fetch_s, wait_s)
        spans["wait_s"] = wait_s - fetch_s
    return {
        "ttft_s": row.ttft_s if got else "",
        "tpot_s": row.tpot_s if got and row.output_tokens > 1 else "",
        "e2e_s": row.e2e_s if got else "",
        "fetch_s": fetch_s,
        **spans,
        "transfer_s": row.transfer_ns / NS_PER_S,
        "exposed_s": row.exposed_ns / NS_PER_S,
    }


def _met(row: Row, ttft_slo_s: float, tpot_slo_s: float) -> bool:
    if row.ending != Ending.COMPLETED:
        return False
    return row.ttft_s <= ttft_slo_s and (row.output_tokens < 2 or row.tpot_s <= tpot_slo_s)


def _write_samples(results: Results, path: Path) -> None:
    """One line per sample and worker; empty while the worker was down."""
    samples = results.samples
    lines = (
        {
            "time_s": (index + 1) * samples.period_s,
            "worker": worker.worker_id,
            "pool": worker.pool,
            "running": worker.running[index],
            "waiting": worker.waiting[index],
            "kv_occupancy": worker.kv_occupancy[index],
            "utilisation": worker.utilisation[index],
        }
        for index in range(samples.count)
        for worker in samples.workers
    ) if samples is not None else iter(())  # fmt: skip
    _write_csv(path, lines)


def _write_csv(path: Path, lines: Iterator[dict[str, Any]]) -> None:
    first = next(lines, None)
    with path.open("w", newline="") as file:
        if first is None:
            return
        table = csv.DictWriter(file, first.keys(), lineterminator="\n")
        table.writeheader()
        table.writerows(chain([first], lines))


def _write_report(results: Results, path: Path) -> None:
    path.write_text(page_of(results))


WRITERS: dict[File, Callable[[Results, Path], None]] = {
    File.RESULTS: _write_results,
    File.REQUESTS: _write_requests,
    File.SAMPLES: _write_samples,
    File.TRACE: write_trace,
    File.REPORT: _write_report,
}
