"""Where arrivals come from: a Poisson process, or a trace file.

Two trace formats are read: Azure's CSV (TIMESTAMP, ContextTokens,
GeneratedTokens) and Mooncake's JSON lines (timestamp in ms, input_length,
output_length, hash_ids of 512-token blocks). A bad line is refused by file,
line number and reason.
"""

import csv
import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from math import inf
from pathlib import Path
from random import Random

from .arrivals import Arrival, Segment
from .clock import NS_PER_S, to_ns
from .errors import TraceError
from .scenario import PoissonSpec

MOONCAKE_BLOCK_TOKENS = 512
AZURE_COLUMNS = ["TIMESTAMP", "ContextTokens", "GeneratedTokens"]


def poisson(spec: PoissonSpec, seed: int) -> list[Arrival]:
    """`spec.requests` arrivals with exponential gaps.

    With `prefix_groups` > 0 each prompt begins with up to `shared_prefix_tokens`
    tokens that it has in common with the other prompts of its group.
    """
    random = Random(f"workload {seed}")
    at_s = 0.0
    arrivals: list[Arrival] = []
    for index in range(spec.requests):
        at_s += random.expovariate(spec.rate_per_s)
        tokens = spec.prompt.draw(random)
        shared = min(spec.shared_prefix_tokens, tokens - 1) if spec.prefix_groups else 0
        group = random.randrange(spec.prefix_groups) if spec.prefix_groups else 0
        segments = (Segment(f"group/{group}", shared), Segment(f"own/{index}", tokens - shared))
        arrivals.append(
            Arrival(
                at_ns=to_ns(at_s),
                segments=segments if shared else segments[1:],
                output_tokens=spec.output.draw(random),
            )
        )
    return arrivals


def read_azure(path: Path) -> list[Arrival]:
    """Azure's CSV; the first arrival is at 0. Raises TraceError."""
    return _ordered(path, list(_azure_rows(path)))


def read_mooncake(path: Path) -> list[Arrival]:
    """Mooncake's JSON lines. Raises TraceError."""
    return _ordered(path, list(_mooncake_rows(path)))


def scaled(arrivals: list[Arrival], *, speedup: float, limit: int) -> list[Arrival]:
    """The first `limit` arrivals (0: all), `speedup` times as fast."""
    chosen = arrivals[:limit] if limit else arrivals
    return [replace(arrival, at_ns=round(arrival.at_ns / speedup)) for arrival in chosen]


def spread(arrivals: list[Arrival], bucket_s: float, seed: int) -> list[Arrival]:
    """Stamps that fall in buckets of `bucket_s`, spread evenly at random within them."""
    random = Random(f"spread {seed}")
    width_ns = to_ns(bucket_s)
    moved = [
        replace(arrival, at_ns=arrival.at_ns + int(random.random() * width_ns))
        for arrival in arrivals
    ]
    return sorted(moved, key=lambda arrival: arrival.at_ns)


def _ordered(path: Path, arrivals: list[Arrival]) -> list[Arrival]:
    if not arrivals:
        raise TraceError(f"{path}: no requests in it")
    arrivals.sort(key=lambda arrival: arrival.at_ns)
    first_ns = arrivals[0].at_ns
    return [replace(arrival, at_ns=arrival.at_ns - first_ns) for arrival in arrivals]


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            yield from enumerate(file, start=1)
    except OSError as error:
        raise TraceError(f"{path}: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise TraceError(f"{path}: invalid UTF-8 at byte {error.start}") from None


def _azure_rows(path: Path) -> Iterator[Arrival]:
    for number, line in _lines(path):
        cells = next(csv.reader([line.strip()]), [])
        if number == 1:
            if cells != AZURE_COLUMNS:
                raise TraceError(
                    f"{path}:1: the columns are {','.join(cells) or 'missing'}; "
                    f"expected {','.join(AZURE_COLUMNS)}"
                )
            continue
        if not cells:
            continue
        if len(cells) != len(AZURE_COLUMNS):
            raise TraceError(f"{path}:{number}: {len(cells)} columns, expected 3")
        yield Arrival(
            at_ns=_azure_ns(path, number, cells[0]),
            segments=(Segment(f"own/{number}", _count(path, number, AZURE_COLUMNS[1], cells[1])),),
            output_tokens=_count(path, number, AZURE_COLUMNS[2], cells[2]),
        )


def _azure_ns(path: Path, number: int, text: str) -> int:
    # Azure writes seven decimals (100 ns); datetime reads six.
    whole, _, fraction = text.partition(".")
    try:
        moment = datetime.fromisoformat(f"{whole}+00:00")
        return int(moment.timestamp()) * NS_PER_S + int(fraction.ljust(9, "0")[:9] or "0")
    except ValueError:
        raise TraceError(f"{path}:{number}: TIMESTAMP {text!r} is not a date and time") from None


def _count(path: Path, number: int, key: str, value: object) -> int:
    try:
        count = int(value) if isinstance(value, str) else value
    except ValueError:
        count = None
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise TraceError(f"{path}:{number}: {key} is {value!r}; expected a whole number >= 1")
    return count


def _mooncake_rows(path: Path) -> Iterator[Arrival]:
    for number, line in _lines(path):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise TraceError(f"{path}:{number}: not JSON: {error}") from None
        if not isinstance(row, dict):
            raise TraceError(f"{path}:{number}: not a JSON object")
        yield _mooncake_arrival(path, number, row)


def _mooncake_arrival(path: Path, number: int, row: dict[str, object]) -> Arrival:
    missing = {"timestamp", "input_length", "output_length", "hash_ids"} - row.keys()
    if missing:
        raise TraceError(f"{path}:{number}: missing {', '.join(sorted(missing))}")
    stamp, hash_ids = row["timestamp"], row["hash_ids"]
    if not isinstance(stamp, int | float) or not 0 <= stamp < inf:  # NaN is in no range
        raise TraceError(f"{path}:{number}: timestamp is {stamp!r}; expected milliseconds >= 0")
    tokens = _count(path, number, "input_length", row["input_length"])
    blocks = -(-tokens // MOONCAKE_BLOCK_TOKENS)
    if not isinstance(hash_ids, list) or len(hash_ids) < blocks:
        raise TraceError(
            f"{path}:{number}: hash_ids has fewer than the {blocks} blocks of input_length {tokens}"
        )
    return Arrival(
        at_ns=round(stamp * 1_000_000),
        segments=_mooncake_segments(hash_ids, tokens),
        output_tokens=_count(path, number, "output_length", row["output_length"]),
    )


def _mooncake_segments(hash_ids: list[object], tokens: int) -> tuple[Segment, ...]:
    full, tail = divmod(tokens, MOONCAKE_BLOCK_TOKENS)
    segments = [Segment(f"block/{name}", MOONCAKE_BLOCK_TOKENS) for name in hash_ids[:full]]
    if tail:
        segments.append(Segment(f"block/{hash_ids[full]}", tail))
    return tuple(segments)
