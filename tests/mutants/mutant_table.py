"""What a person sees: a table that fills while mutants are tried."""

import time
from types import TracebackType

from mutant import Mutant
from mutant_trial import Fate, Verdict
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

console = Console()
STYLES = {Fate.CAUGHT: "green", Fate.SURVIVED: "bold red", Fate.UNFIT: "bold magenta"}


class Board:
    """A live table on a terminal; elsewhere a line for each verdict."""

    def __init__(self, mutants: list[Mutant]) -> None:
        self.verdicts: list[Verdict] = []
        self._count = len(mutants)
        self._running: dict[str, float] = {}
        self._began = time.monotonic()
        self._live = Live(console=console, get_renderable=self._table, refresh_per_second=4)

    def __enter__(self) -> "Board":
        if console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._running.clear()
        if console.is_terminal:
            self._live.stop()

    def begin(self, mutant: Mutant) -> None:
        self._running = {**self._running, mutant.name: time.monotonic()}

    def end(self, verdict: Verdict) -> None:
        self._running = {k: v for k, v in self._running.items() if k != verdict.mutant.name}
        self.verdicts.append(verdict)
        if not console.is_terminal:
            line = f"{verdict.fate:8} {verdict.seconds:5.1f} s  {verdict.mutant.name}"
            console.print(line, _by(verdict), sep="  ", markup=False, soft_wrap=True)

    def summary(self) -> None:
        """Counts, and each mutant that nobody caught."""
        for verdict in self.verdicts:
            if verdict.fate is not Fate.CAUGHT:
                mutant = verdict.mutant
                said = f"\n{mutant.name} {verdict.fate}: {mutant.breaks} ({mutant.file})"
                console.print(said, style=STYLES[verdict.fate], markup=False, soft_wrap=True)
                change = f"- {mutant.old}\n+ {mutant.new}\n{verdict.by}"
                console.print(change, markup=False, highlight=False, soft_wrap=True)
        fates = [verdict.fate for verdict in self.verdicts]
        counted = ", ".join(f"{fates.count(fate)} {fate}" for fate in Fate if fate in fates)
        seconds = time.monotonic() - self._began
        console.print(f"\n{len(fates)} of {self._count} mutants in {seconds:.0f} s: {counted}")

    def _table(self) -> Table:
        table = Table(title="Planted bugs", title_justify="left")
        for column in ("mutant", "", "caught by"):
            table.add_column(column, overflow="fold")
        table.add_column("s", justify="right")
        for verdict in list(self.verdicts):
            fate = Text(verdict.fate, style=STYLES[verdict.fate])
            table.add_row(verdict.mutant.name, fate, Text(_by(verdict)), f"{verdict.seconds:.1f}")
        for name, began in self._running.items():
            table.add_row(name, "…", "", f"{time.monotonic() - began:.0f}", style="dim")
        waiting = self._count - len(self.verdicts) - len(self._running)
        if waiting > 0:
            table.caption = f"{waiting} more"
        return table


def _by(verdict: Verdict) -> str:
    return verdict.by.partition("\n")[0]


def show_list(mutants: list[Mutant]) -> None:
    """Names, files, and what each breaks."""
    table = Table(title=f"{len(mutants)} planted bugs", title_justify="left")
    for column in ("mutant", "file", "what it breaks"):
        table.add_column(column, overflow="fold")
    for mutant in mutants:
        table.add_row(mutant.name, mutant.file, Text(mutant.breaks))
    console.print(table)
