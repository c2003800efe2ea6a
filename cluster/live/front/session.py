"""One open stream: the core's items in a queue, and a way to end it from outside.

A pump task owns the core's iterator. Ending the session, for whatever reason,
cancels the pump, which closes the iterator, which cancels the request
everywhere: a stream without a listener holds no blocks.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from enum import Enum

from .seams import StreamItem

log = logging.getLogger(__name__)


class Cut(Enum):
    """Why a session ends before its stream."""

    CANCELLED = "cancelled"  # by a Cancel call
    STOPPING = "stopping"  # the front shuts down
    RESUMED = "resumed"  # by a later call of its client
    BROKEN = "broken"  # the gateway's stream failed or ended without an end


class Session:
    """One stream on its way to one client. Whoever makes it closes it."""

    def __init__(self, items: AsyncIterator[StreamItem], resumes: int = 0) -> None:
        self.resumes = resumes  # of its client, this call included
        # Bounded by the stream's own length: at most one item per token.
        self._queue: asyncio.Queue[StreamItem | Cut] = asyncio.Queue()
        self._pump = asyncio.create_task(self._run(items))

    def cut(self, why: Cut) -> None:
        """End the session after what was delivered so far."""
        self._queue.put_nowait(why)

    async def take(self) -> list[StreamItem | Cut]:
        """What has come since the last call, at least one item."""
        taken = [await self._queue.get()]
        while not self._queue.empty():
            taken.append(self._queue.get_nowait())
        return taken

    def close(self) -> None:
        """Stop listening; a stream that has not ended is cancelled everywhere."""
        self._pump.cancel()

    async def _run(self, items: AsyncIterator[StreamItem]) -> None:
        try:
            async for item in items:
                self._queue.put_nowait(item)
        except Exception:  # the stream's outermost loop
            log.exception("stream failed")
        self._queue.put_nowait(Cut.BROKEN)  # nobody looks if an end came before it
