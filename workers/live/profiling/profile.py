"""A profile of one worker: measured, and written as the simulator's measured table.

The table's time is the engine's, plus what a WorkerCore takes between two iterations
of as many requests; or, if a live worker was timed as well (`live`), that worker's time.
"""

import platform
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from .... import __version__
from ..engine import Engine
from .beside import Beside
from .live import Host, LiveCost
from .shapes import Room, Shape, left_out, shapes_of
from .timing import host_us, time_shapes

COLUMNS = ("prefill_tokens", "prefill_context", "decodes", "decode_context", "time_us")
HOST_BATCHES = (1, 32)
Progress = Callable[[int, int], None]  # (measurements done, in all)


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What was measured, in microseconds, and on what."""

    times_us: dict[Shape, float]
    host: Host
    missing: int  # points of the grids that there was no room for
    device: str
    model: str
    beside: Beside | None = None
    live: LiveCost | None = None  # None: a worker's core is added, and nothing else

    def us(self, shape: Shape) -> float:
        """A whole iteration, up to the next one's begin."""
        engine_us = self.times_us[shape]
        if self.live is not None:
            return self.live.us(shape, engine_us)
        return engine_us + self.host.us(shape.decodes + (shape.prefill_tokens > 0))

    def around(self) -> str:
        """What is in every row beside the engine."""
        if self.live is not None:
            return f"# live = {self.live.describe()}, in every row"
        host = self.host
        return f"# host = {host.base_us:.1f} us and {host.each_us:.2f} us per request, in every row"


def measure(engine: Engine, room: Room, model: str, rounds: int, progress: Progress) -> Profile:
    """Measure every shape that fits, `rounds` times each."""
    shapes = shapes_of(room)
    total = (rounds + 1) * len(shapes)
    times = time_shapes(
        engine, shapes, room.block_tokens, rounds, lambda done: progress(done, total)
    )
    return Profile(
        times_us=times,
        host=_host(room),
        missing=left_out(room),
        device=device_name(),
        model=model,
    )


def table_of(profile: Profile) -> str:
    """The profile as the CSV file that `[hardware.NAME] kind = "table"` reads."""
    lines = [
        "# engine = splitweave",
        f"# version = {__version__}",
        "# kernel = exact",
        f"# device = {profile.device}",
        f"# model = {profile.model}",
        f"# date = {datetime.now(UTC).date().isoformat()}",
        profile.around(),
        *(profile.beside.lines() if profile.beside else ()),
        ",".join(COLUMNS),
    ]
    lines += [
        f"{shape.prefill_tokens},{shape.prefill_context},{shape.decodes},"
        f"{shape.decode_context},{profile.us(shape):.1f}"
        for shape in profile.times_us
    ]
    return "\n".join(lines) + "\n"


def device_name() -> str:
    """The processor's own name, where the system tells it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _host(room: Room) -> Host:
    few, many = (min(count, room.sequences_max) for count in HOST_BATCHES)
    one_us = host_us(few, room.block_tokens)
    if many == few:
        return Host(base_us=one_us, each_us=0.0)
    each_us = max(0.0, (host_us(many, room.block_tokens) - one_us) / (many - few))
    return Host(base_us=max(0.0, one_us - each_us * few), each_us=each_us)
