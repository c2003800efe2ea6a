"""Leaving early: streams that are closed, tasks that are cancelled, clients that are closed."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any

import pytest
from both_clients import KINDS
from longer import longer
from splitweave.client import (
    AsyncClient,
    Cancelled,
    Client,
    Overloaded,
    RetryPolicy,
    SplitweaveError,
    Unavailable,
    sync,
)
from wire_server import HANG, UNAVAILABLE, Wire, accepted, finished, tokens, wired

NEVER = "127.0.0.1:1"
WAIT_S = 60.0
HANGING = [accepted(), tokens(0, 1), HANG]
LONG = RetryPolicy(backoff_s=600.0, backoff_max_s=600.0)


@pytest.fixture
async def hanging() -> AsyncIterator[Wire]:
    async with wired(HANGING) as wire:
        yield wire


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("used", [True, False])
async def test_a_closed_client_says_so_and_does_not_crash(kind: str, used: bool) -> None:
    """grpcio 1.85 ends the process if a stub is made on a closed channel."""
    async with wired([accepted(), finished()]) as wire:
        client = KINDS[kind](wire.address)
        if used:
            await client.call("generate", "x")
        await client.close()
        await client.close()
        for method, arguments in (("generate", ("x",)), ("status", ()), ("cancel", ("r",))):
            with pytest.raises(Cancelled, match="the client is closed"):
                await client.call(method, *arguments)
    assert len(wire.methods) == used


@pytest.mark.parametrize("kind", KINDS)
async def test_closing_the_client_ends_a_stream_in_progress_with_cancelled(
    kind: str, hanging: Wire
) -> None:
    client = KINDS[kind](hanging.address)
    reading = asyncio.ensure_future(client.stream("x"))
    await client.received(2)
    await client.close()
    with pytest.raises(Cancelled):
        await reading
    await hanging.left.wait()
    assert len(hanging.methods) == 1


@pytest.mark.parametrize("kind", KINDS)
async def test_closing_the_client_ends_a_call_in_progress_with_cancelled(kind: str) -> None:
    async with wired([HANG]) as wire:
        client = KINDS[kind](wire.address)
        calling = asyncio.ensure_future(client.call("status"))
        await wire.hanging.wait()
        await client.close()
        with pytest.raises(Cancelled):
            await calling


@pytest.mark.parametrize("make", [lambda: Client(NEVER), lambda: AsyncClient(NEVER)])
async def test_nothing_is_sent_before_the_first_delta_is_asked_for(
    make: Callable[[], Any],
) -> None:
    client = make()
    stream = client.stream("x", request_id="mine")
    assert stream.request_id == "mine"
    if isinstance(client, Client):
        stream.close()
        with pytest.raises(Cancelled, match="closed before its end"):
            _ = stream.result
        client.close()
    else:
        await stream.aclose()
        with pytest.raises(Cancelled, match="closed before its end"):
            await stream.result()
        await client.aclose()


async def test_leaving_a_blocking_stream_cancels_the_call(hanging: Wire) -> None:
    def read() -> None:
        with Client(hanging.address) as client, client.stream("x") as stream:
            assert next(stream).text == "0,1,"

    await asyncio.to_thread(read)
    await hanging.left.wait()


async def test_leaving_an_async_stream_cancels_the_call(hanging: Wire) -> None:
    async with AsyncClient(hanging.address) as client:
        async with client.stream("x") as stream:
            assert (await anext(stream)).text == "0,1,"
        await hanging.left.wait()
        with pytest.raises(StopAsyncIteration):
            await anext(stream)


async def test_a_cancelled_task_is_cancelled_and_so_is_its_call(hanging: Wire) -> None:
    """asyncio's CancelledError is the task's own: it is not turned into ours."""
    async with AsyncClient(hanging.address) as client:
        for method in ("generate", "chat"):
            hanging.left.clear()
            hanging.hanging.clear()
            prompt: Any = "x" if method == "generate" else [{"role": "user", "content": "x"}]
            task = asyncio.ensure_future(getattr(client, method)(prompt))
            await hanging.hanging.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await hanging.left.wait()


async def test_a_task_cancelled_after_the_client_was_closed_is_cancelled(hanging: Wire) -> None:
    client = AsyncClient(hanging.address)
    task = asyncio.ensure_future(client.generate("x"))
    await hanging.hanging.wait()
    closing = asyncio.ensure_future(client.aclose())
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await closing


async def test_a_timeout_around_a_call_works_as_asyncio_means_it(hanging: Wire) -> None:
    async with AsyncClient(hanging.address) as client:
        for limit_s in longer(0.2):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(client.generate("x"), limit_s)
            if hanging.hanging.is_set():
                break
        await hanging.left.wait()


async def test_closing_during_the_pause_before_a_retry_ends_with_cancelled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The next try finds its client closed: on a thread of its own, this once crashed."""
    pausing, go_on = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def sleep(_wait_s: float) -> None:
        loop.call_soon_threadsafe(pausing.set)
        assert go_on.wait(WAIT_S)

    monkeypatch.setattr(sync, "time", SimpleNamespace(sleep=sleep))
    async with wired([UNAVAILABLE], [accepted(), finished()]) as wire:
        client = Client(wire.address)
        caught: list[BaseException] = []

        def read() -> None:
            try:
                client.generate("x")
            except SplitweaveError as error:
                caught.append(error)

        reader = threading.Thread(target=read)
        reader.start()
        await pausing.wait()
        client.close()
        go_on.set()
        await asyncio.to_thread(reader.join)
    assert [type(error) for error in caught] == [Cancelled]
    assert len(wire.methods) == 1


@pytest.mark.parametrize("method", ["generate", "cancel"])
def test_a_client_closed_between_the_check_and_the_call_says_so_too(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another thread's `close`, at the worst moment: after `check_open`, before the call."""
    client = Client(NEVER)
    monkeypatch.setattr(client._operations, "remaining_s", lambda machine: client.close())
    with pytest.raises(Cancelled, match="the client is closed"):
        getattr(client, method)("x")


async def test_a_pause_before_a_retry_can_be_cancelled() -> None:
    async with wired([UNAVAILABLE]) as wire, AsyncClient(wire.address, retry=LONG) as client:
        task = asyncio.ensure_future(client.generate("x"))
        await wire.called.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_the_result_of_a_failed_stream_is_what_failed_it() -> None:
    async with wired([accepted(), tokens(0), UNAVAILABLE]) as wire:
        once = RetryPolicy(tries_max=1)
        async with AsyncClient(wire.address, retry=once) as client:
            stream = client.stream("x")
            with pytest.raises(Unavailable):
                _ = [delta async for delta in stream]
            with pytest.raises(Unavailable, match="so it is"):
                await stream.result()

        def read() -> None:
            with Client(wire.address, retry=once) as client:
                stream = client.stream("x")
                with pytest.raises(Unavailable):
                    list(stream)
                with pytest.raises(Unavailable, match="so it is"):
                    _ = stream.result

        await asyncio.to_thread(read)


async def test_an_error_of_the_consumer_leaves_the_stream_and_cancels_it(hanging: Wire) -> None:
    async def consume(client: AsyncClient) -> None:
        async with client.stream("x") as stream:
            async for _ in stream:
                raise Overloaded("mine")  # not to be taken for the gateway's

    async with AsyncClient(hanging.address) as client:
        with pytest.raises(Overloaded, match="mine"):
            await consume(client)
        await hanging.left.wait()
        assert len(hanging.methods) == 1
