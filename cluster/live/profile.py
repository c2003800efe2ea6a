"""What `splitweave profile` does: loads a model as a worker would, and times its iterations."""

from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ...workers.live.engine import Engine, load_engine
from ...workers.live.profiling.links import measure_links
from ...workers.live.profiling.profile import Profile, measure, table_of
from ...workers.live.profiling.shapes import Room
from .config import ModelConfig
from .model_path import resolve


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What to measure, and how long."""

    model: str
    device: str
    threads: int
    room: Room
    rounds: int


def profile(wanted: Wanted, out: Path) -> None:
    """Measure, and write the table to `out`. Raises ConfigError, ModelError."""
    console = Console(stderr=True)
    path, name = resolve(ModelConfig(path=wanted.model))
    out.parent.mkdir(parents=True, exist_ok=True)
    room = wanted.room
    with console.status(f"loading {name}"):
        engine = load_engine(path, room.blocks, room.block_tokens, wanted.device, wanted.threads)
    found = _measured(console, engine, wanted, name)
    out.write_text(table_of(found))
    links = measure_links(engine, wanted.rounds) if wanted.device == "cpu" else []
    console.print(
        f"{len(found.times_us)} iteration shapes of {name} on {found.device}, "
        f"{found.missing} left out for want of room; wrote {out}",
        markup=False, highlight=False, soft_wrap=True,
    )  # fmt: skip
    console.print(
        "use it:  [hardware.mine]\n"
        f'         kind = "table"\n         path = "{out}"',
        markup=False, highlight=False, soft_wrap=True,
    )  # fmt: skip
    for link in links:
        console.print(
            f"         link_gbytes_per_s = {link.bytes_per_s / 1e9:.3g}, link_latency_us = "
            f"{link.latency_us:.0f}  # through {link.way}, fitted to {link.error:.0%}",
            markup=False, highlight=False, soft_wrap=True,
        )  # fmt: skip


def _measured(console: Console, engine: Engine, wanted: Wanted, name: str) -> Profile:
    columns = (
        TextColumn("measuring"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    )  # fmt: skip
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("measuring", total=None)

        def show(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        return measure(engine, wanted.room, name, wanted.rounds, show)
