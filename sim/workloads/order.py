"""Puts streams of arrivals in order of time without holding them.

Every function takes and gives arrivals one at a time; what waits inside is bounded.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from heapq import heappop, heappush, heappushpop, merge
from math import inf
from operator import attrgetter
from pathlib import Path
from random import Random

from ..clock import NS_PER_S, to_ns
from ..errors import TraceError
from .arrivals import Arrival, Segment
from .lines import Line

REORDER_MAX = 4096  # lines that one may stand too late in its file


@dataclass(frozen=True, slots=True)
class Row:
    """An arrival, and the line that it stands in."""

    line: Line
    arrival: Arrival


def in_order(path: Path, rows: Iterable[Row]) -> Iterator[Arrival]:
    """Sorted by time, ties by line, the first at 0. Raises TraceError for a file unsorted
    beyond REORDER_MAX lines, and for one without requests.
    """
    origin_ns: int | None = None
    last_ns = 0
    for row in _nearly_sorted(rows):
        at_ns = row.arrival.at_ns
        if origin_ns is None:
            origin_ns = last_ns = at_ns
        if at_ns < last_ns:
            early_s = (last_ns - at_ns) / NS_PER_S
            raise row.line.refuse(
                f"its time is {early_s:g} s before that of a request more than {REORDER_MAX} "
                "lines earlier; sort the file by time"
            )
        last_ns = at_ns
        yield replace(row.arrival, at_ns=at_ns - origin_ns) if origin_ns else row.arrival
    if origin_ns is None:
        raise TraceError(f"{path}: no requests in it")


def _nearly_sorted(rows: Iterable[Row]) -> Iterator[Row]:
    waiting: list[tuple[int, int, Row]] = []
    for row in rows:
        entry = (row.arrival.at_ns, row.line.number, row)
        if len(waiting) < REORDER_MAX:
            heappush(waiting, entry)
        else:
            yield heappushpop(waiting, entry)[2]
    while waiting:
        yield heappop(waiting)[2]


def spread(arrivals: Iterable[Arrival], bucket_s: float, seed: int) -> Iterator[Arrival]:
    """Stamps that fall in buckets of `bucket_s`, spread evenly at random within them."""
    random = Random(f"spread {seed}")
    width_ns = to_ns(bucket_s)
    waiting: list[tuple[int, int, Arrival]] = []
    for number, arrival in enumerate(arrivals):
        while waiting and waiting[0][0] < arrival.at_ns:  # nothing to come is earlier
            yield heappop(waiting)[2]
        moved = replace(arrival, at_ns=arrival.at_ns + int(random.random() * width_ns))
        heappush(waiting, (moved.at_ns, number, moved))
    while waiting:
        yield heappop(waiting)[2]


def scaled(arrivals: Iterable[Arrival], speedup: float) -> Iterator[Arrival]:
    """`speedup` times as fast: every time divided by it. Think times stay."""
    if speedup == 1:
        yield from arrivals
        return
    for arrival in arrivals:
        yield replace(arrival, at_ns=round(arrival.at_ns / speedup))


def cut(
    arrivals: Iterable[Arrival], from_s: float, until_s: float | None, requests: int | None
) -> Iterator[Arrival]:
    """The first `requests` of those in [from_s, until_s), dated from `from_s`."""
    from_ns = to_ns(from_s)
    until_ns = inf if until_s is None else to_ns(until_s)
    left = inf if requests is None else requests
    for arrival in arrivals:
        if arrival.at_ns >= until_ns:
            return
        if arrival.at_ns >= from_ns:
            yield replace(arrival, at_ns=arrival.at_ns - from_ns) if from_ns else arrival
            left -= 1
            if not left:
                return


def merged(parts: Sequence[Iterable[Arrival]]) -> Iterator[Arrival]:
    """Several workloads as one. No two parts share a prefix."""
    named = [map(partial(_renamed, part), arrivals) for part, arrivals in enumerate(parts)]
    return merge(*named, key=attrgetter("at_ns"))


def _renamed(part: int, arrival: Arrival) -> Arrival:
    turns = tuple(replace(t, message=_of_part(part, t.message)) for t in arrival.turns)
    segments = tuple(_of_part(part, segment) for segment in arrival.segments)
    return replace(arrival, segments=segments, turns=turns)


def _of_part(part: int, segment: Segment) -> Segment:
    kind, _, name = segment.name.partition("/")
    return Segment(f"{kind}/{part}/{name}", segment.tokens)
