"""Every copy ends once: this is what sees to it."""

import logging
import threading
import time
from collections.abc import Callable

from .header import CopyResult

OnDone = Callable[[CopyResult], None]
log = logging.getLogger(__name__)


class Ending:
    """Calls `on_done` for one side's half of one copy; only the first end counts.

    Any thread: a transport that gives up on a stuck thread ends its copies in
    its stead. A callback may raise RuntimeError (of a loop that is closed); it is
    logged, and harms nothing else.
    """

    def __init__(self, copy_id: str, on_done: OnDone) -> None:
        self._copy_id = copy_id
        self._on_done = on_done
        self._lock = threading.Lock()
        self._ended = False
        self._began_at: float | None = None

    def begin(self) -> None:
        """Its seconds count from here."""
        self._began_at = time.monotonic()

    def succeed(self, transfer_bytes: int) -> None:
        """It is through."""
        self._end(None, transfer_bytes)

    def fail(self, reason: str) -> None:
        """It will never be through."""
        self._end(reason, 0)

    def _end(self, error: str | None, transfer_bytes: int) -> None:
        with self._lock:
            if self._ended:
                return
            self._ended = True
        seconds = 0.0 if self._began_at is None else time.monotonic() - self._began_at
        result = CopyResult(
            copy_id=self._copy_id, error=error, transfer_bytes=transfer_bytes, seconds=seconds
        )
        try:
            self._on_done(result)
        except RuntimeError:
            log.exception("copy=%s callback failed", self._copy_id)
