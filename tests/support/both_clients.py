"""`Client` and `AsyncClient` behind one face, so that each test runs on both."""

import asyncio
from typing import Any

from splitweave.client import AsyncClient, Client, Delta, Generation, Prompt, RetryPolicy

PATIENT = RetryPolicy(tries_max=8, resume_tries_max=8, backoff_s=0.0)


class Counter:
    """How many tokens have come, for a test that waits for some."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Condition()
        self._count = 0

    def take(self, delta: Delta) -> Delta:
        """Called on any thread."""
        asyncio.run_coroutine_threadsafe(self._add(len(delta.tokens)), self._loop)
        return delta

    async def reach(self, count: int) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: self._count >= count)

    async def _add(self, count: int) -> None:
        async with self._changed:
            self._count += count
            self._changed.notify_all()


class Blocking:
    """The blocking client, on a thread."""

    def __init__(self, addresses: str, **settings: Any) -> None:
        self._client = Client(addresses, retry=PATIENT, **settings)
        self._counter = Counter()
        self.received = self._counter.reach

    async def stream(self, prompt: Prompt, **options: Any) -> tuple[list[Delta], Generation]:
        def read() -> tuple[list[Delta], Generation]:
            with self._client.stream(prompt, **options) as stream:
                return [self._counter.take(delta) for delta in stream], stream.result

        return await asyncio.to_thread(read)

    async def take(self, count: int, prompt: Prompt, **options: Any) -> list[Delta]:
        """The first deltas; then the stream is closed."""

        def read() -> list[Delta]:
            with self._client.stream(prompt, **options) as stream:
                return [next(stream) for _ in range(count)]

        return await asyncio.to_thread(read)

    async def call(self, method: str, *args: Any, **options: Any) -> Any:
        return await asyncio.to_thread(getattr(self._client, method), *args, **options)

    async def close(self) -> None:
        self._client.close()


class Async:
    """The asyncio client."""

    def __init__(self, addresses: str, **settings: Any) -> None:
        self._client = AsyncClient(addresses, retry=PATIENT, **settings)
        self._counter = Counter()
        self.received = self._counter.reach

    async def stream(self, prompt: Prompt, **options: Any) -> tuple[list[Delta], Generation]:
        async with self._client.stream(prompt, **options) as stream:
            deltas = [self._counter.take(delta) async for delta in stream]
            return deltas, await stream.result()

    async def take(self, count: int, prompt: Prompt, **options: Any) -> list[Delta]:
        """The first deltas; then the stream is closed."""
        async with self._client.stream(prompt, **options) as stream:
            return [await anext(stream) for _ in range(count)]

    async def call(self, method: str, *args: Any, **options: Any) -> Any:
        return await getattr(self._client, method)(*args, **options)

    async def close(self) -> None:
        await self._client.aclose()


KINDS = {"blocking": Blocking, "asyncio": Async}
