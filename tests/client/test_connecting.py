"""Before the first word: a gateway that is slow to take a call."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from splitweave.client import AsyncClient, Client, RetryPolicy
from wire_server import accepted, finished, tokens, wired

ANSWER = [accepted(), tokens(0, 1), finished("!")]
ONCE = RetryPolicy(tries_max=1)


async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


@asynccontextmanager
async def slow_to(address: str, delay_s: float) -> AsyncIterator[str]:
    """A way to `address` on which the first byte of a connection takes that long."""
    host, _, port = address.rpartition(":")
    connections: list[asyncio.Task[None]] = []

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(delay_s)
        far_reader, far_writer = await asyncio.open_connection(host, port)
        await asyncio.gather(carry(reader, far_writer), carry(far_reader, writer))

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(asyncio.create_task(connect(reader, writer)))

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        yield "{}:{}".format(*server.sockets[0].getsockname())
    finally:
        server.close()
        await asyncio.gather(*connections)


@pytest.mark.parametrize("kind", [Client, AsyncClient])
async def test_a_connection_that_takes_half_a_second_is_waited_for(
    kind: type[Client | AsyncClient],
) -> None:
    """An attempt used to be given up after 0.1 s: on a busy machine, or a far one, each of them."""
    async with wired(ANSWER) as wire, slow_to(wire.address, 0.5) as address:
        client = kind(address, retry=ONCE)
        if isinstance(client, Client):
            result = await asyncio.to_thread(client.generate, "x")
            client.close()
        else:
            result = await client.generate("x")
            await client.aclose()
    assert (result.text, result.retries, len(wire.methods)) == ("0,1,!", 0, 1)
