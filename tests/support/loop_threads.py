"""Shells that run on a loop of their own, in a test: waited for, and ended."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

WAIT_S = 60.0


def started(shell: Any) -> None:
    """Returns when the shell's `_main` has."""

    async def main_done() -> None:
        running = [task for task in asyncio.all_tasks() if "._main" in repr(task.get_coro())]
        await asyncio.gather(*running)

    shell._thread.result(main_done(), WAIT_S)


def on_loop(shell: Any, work: Callable[[], Any]) -> Any:
    """Run `work` on the shell's loop, after all that was handed to it before."""

    async def run() -> Any:
        return work()

    return shell._thread.result(run(), WAIT_S)


@contextmanager
def ending(shell: Any) -> Iterator[Any]:
    """The shell; its tasks, timers and thread end with the block."""
    try:
        yield shell
    finally:
        shell._thread.result(_cancel_all(shell), WAIT_S)
        loop = shell._thread.loop
        loop.call_soon_threadsafe(loop.stop)
        shell._thread._thread.join(WAIT_S)
        loop.close()


async def _cancel_all(shell: Any) -> None:
    if shell._shell is not None:
        shell._shell.close()
        if shell._shell._recorder is not None:
            shell._shell._recorder.close()
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
