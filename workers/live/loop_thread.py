"""An asyncio loop of our own in a thread of a Ray actor.

Ray runs an actor's methods on its own thread; ours only hand work to this
loop. So an actor that Ray restarts is at work as soon as it is constructed,
and a slow constructor does not hold up its mailbox.
"""

import asyncio
import logging
import os
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
log = logging.getLogger(__name__)


class LoopThread:
    """Runs `main` on a loop in a daemon thread. A failure in it ends the process.

    Ending is the contract: a half-alive party is worse than a dead one, and
    Ray starts a new incarnation.
    """

    def __init__(self, name: str, main: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self.loop = asyncio.new_event_loop()
        self.loop.set_exception_handler(_end_process)
        self._main = main
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def call_soon(self, callback: Callable[..., object], *args: Any) -> None:
        """Run `callback(*args)` on the loop; dropped once it is closed."""
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(callback, *args)

    def result(self, coroutine: Coroutine[Any, Any, T], timeout_s: float) -> T:
        """Run `coroutine` on the loop and wait for it here; raises TimeoutError."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(timeout_s)

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        task = self.loop.create_task(self._main())
        task.add_done_callback(_end_process_if_failed)
        self.loop.run_forever()


def _end_process_if_failed(task: "asyncio.Task[None]") -> None:
    if not task.cancelled() and task.exception() is not None:
        log.critical("start failed", exc_info=task.exception())
        os._exit(1)


def _end_process(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    error = context.get("exception")
    if isinstance(error, ConnectionError | asyncio.CancelledError | None):
        log.warning("loop: %s", context.get("message"))
        return
    log.critical("loop: %s", context.get("message"), exc_info=error)
    os._exit(1)
