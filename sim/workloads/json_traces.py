"""Traces as JSON lines: each format is a row of the table below.

Mooncake's `hash_ids` name 512-token blocks by everything up to their end: two
prompts that begin with equal ids begin with equal tokens here, so any prefix
cache sees what it would have seen.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

from ...proto.requests import RequestClass
from .arrivals import Arrival, Segment
from .lines import Line, count_of, lines
from .order import Row

MOONCAKE_BLOCK_TOKENS = 512
CLASSES = {kind.name.lower(): kind for kind in RequestClass}


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """A format: its keys, and the unit of its times."""

    at: str
    unit_ns: int
    times_are: str
    prompt: str
    output: str
    blocks: str | None = None  # the key of the block ids
    blocks_needed: bool = False
    request_class: str | None = None  # the key of the class; may be missing in a line

    @property
    def needed(self) -> set[str]:
        blocks = {self.blocks} if self.blocks is not None and self.blocks_needed else set()
        return {self.at, self.prompt, self.output} | blocks


def rows(path: Path, layout: Layout) -> Iterator[Row]:
    """The requests of a file, by line, in its own order. Raises TraceError."""
    for line in lines(path):
        try:
            row = json.loads(line.text)
        except (json.JSONDecodeError, RecursionError) as error:
            raise line.refuse(f"not JSON: {error}") from None
        if not isinstance(row, dict):
            raise line.refuse("not a JSON object")
        if missing := layout.needed - row.keys():
            raise line.refuse(f"missing {', '.join(sorted(missing))}")
        yield Row(line, _arrival(line, layout, row))


def _arrival(line: Line, layout: Layout, row: dict[str, object]) -> Arrival:
    stamp = row[layout.at]
    if isinstance(stamp, bool) or not isinstance(stamp, int | float):
        stamp = None
    if stamp is None or not (isfinite(stamp) and stamp >= 0):
        raise line.refuse(f"{layout.at} is {row[layout.at]!r}; expected {layout.times_are} >= 0")
    whole = int(stamp)  # by itself: seconds since 1970 leave a float no nanoseconds
    tokens = count_of(line, layout.prompt, row[layout.prompt])
    return Arrival(
        at_ns=whole * layout.unit_ns + round((stamp - whole) * layout.unit_ns),
        segments=_segments(line, layout, row, tokens),
        output_tokens=count_of(line, layout.output, row[layout.output]),
        request_class=_class(line, layout, row),
    )


def _segments(
    line: Line, layout: Layout, row: dict[str, object], tokens: int
) -> tuple[Segment, ...]:
    names = None if layout.blocks is None else row.get(layout.blocks)
    if names is None and not layout.blocks_needed:
        return (Segment(f"own/{line.number}", tokens),)
    full, tail = divmod(tokens, MOONCAKE_BLOCK_TOKENS)
    needed = full + bool(tail)
    if not isinstance(names, list) or len(names) < needed:
        raise line.refuse(
            f"{layout.blocks} has fewer than the {needed} blocks of {layout.prompt} {tokens}"
        )
    for name in names:
        if not isinstance(name, int | str) or isinstance(name, bool):
            raise line.refuse(f"{layout.blocks} holds {name!r}; expected whole numbers")
    segments = [Segment(f"block/{name}", MOONCAKE_BLOCK_TOKENS) for name in names[:full]]
    if tail:
        segments.append(Segment(f"block/{names[full]}", tail))
    return tuple(segments)


def _class(line: Line, layout: Layout, row: dict[str, object]) -> RequestClass | None:
    named = None if layout.request_class is None else row.get(layout.request_class)
    if named is None:
        return None
    if not isinstance(named, str) or named not in CLASSES:
        raise line.refuse(f"{layout.request_class} is {named!r}; expected {', '.join(CLASSES)}")
    return CLASSES[named]


MOONCAKE = Layout(
    at="timestamp", unit_ns=1_000_000, times_are="milliseconds",
    prompt="input_length", output="output_length", blocks="hash_ids", blocks_needed=True,
)  # fmt: skip
SPLITWEAVE = Layout(
    at="at_s", unit_ns=1_000_000_000, times_are="seconds", prompt="prompt_tokens",
    output="output_tokens", blocks="blocks", request_class="class",
)  # fmt: skip
LLMSERVINGSIM = Layout(
    at="arrival_time", unit_ns=1_000_000_000, times_are="seconds",
    prompt="input_toks", output="output_toks",
)  # fmt: skip
