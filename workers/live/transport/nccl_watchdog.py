"""Bounds calls that may never return: aborts, and the opening of communicators.

A communicator is aborted by a thread of its own, as the thread that uses it may
be stuck inside. When the abort is stuck as well, nothing in this process can
free the GPU: `on_stuck` is told, once, and the worker starts again.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from .nccl_dispatch import Line

OnStuck = Callable[[str], None]
log = logging.getLogger(__name__)


class Watchdog:
    """One thread that watches deadlines. Methods may be called from any thread."""

    def __init__(self, abort_stuck_s: float, on_stuck: OnStuck) -> None:
        self._abort_stuck_s = abort_stuck_s
        self._on_stuck = on_stuck
        self._changed = threading.Condition()  # guards all below
        self._guards: dict[int, tuple[float, str]] = {}
        self._numbers = 0
        self._stuck = False
        self._closed = False
        self._thread = threading.Thread(target=self._watch, name="kv-watchdog", daemon=True)
        self._thread.start()

    @property
    def stuck(self) -> bool:
        """Whether `on_stuck` was told: no call to NCCL is of use any more."""
        return self._stuck

    @contextmanager
    def bound(self, what: str, seconds: float) -> Iterator[None]:
        """Tell `on_stuck` if the block takes longer."""
        with self._changed:
            self._numbers += 1
            number = self._numbers
            self._guards[number] = (time.monotonic() + seconds, what)
            self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._guards.pop(number, None)
                self._changed.notify_all()

    def abort(self, line: Line, then: Callable[[], None], after_s: float) -> None:
        """Abort from another thread, after a while; `then` is called when nothing of it is
        left. Returns at once.
        """
        threading.Thread(
            target=self._abort, args=(line, then, after_s), name="kv-abort", daemon=True
        ).start()

    def close(self, timeout_s: float) -> None:
        """Wait for the aborts under way, at most that long, and end."""
        with self._changed:
            self._changed.wait_for(lambda: self._stuck or not self._guards, timeout_s)
            self._closed = True
            self._changed.notify_all()
        self._thread.join(timeout_s)

    def _abort(self, line: Line, then: Callable[[], None], after_s: float) -> None:
        time.sleep(after_s)
        with self.bound(f"abort of {line.name}", self._abort_stuck_s):
            try:
                line.communicator.abort()
            except RuntimeError as error:
                log.warning("abort of %s failed: %s", line.name, error)
            line.let_go()
            then()

    def _watch(self) -> None:
        with self._changed:
            while not self._closed and not self._stuck:
                now = time.monotonic()
                late = [what for at, what in self._guards.values() if at <= now]
                if late:
                    self._stuck = True
                    self._changed.notify_all()
                    break
                first = min((at for at, _ in self._guards.values()), default=None)
                self._changed.wait(None if first is None else first - now)
            else:
                return
        log.critical("NCCL is stuck: %s", late[0])
        self._on_stuck(f"{late[0]} did not return")
