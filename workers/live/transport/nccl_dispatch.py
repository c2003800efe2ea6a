"""The one thread of a process that launches NCCL operations.

NCCL deadlocks when two processes launch operations of several communicators in
different orders. So operations are posted here, and taken in rounds: within a
round by the pairs' names, which both processes share, and within a pair in the
order they were posted, several as one launch. What the header of a copy has not
announced is not posted, so nothing waits on the GPU for long.
"""

import logging
import threading
import time
from collections import deque
from dataclasses import dataclass, field

from torch import Tensor

from .nccl_comm import Communicator, Launched, Verb

POLL_S = 0.0002
log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class Line:
    """A communicator, as the dispatcher sees it."""

    name: str
    communicator: Communicator
    broken: str = ""  # why nothing is launched any more
    # What the device may still use, neither freed nor used again before: under `lock`.
    held: "deque[Posted]" = field(default_factory=deque)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def launch(self, posted: "list[Posted]") -> Launched:
        """One launch for all of them: same verb, in order."""
        chunks, tags = [each.chunk for each in posted], [each.tag for each in posted]
        return self.communicator.launch(posted[0].verb, chunks, tags)

    def hold(self, posted: "Posted") -> None:
        """Keep a chunk, and drop those that are through."""
        self.drop_left()
        with self.lock:
            self.held.append(posted)

    def drop_left(self) -> bool:
        """Drop the chunks that the device has left, oldest first; True if none is held now."""
        with self.lock:
            while self.held and self.held[0].left():
                self.held.popleft()
            return not self.held

    def let_go(self) -> None:
        """After the abort: wait until the device has left all chunks, however long."""
        while not self.drop_left():
            time.sleep(POLL_S)


@dataclass(slots=True, eq=False)
class Posted:
    """An operation on its way through the dispatcher: launched, or refused."""

    line: Line
    verb: Verb
    chunk: Tensor
    tag: int
    told: threading.Event = field(default_factory=threading.Event)
    launched: Launched | None = None
    error: str = ""

    def left(self) -> bool:
        """Whether the device has no use for the chunk, well or ill."""
        if not self.told.is_set():
            return False
        try:
            return self.launched is None or self.launched.is_completed()
        except RuntimeError:
            return True

    def refuse(self, error: str) -> None:
        """It will not be launched."""
        self.error = error
        self.told.set()


class DispatcherFull(RuntimeError):
    """As many operations wait as there may."""


class Dispatcher:
    """`post` may be called from any thread."""

    def __init__(self, group_max: int, queue_len_max: int) -> None:
        self._group_max = group_max
        self._queue_len_max = queue_len_max
        self._changed = threading.Condition()  # guards the two below
        self._queue: deque[Posted] = deque()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="kv-nccl", daemon=True)
        self._thread.start()

    def post(self, line: Line, verb: Verb, chunk: Tensor, tag: int) -> Posted:
        """Queue an operation. Raises DispatcherFull."""
        posted = Posted(line=line, verb=verb, chunk=chunk, tag=tag)
        with self._changed:
            if self._closed:
                posted.refuse("dispatcher is closed")
                return posted
            if len(self._queue) >= self._queue_len_max:
                raise DispatcherFull(f"queue is full, queue_len_max ({self._queue_len_max})")
            line.hold(posted)
            self._queue.append(posted)
            self._changed.notify_all()
        return posted

    def close(self, timeout_s: float) -> None:
        """Refuse what waits and end the thread; it stays behind if a launch is stuck."""
        with self._changed:
            self._closed = True
            left = list(self._queue)
            self._queue.clear()
            self._changed.notify_all()
        for posted in left:
            posted.refuse("dispatcher is closed")
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while self._round():
            pass

    def _round(self) -> bool:
        """Whether there may be another. A function, so that nothing of a round is kept after."""
        batch = self._take_all()
        for group in rounds(batch or [], self._group_max):
            _launch(group)
        return batch is not None

    def _take_all(self) -> list[Posted] | None:
        with self._changed:
            self._changed.wait_for(lambda: self._closed or len(self._queue) > 0)
            if self._closed:
                return None
            batch = list(self._queue)
            self._queue.clear()
            return batch


def rounds(batch: list[Posted], group_max: int) -> list[list[Posted]]:
    """The launches of one round, in order: each of one pair and one verb, `group_max` at most."""
    launches: list[list[Posted]] = []
    for posted in sorted(batch, key=lambda each: each.line.name):  # stable: posting order within
        last = launches[-1] if launches else []
        alike = last and last[0].line is posted.line and last[0].verb is posted.verb
        if alike and len(last) < group_max:
            last.append(posted)
        else:
            launches.append([posted])
    return launches


def _launch(group: list[Posted]) -> None:
    line = group[0].line
    error, launched = line.broken, None
    if not error:
        try:
            launched = line.launch(group)
        except Exception as failure:
            # Whatever torch raises: this pair is lost, and the thread serves the others.
            log.exception("launch on %s failed", line.name)
            line.broken = error = f"{type(failure).__name__}: {failure}".split("\n", 1)[0]
    for posted in group:
        posted.launched, posted.error = launched, error
        posted.told.set()
