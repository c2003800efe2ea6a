"""A run as a Chrome trace, for ui.perfetto.dev: workers, their requests, moves and load.

Shows the requests whose streams the world has kept: all of a checked world, of others
the first thousand that ended; the trace's metadata says how many of how many. A
request is a span on every worker it was on, and on the gateway from its arrival to
its last token; a move is a span of its source. Times are microseconds.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...proto.ids import WorkerId
from ...proto.move import MoveReport, Stage
from ..clients import Stream
from .records import UNKNOWN
from .results import Results

GATEWAY = "clients"
REQUESTS_MAX = 2_000
Event = dict[str, Any]


def write_trace(results: Results, path: Path) -> None:
    """The trace of a run at `path`. Raises ResultsError, OSError."""
    path.write_text(json.dumps(trace_of(results)))


def trace_of(results: Results) -> dict[str, Any]:
    """The trace as the JSON object format's tables."""
    world = results.run().world
    streams = [stream for stream in world.clients.streams.values() if stream.ended][:REQUESTS_MAX]
    numbers = {name: number for number, name in enumerate([GATEWAY, *world.worker_ids], start=1)}
    events = list(_names(numbers))
    for stream in streams:
        events += _request(stream, numbers)
    events += _counters(results, numbers)
    asked = world.clients.asked
    return {
        "traceEvents": events,
        "displayTimeUnit": "ms",
        "otherData": {
            "scenario": results.name,
            "shown": f"{len(streams)} of {asked} requests, the first that ended; all samples",
        },
    }


def _names(numbers: dict[str, int]) -> Iterator[Event]:
    for name, number in numbers.items():
        yield {"ph": "M", "pid": number, "name": "process_name", "args": {"name": name}}
        yield {"ph": "M", "pid": number, "name": "process_sort_index", "args": {"sort": number}}


def _request(stream: Stream, numbers: dict[str, int]) -> Iterator[Event]:
    facts = {
        "prompt_tokens": stream.prompt_tokens,
        "output_tokens": stream.tokens,
        "class": stream.request_class.value,
    }
    end_ns = stream.asked_ns if stream.last_ns is None else stream.last_ns
    yield from _span(stream, numbers[GATEWAY], "request", (stream.asked_ns, end_ns), facts)
    if stream.account is None or not stream.account.workers:
        return
    where: WorkerId = stream.account.workers[0].worker_id
    stages = stream.stages
    if UNKNOWN in (stages.placed_ns, stages.began_ns, stages.computed_ns):
        return
    yield from _span(stream, numbers[where], "wait", (stages.placed_ns, stages.began_ns), {})
    yield from _span(stream, numbers[where], "prefill", (stages.began_ns, stages.computed_ns), {})
    since_ns = stages.computed_ns
    for move in stream.account.moves:
        yield from _move(stream, move, numbers)
        if move.outcome is Stage.COMMITTED and move.source.worker_id == where:
            yield from _span(stream, numbers[where], "decode", (since_ns, move.ended_ns), {})
            where, since_ns = move.target.worker_id, move.ended_ns
    if end_ns > since_ns:
        yield from _span(stream, numbers[where], "decode", (since_ns, end_ns), {})


def _move(stream: Stream, move: MoveReport, numbers: dict[str, int]) -> Iterator[Event]:
    facts = {
        "to": move.target.worker_id,
        "bytes": move.transfer_bytes,
        "hidden": round(move.hidden_share, 3),
        "outcome": move.outcome.value,
    }
    times_ns = (move.asked_ns, move.ended_ns)
    yield from _span(stream, numbers[move.source.worker_id], move.kind.value, times_ns, facts)


def _span(
    stream: Stream, process: int, what: str, times_ns: tuple[int, int], facts: Event
) -> Iterator[Event]:
    begin_ns, end_ns = times_ns
    shared = {"cat": what, "id": stream.request_id, "pid": process, "tid": 1}
    name = f"{what} {stream.request_id}"
    yield {"ph": "b", "name": name, "ts": begin_ns / 1e3, "args": facts, **shared}
    yield {"ph": "e", "name": name, "ts": max(begin_ns, end_ns) / 1e3, **shared}


def _counters(results: Results, numbers: dict[str, int]) -> Iterator[Event]:
    samples = results.samples
    for worker in samples.workers if samples is not None else ():
        assert samples is not None
        number = numbers[worker.worker_id]
        gauges = (("running", worker.running), ("KV occupancy", worker.kv_occupancy))
        for name, values in gauges:
            for index, value in enumerate(values):
                at_us = (index + 1) * samples.period_s * 1e6
                if value is not None:
                    args = {name: value}
                    yield {"ph": "C", "pid": number, "name": name, "ts": at_us, "args": args}
