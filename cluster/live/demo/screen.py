"""What the demo shows: the chats while they stream, then one table.

Both fit a terminal of 80 columns and 24 rows: only the table's column of
workers folds, after an arrow.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from rich import box
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from ....client import ClusterStatus, Generation, MoveKind
from .prompts import Ask

LINES_SHOWN = 2  # of each chat: five chats and the workers fit 24 rows
LEGEND = "in hit out: tokens (hit: cached prefix) · hid: handoff hidden · same: as alone"
NUMBERS = ("in", "hit", "out", "TTFT\ns", "TPOT\nms", "moved\nMB", "hid\n%", "stop\nms")


@dataclass
class Chat:
    """One chat as it comes in."""

    ask: Ask
    text: str = ""
    tokens: int = 0
    note: str = ""
    result: Generation | None = None


@dataclass
class Screen:
    """Everything on show; rendered anew at each refresh."""

    chats: Sequence[Chat]
    status: ClusterStatus | None = None
    log: list[str] = field(default_factory=list)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from (_panel(chat, console, options.max_width) for chat in self.chats)
        yield _workers(self.status)
        yield from self.log[-1:]


def _panel(chat: Chat, console: Console, width: int) -> Panel:
    mark = "[green]done[/green]" if chat.result else f"{chat.tokens} tokens"
    title = f"[bold]{escape(chat.ask.name)}[/bold] · {mark} {chat.note}"
    text = Text(" ".join(chat.text.split()) or "…")
    newest = text.wrap(console, width - 4)[-LINES_SHOWN:]  # 4: the border and its padding
    return Panel(Text("\n").join(newest), title=title, title_align="left", border_style="dim")


def _workers(status: ClusterStatus | None) -> RenderableType:
    if status is None:
        return ""
    result = Table.grid(padding=(0, 2))
    for worker in status.workers:
        blocks = worker.blocks
        result.add_row(
            f"[cyan]{escape(worker.worker_id)}[/cyan]",
            f"{worker.running} running",
            f"{worker.waiting} waiting",
            f"{blocks.held + blocks.leased}/{blocks.total} blocks",
        )
    return result


def table(chats: Sequence[Chat], equal: Sequence[bool | None]) -> Table:
    """One row per request; `equal` says whether a lone worker gave the same tokens."""
    result = Table(title="What happened to each request", title_justify="left", box=box.SIMPLE_HEAD)
    result.caption, result.caption_justify = LEGEND, "left"
    result.padding, result.pad_edge = 0, False  # the box itself keeps columns apart
    result.add_column("request", no_wrap=True)
    result.add_column("workers visited")
    for name in NUMBERS:
        result.add_column(name, justify="right", no_wrap=True)
    result.add_column("same", no_wrap=True)
    for chat, same in zip(chats, equal, strict=True):
        if chat.result is not None:
            result.add_row(*_row(chat.ask.name, chat.result, same))
    return result


def _row(name: str, result: Generation, same: bool | None) -> list[str]:
    account, usage = result.accounting, result.usage
    moved = sum(move.transfer_bytes for move in account.moves)
    downtimes = [
        f"{move.downtime_s * 1e3:.0f}"
        for move in account.moves
        if move.kind is MoveKind.MIGRATION and move.committed
    ]
    return [
        name,
        "→ ".join(account.workers),  # the only spaces: a line ends with an arrow
        str(usage.prompt_tokens),
        str(usage.cached_tokens),
        str(usage.output_tokens),
        f"{account.ttft_s:.2f}",
        f"{account.tpot_s * 1e3:.0f}",
        f"{moved / 1e6:.1f}",
        f"{account.handoff_hidden_share * 100:.0f}" if account.handoff_bytes else "-",
        "+".join(downtimes) or "-",
        {True: "[green]yes[/green]", False: "[red]NO[/red]", None: "?"}[same],
    ]
