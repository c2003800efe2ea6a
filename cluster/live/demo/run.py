"""The demo's story: start, stream, migrate, compare."""

import asyncio
import dataclasses
import time
from collections.abc import Sequence

from rich.console import Console
from rich.live import Live
from rich.markup import escape

from ....client import AsyncClient, Generation, Message, Options, SplitweaveError
from ....proto.views import Role
from ..cluster import LiveCluster
from ..config import ClusterConfig, GatewayConfig, ModelConfig, PoolConfig, RayConfig
from .prompts import ASKS, Ask
from .screen import Chat, Screen, table

MIGRATE_AFTER_TOKENS = 16
STATUS_S = 0.3
REQUEST_TIMEOUT_S = 120.0


def demo_config() -> ClusterConfig:
    """1P2D on CPU, on a free port."""
    return ClusterConfig(
        model=ModelConfig(path="demo"),
        pools=[
            PoolConfig(name="prefill", role=Role.PREFILL, count=1, cpus=0.4),
            PoolConfig(name="decode", role=Role.DECODE, count=2, cpus=0.4),
        ],
        gateway=GatewayConfig(port=0),
        ray=RayConfig(address="local"),
    )


def lone_config() -> ClusterConfig:
    """One mixed worker: what disaggregation is compared with."""
    return dataclasses.replace(
        demo_config(),
        pools=[PoolConfig(name="lone", role=Role.MIXED, count=1, cpus=0.4)],
        ray=RayConfig(address="local", namespace="splitweave-lone"),
    )


def run(console: Console) -> bool:
    """The whole demo; True if the migration committed and every stream was equal."""
    started = time.monotonic()
    with console.status("starting Ray") as status:
        cluster = LiveCluster.start(
            demo_config(),
            lambda what, done, total: status.update(f"{what}: {done} of {total} workers ready"),
        )
    try:
        console.print(
            f"1 prefill + 2 decode workers ready after {time.monotonic() - started:.1f} s, "
            f"gateway on {cluster.address}"
        )
        chats = [Chat(ask) for ask in ASKS]
        asyncio.run(_stream_all(cluster.address, chats, console))
        with console.status("the same requests, one at a time, on a lone mixed worker"):
            reference = _run_alone()
    finally:
        cluster.stop()
    return _report(console, chats, reference)


def _report(console: Console, chats: Sequence[Chat], reference: Sequence[Generation]) -> bool:
    equal = [
        chat.result is not None and chat.result.token_ids == alone.token_ids
        for chat, alone in zip(chats, reference, strict=True)
    ]
    console.print(table(chats, equal))
    migrated = all(
        chat.result is not None and chat.result.accounting.migrations > 0
        for chat in chats
        if chat.ask.migrate
    )
    if all(equal) and migrated:
        console.print(
            "[green]Every stream has the same tokens as on a lone worker, "
            "the migrated one too.[/green]"
        )
    if not migrated:
        console.print("[red]The migration did not take place.[/red]")
    if not all(equal):
        console.print("[red]Some streams differ from the lone worker's.[/red]")
    return all(equal) and migrated


async def _stream_all(address: str, chats: Sequence[Chat], console: Console) -> None:
    screen = Screen(chats)
    async with AsyncClient(address) as client:
        with Live(screen, console=console, refresh_per_second=8, transient=False):
            watcher = asyncio.create_task(_watch(client, screen))
            try:
                await asyncio.gather(*(_stream(client, chat, screen) for chat in chats))
            finally:
                watcher.cancel()


async def _stream(client: AsyncClient, chat: Chat, screen: Screen) -> None:
    ask = chat.ask
    stream = client.stream(_messages(ask), **_options(ask))
    migration: asyncio.Task[None] | None = None
    async for delta in stream:
        chat.text += delta.text
        chat.tokens += len(delta.tokens)
        if ask.migrate and migration is None and chat.tokens >= MIGRATE_AFTER_TOKENS:
            migration = asyncio.create_task(_migrate(client, stream.request_id, chat, screen))
    chat.result = await stream.result()
    if migration is not None:
        await migration


async def _migrate(client: AsyncClient, request_id: str, chat: Chat, screen: Screen) -> None:
    chat.note = "[yellow]migrating…[/yellow]"
    try:
        move = await client.migrate(request_id)
    except SplitweaveError as error:
        chat.note = "[red]not migrated[/red]"
        screen.log.append(f"[red]migration: {escape(str(error))}[/red]")
        return
    chat.note = f"[yellow]migrated {move.source} → {move.target} at token {chat.tokens}[/yellow]"


async def _watch(client: AsyncClient, screen: Screen) -> None:
    while True:
        try:
            screen.status = await client.status()
        except SplitweaveError:
            screen.status = None  # the streams matter, not this line
        await asyncio.sleep(STATUS_S)


def _run_alone() -> list[Generation]:
    cluster = LiveCluster.start_beside(lone_config())
    try:
        return asyncio.run(_one_by_one(cluster.address))
    finally:
        cluster.stop()


async def _one_by_one(address: str) -> list[Generation]:
    async with AsyncClient(address) as client:
        return [await client.generate(_messages(ask), **_options(ask)) for ask in ASKS]


def _messages(ask: Ask) -> list[Message]:
    return [Message(role=role, content=content) for role, content in ask.messages]


def _options(ask: Ask) -> Options:
    return Options(
        max_tokens=ask.max_tokens,
        temperature=ask.temperature,
        seed=ask.seed,
        timeout_s=REQUEST_TIMEOUT_S,
    )
