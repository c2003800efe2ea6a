"""One side of one pair: a thread that moves its copies, in order, several chunks at once.

The same loop sends and receives; the jobs differ. Chunks of the next copy are
posted while those of the last are still under way. Any error but a CopyError
ends the pair and fails every copy it has: a pair that is out of step would
abort the receiving process at the next chunk of another size.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from torch import Tensor

from .backend import CopyError, Pair, PairError, Pending
from .backlog import Backlog
from .jobs import Job
from .limits import TransportLimits

# Tags number a pair's chunks; they need only differ among those in flight.
TAGS = 1 << 30
log = logging.getLogger(__name__)


class Offer(Enum):
    """What became of an offered job."""

    TAKEN = "taken"
    ENDED = "ended"  # the pair is gone: offer it to the next one


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a begun copy."""

    job: Job
    place: Tensor
    deadline: float
    last: bool


class Nothing:
    """An empty copy on its way: nothing travels, but it ends in its turn."""

    def wait(self, timeout_s: float) -> None:
        """See Pending."""


class PairLoop:
    """Owns the pair and its thread. Public methods: any thread; none of them blocks for long."""

    def __init__(
        self,
        name: str,
        open_pair: Callable[[], Pair],
        backlog: Backlog,
        limits: TransportLimits,
        idle_timeout_s: float,
    ) -> None:
        self._open_pair = open_pair
        self._limits = limits
        self._idle_timeout_s = idle_timeout_s
        self._changed = threading.Condition()  # guards the six below
        self._backlog = backlog
        self._unfinished: deque[Job] = deque()
        self._pair: Pair | None = None
        self._killed: str | None = None
        self._ended = False
        self._chunks: deque[Chunk] = deque()  # the thread's own, like the two below
        self._in_flight: deque[tuple[Chunk, Pending]] = deque()
        self._posted = 0
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def ended(self) -> bool:
        """Whether it takes no more jobs."""
        return self._ended

    def offer(self, job: Job) -> Offer | str:
        """Take the job, or a refusal: ENDED, or the reason in words; PairError as Backlog.add."""
        with self._changed:
            if self._ended:
                return Offer.ENDED
            refusal = self._backlog.add(job)
            self._changed.notify_all()
        return Offer.TAKEN if refusal is None else refusal

    def end_if_idle(self) -> bool:
        """End, gently, if there is nothing to do."""
        with self._changed:
            idle = not self._unfinished and not len(self._backlog)
            if idle and not self._ended:
                self._ended, self._killed = True, "idle"
                self._changed.notify_all()
            return idle

    def wind_down(self) -> None:
        """Its source has paired anew: wait only for what was announced before."""
        with self._changed:
            self._idle_timeout_s = self._limits.copy_timeout_s
            self._changed.notify_all()

    def kill(self, reason: str) -> None:
        """Fail every copy of the pair with `reason`, soon, on its thread."""
        with self._changed:
            self._ended, self._killed = True, self._killed or reason
            pair = self._pair
            self._changed.notify_all()
        if pair is not None:
            pair.cancel()

    def join(self, timeout_s: float) -> bool:
        """Wait for the thread; False if it is still there. True on the thread itself."""
        if self._thread is not threading.current_thread():
            self._thread.join(timeout_s)
            return not self._thread.is_alive()
        return True

    def abandon(self, reason: str) -> None:
        """Fail every copy from here: the thread is stuck in somebody's code."""
        log.error("thread=%s is stuck, its copies fail: %s", self._thread.name, reason)
        for job in self._take_all():
            job.fail(reason)

    def _run(self) -> None:
        reason = "pair is closed"
        try:
            self._pump()
        except PairError as error:
            reason = str(error)
        except Exception as error:
            log.exception("thread=%s failed", self._thread.name)
            reason = f"{type(error).__name__}: {error}"
        self._end(self._killed or reason)

    def _pump(self) -> None:
        while self._killed is None:
            if len(self._in_flight) < self._limits.in_flight_max and self._has_chunk():
                self._post(self._chunks.popleft())
            elif self._in_flight:
                self._await_oldest()
            elif (job := self._wait_for_job()) is not None:
                self._begin(job)
            else:
                return

    def _has_chunk(self) -> bool:
        while not self._chunks:
            with self._changed:
                job = self._pop()
            if job is None:
                return False
            self._begin(job)
        return True

    def _pop(self) -> Job | None:
        job = self._backlog.pop()
        if job is not None:
            self._unfinished.append(job)
        return job

    def _wait_for_job(self) -> Job | None:
        """The next job; None when idle for too long or killed. PairError if a header is missing."""
        with self._changed:
            since, held = time.monotonic(), len(self._backlog) > 0
            while (job := self._pop()) is None and self._killed is None:
                if (len(self._backlog) > 0) != held:
                    since, held = time.monotonic(), not held
                limit_s = self._limits.copy_timeout_s if held else self._idle_timeout_s
                left_s = since + limit_s - time.monotonic()
                if left_s > 0:
                    self._changed.wait(left_s)
                elif held:
                    raise PairError(f"a header is missing for copy_timeout_s ({limit_s})")
                else:
                    self._ended = True
                    return None
            return job

    def _begin(self, job: Job) -> None:
        try:
            memory = job.begin()
        except CopyError as error:
            self._finished(job)
            job.fail(str(error))
            return
        if self._pair is None:
            self._open()
        deadline = time.monotonic() + self._limits.copy_timeout_s
        places = memory.split(job.chunk_bytes) if memory.numel() else (memory,)
        for number, place in enumerate(places, 1):
            self._chunks.append(Chunk(job, place, deadline, number == len(places)))

    def _open(self) -> None:
        """Not before the first copy has begun: its header is what brings the target here."""
        pair = self._open_pair()
        with self._changed:
            self._pair = pair
        if self._killed is not None:
            raise PairError(self._killed)

    def _post(self, chunk: Chunk) -> None:
        assert self._pair is not None, chunk
        if not chunk.place.numel():
            self._in_flight.append((chunk, Nothing()))
            return
        tag = self._posted % TAGS
        self._posted += 1
        self._in_flight.append((chunk, chunk.job.post(self._pair, chunk.place, tag)))

    def _await_oldest(self) -> None:
        chunk, pending = self._in_flight[0]
        pending.wait(chunk.deadline - time.monotonic())
        self._in_flight.popleft()
        if chunk.last:
            self._finish(chunk.job)

    def _finish(self, job: Job) -> None:
        try:
            job.finish()
        except CopyError as error:
            job.fail(str(error))
        self._finished(job)

    def _finished(self, job: Job) -> None:
        with self._changed:
            if job in self._unfinished:  # not when abandoned meanwhile
                self._unfinished.remove(job)

    def _end(self, reason: str) -> None:
        """The pair goes first, so that whoever is told can pair anew at once."""
        jobs = self._take_all()
        self._chunks.clear()
        self._in_flight.clear()
        pair, self._pair = self._pair, None
        if pair is not None:
            if jobs:
                pair.cancel()  # the peer, too, learns of it now
            pair.close()
        log.info("thread=%s ended reason=%r copies_failed=%d", self._thread.name, reason, len(jobs))
        for job in jobs:
            job.fail(reason)

    def _take_all(self) -> list[Job]:
        with self._changed:
            self._ended = True
            jobs = [*self._unfinished, *self._backlog.drain()]
            self._unfinished.clear()
        return jobs
