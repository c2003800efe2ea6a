"""Traces as CSV: each format is a row of the table below.

Columns are found by their names, in any order, and other columns are passed over.
Azure's files of 2023 write `2023-11-16 18:17:03.9799600`, those of 2024
`2024-05-12 00:00:10+00:00`; both are read.
"""

import csv
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from math import isfinite
from pathlib import Path

from ..clock import NS_PER_S
from .arrivals import Arrival, Segment
from .lines import Line, count_of, lines
from .order import Row

MOMENT = re.compile(
    r"(\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)?", re.ASCII
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """A format: its columns, and how it writes times."""

    at: str
    prompt: str
    output: str
    time_ns: Callable[[str], int]  # raises ValueError
    times_are: str
    zero_output_failed: bool = False  # a request without output failed there; passed over

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.at, self.prompt, self.output)


def rows(path: Path, layout: Layout) -> Iterator[Row]:
    """The requests of a file, by line, in its own order. Raises TraceError."""
    file = lines(path)
    header = next(file, None)
    if header is None:
        return
    places, width = _places(header, layout), len(_cells(header))
    for line in file:
        cells = _cells(line)
        if len(cells) != width:
            raise line.refuse(f"{len(cells)} columns, expected {width}")
        at, prompt, output = (cells[place] for place in places)
        tokens = count_of(line, layout.output, output, least=0 if layout.zero_output_failed else 1)
        if tokens:
            segment = Segment(f"own/{line.number}", count_of(line, layout.prompt, prompt))
            arrival = Arrival(
                at_ns=_time_ns(line, layout, at), segments=(segment,), output_tokens=tokens
            )
            yield Row(line, arrival)


def _places(header: Line, layout: Layout) -> list[int]:
    found = _cells(header)
    if missing := [name for name in layout.columns if name not in found]:
        raise header.refuse(
            f"the columns are {','.join(found)}; expected {','.join(layout.columns)} "
            f"(missing: {', '.join(missing)})"
        )
    return [found.index(name) for name in layout.columns]


def _cells(line: Line) -> list[str]:
    if '"' not in line.text:
        return line.text.split(",")
    return next(csv.reader([line.text]), [])


def _time_ns(line: Line, layout: Layout, text: str) -> int:
    try:
        return layout.time_ns(text)
    except (ValueError, OverflowError):
        raise line.refuse(f"{layout.at} {text!r} is not {layout.times_are}") from None


def moment_ns(text: str) -> int:
    """A date and time, UTC unless it says otherwise, as ns since 1970. Raises ValueError."""
    match = MOMENT.fullmatch(text.strip())
    if match is None:
        raise ValueError(text)
    whole, fraction, zone = match.groups()
    return _second(whole, zone or "+00:00") * NS_PER_S + int((fraction or "").ljust(9, "0"))


@lru_cache(maxsize=256)  # a second has many requests
def _second(whole: str, zone: str) -> int:
    return int(datetime.fromisoformat(whole + zone).timestamp())


def seconds_ns(text: str) -> int:
    """Decimal seconds >= 0 as ns. Raises ValueError."""
    at_s = float(text)
    if not (isfinite(at_s) and at_s >= 0):
        raise ValueError(text)
    whole = int(at_s)  # by itself: seconds since 1970 leave a float no nanoseconds
    return whole * NS_PER_S + round((at_s - whole) * NS_PER_S)


AZURE = Layout(
    at="TIMESTAMP", prompt="ContextTokens", output="GeneratedTokens",
    time_ns=moment_ns, times_are="a date and time",
)  # fmt: skip
BURSTGPT = Layout(
    at="Timestamp", prompt="Request tokens", output="Response tokens",
    time_ns=seconds_ns, times_are="a number of seconds >= 0", zero_output_failed=True,
)  # fmt: skip
SPLITWISE = Layout(
    at="arrival_timestamp", prompt="prompt_size", output="token_size",
    time_ns=seconds_ns, times_are="a number of seconds >= 0",
)  # fmt: skip
