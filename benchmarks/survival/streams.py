"""Runs requests as a client does, and compares what comes back with what came before."""

import asyncio
import itertools
import time
from dataclasses import dataclass, field

from splitweave.benchmarks.survival.asks import Ask
from splitweave.client import AsyncClient, Generation, Overloaded, SplitweaveError

Tokens = tuple[int, ...]


@dataclass(kw_only=True)
class Stream:
    """One request as its client saw it. `arrivals_s`: when each message with tokens came."""

    ask: Ask
    request_id: str
    began_s: float
    tokens: list[int] = field(default_factory=list)
    arrivals_s: list[float] = field(default_factory=list)
    outcome: str = "running"  # done, cancelled, rejected, failed, wrong
    error: str = ""
    result: Generation | None = None
    ended_s: float | None = None

    @property
    def gaps(self) -> list[tuple[float, float]]:
        """(from, to) of every wait for tokens, the first one included."""
        times = [self.began_s, *self.arrivals_s]
        return list(itertools.pairwise(times))


class References:
    """What each ask must yield: given, or learned from its first complete stream."""

    def __init__(self, known: dict[int, Tokens] | None = None) -> None:
        self._known = dict(known or {})

    def judge(self, stream: Stream) -> bool:
        """Whether the stream's tokens are those that the ask has always had."""
        tokens = tuple(stream.tokens)
        known = self._known.get(stream.ask.index)
        if known is None:
            if stream.outcome == "done":
                self._known[stream.ask.index] = tokens
            return True
        return known[: len(tokens)] == tokens and (stream.outcome != "done" or known == tokens)


async def run_stream(
    client: AsyncClient, ask: Ask, timeout_s: float, cancel_after: int | None = None
) -> Stream:
    """One request to its end, whatever that is. `cancel_after` tokens its client hangs up."""
    running = client.stream(list(ask.token_ids), timeout_s=timeout_s, **ask.options)
    stream = Stream(ask=ask, request_id=running.request_id, began_s=time.monotonic())
    try:
        async for delta in running:
            if delta.tokens:
                stream.tokens += [token.token_id for token in delta.tokens]
                stream.arrivals_s.append(time.monotonic())
            if cancel_after is not None and len(stream.tokens) >= cancel_after:
                stream.outcome = "cancelled"
                break
        else:
            stream.result = await running.result()
            stream.outcome = "done"
    except Overloaded as error:
        # Turned away before its first token: that is admission control, not a loss.
        stream.outcome, stream.error = "failed" if stream.tokens else "rejected", str(error)
    except SplitweaveError as error:
        stream.outcome, stream.error = "failed", f"{type(error).__name__}: {error}"
    finally:
        await running.aclose()
    stream.ended_s = time.monotonic()
    return stream


async def run_alone(address: str, asks: list[Ask], timeout_s: float) -> dict[int, Tokens]:
    """One at a time: what every other way must repeat. Raises SplitweaveError."""
    async with AsyncClient(address, timeout_s=timeout_s) as client:
        return {
            ask.index: (await client.generate(list(ask.token_ids), **ask.options)).token_ids
            for ask in asks
        }


async def settle(tasks: set[asyncio.Task[None]], timeout_s: float) -> bool:
    """Waits for what still runs; cancels what has not ended by then. True if all had."""
    if not tasks:
        return True
    _, late = await asyncio.wait(tasks, timeout=timeout_s)
    for task in late:
        task.cancel()
    await asyncio.gather(*late, return_exceptions=True)
    return not late
