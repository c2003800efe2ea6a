"""What `splitweave profile` does: loads a model as a worker would, and times its iterations."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ...workers.live.engine import Engine
from ...workers.live.profiling.beside import KINDS, Beside, measure_beside
from ...workers.live.profiling.links import measure_links
from ...workers.live.profiling.live import LiveCost
from ...workers.live.profiling.neighbours import EngineSetup, NeighbourError, Neighbours
from ...workers.live.profiling.profile import Profile, measure, table_of
from ...workers.live.profiling.shapes import Room
from .config import ConfigError, ModelConfig
from .model_path import resolve
from .profile_live import cluster_of, measure_live, measure_live_beside


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What to measure, and how long."""

    model: str
    device: str
    threads: int
    room: Room
    rounds: int
    live: bool = False  # through a real worker process too
    beside: int = 0  # other workers of the machine, to be measured beside


def profile(wanted: Wanted, out: Path) -> None:
    """Measure, and write the table to `out`. Raises ConfigError, ModelError."""
    console = Console(stderr=True)
    path, name = resolve(ModelConfig(path=wanted.model))
    out.parent.mkdir(parents=True, exist_ok=True)
    room = wanted.room
    setup = EngineSetup(
        model_path=str(path), device=wanted.device, threads=wanted.threads,
        blocks=room.blocks, block_tokens=room.block_tokens,
    )  # fmt: skip
    with console.status(f"loading {name}"):
        engine = setup.load()
    found = _measured(console, engine, wanted, name)
    if wanted.live:
        found = replace(found, live=_live(console, engine, wanted))
    if wanted.beside and found.live is not None:
        found = replace(found, beside=_live_beside(console, engine, wanted, found.live))
    elif wanted.beside:
        found = replace(found, beside=_beside(console, engine, setup, wanted))
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
    with _bar(console, "measuring") as show:
        return measure(engine, wanted.room, name, wanted.rounds, show)


def _live(console: Console, engine: Engine, wanted: Wanted) -> LiveCost:
    config = cluster_of(wanted.model, wanted.device, wanted.threads, wanted.room)
    with _bar(console, "through a live worker") as show:
        cost = measure_live(engine, config, wanted.room, wanted.rounds, show)
    console.print(f"a live worker: {cost.describe()}", highlight=False, soft_wrap=True)
    return cost


def _live_beside(console: Console, engine: Engine, wanted: Wanted, cost: LiveCost) -> Beside:
    workers = 1 + wanted.beside
    config = cluster_of(wanted.model, wanted.device, wanted.threads, wanted.room, workers)
    with _bar(console, f"{workers} live workers") as show:
        found = measure_live_beside(engine, config, wanted.room, wanted.rounds, cost, show)
    _tell(console, found)
    return found


def _beside(console: Console, engine: Engine, setup: EngineSetup, wanted: Wanted) -> Beside:
    try:
        with console.status(f"starting {wanted.beside} neighbours"):
            neighbours = Neighbours(setup, wanted.beside)
    except NeighbourError as error:
        raise ConfigError(f"--beside {wanted.beside}: {error}") from None
    with neighbours, _bar(console, f"beside {wanted.beside} more") as show:
        found = measure_beside(engine, wanted.room, neighbours, wanted.rounds, show)
    _tell(console, found)
    return found


def _tell(console: Console, found: Beside) -> None:
    for kind, other in product(KINDS, KINDS):
        console.print(found.describe(kind, other), highlight=False, soft_wrap=True)


@contextmanager
def _bar(console: Console, what: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar; gives what moves it: (done, in all)."""
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    )  # fmt: skip
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(what, total=None)

        def show(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        yield show
