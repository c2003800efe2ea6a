"""What the demo shows: the chats while they stream, then one table."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from ....client import ClusterStatus, Generation, MoveKind
from .prompts import Ask


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

    def __rich__(self) -> RenderableType:
        return Group(*(_panel(chat) for chat in self.chats), _workers(self.status), *self.log[-2:])


def _panel(chat: Chat) -> Panel:
    mark = "[green]done[/green]" if chat.result else f"{chat.tokens} tokens"
    title = f"[bold]{escape(chat.ask.name)}[/bold] · {mark} {chat.note}"
    body = Text(chat.text[-360:] or "…")
    return Panel(body, title=title, title_align="left", border_style="dim")


def _workers(status: ClusterStatus | None) -> RenderableType:
    if status is None:
        return ""
    return " · ".join(
        f"[cyan]{worker.worker_id}[/cyan] {worker.running} running, {worker.waiting} waiting, "
        f"{worker.blocks.held + worker.blocks.leased}/{worker.blocks.total} blocks"
        for worker in status.workers
    )


def table(chats: Sequence[Chat], equal: Sequence[bool | None]) -> Table:
    """One row per request; `equal` says whether a lone worker gave the same tokens."""
    result = Table(title="What happened to each request", title_justify="left")
    result.add_column("request")
    result.add_column("workers visited")
    for name in ("prompt", "cached", "output", "TTFT s", "TPOT ms", "moved MB", "hidden"):
        result.add_column(name, justify="right")
    result.add_column("downtime ms", justify="right")
    result.add_column("equal")
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
        " → ".join(account.workers),
        str(usage.prompt_tokens),
        str(usage.cached_tokens),
        str(usage.output_tokens),
        f"{account.ttft_s:.2f}",
        f"{account.tpot_s * 1e3:.0f}",
        f"{moved / 1e6:.1f}",
        f"{account.handoff_hidden_share:.0%}" if account.handoff_bytes else "-",
        ", ".join(downtimes) or "-",
        {True: "[green]yes[/green]", False: "[red]NO[/red]", None: "?"}[same],
    ]
