"""One side of one pair: a thread that moves its parcels, in order, several messages at once.

The same loop sends and receives; the jobs differ. While messages are under way
the thread fills, or empties, others; parcels are announced ahead of their turn.
Messages are posted in bursts.
Any PairError ends the pair and fails every copy it has: a pair that is out of
step would abort the receiving process at the next message of another size.

    wait  < copy_timeout_s    for the oldest message, since anything got through
          < copy_timeout_s    for a header that is missing from the sequence
          < idle_timeout_s    for a job
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Generic, TypeVar

from .backend import Pair, PairError, Pending
from .backlog import Backlog
from .framing import Message
from .jobs import Job, Slot
from .limits import TransportLimits

T = TypeVar("T")
log = logging.getLogger(__name__)


class Offer(Enum):
    """What became of an offered job."""

    TAKEN = "taken"
    ENDED = "ended"  # the pair is gone: offer it to the next one


@dataclass(frozen=True, slots=True, kw_only=True)
class InFlight:
    """A posted message."""

    job: Job
    slot: Slot
    pending: Pending


class PairLoop(Generic[T]):
    """Owns the pair and its thread. Public methods: any thread; none of them blocks for long."""

    def __init__(
        self,
        name: str,
        open_pair: Callable[[], Pair],
        backlog: Backlog[T],
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
        self._begun: deque[tuple[Job, Iterator[Message]]] = deque()  # the thread's own, as below
        self._in_flight: deque[InFlight] = deque()
        self._posted = 0
        self._filling = True  # slots, a burst of them
        self._moved_at = 0.0  # when last a message got through, or one was posted to none
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def ended(self) -> bool:
        """Whether it takes no more jobs."""
        return self._ended

    def offer(self, job: T) -> Offer | str:
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
            self._begin_ahead()
            if self._begun and self._may_post():
                self._post_next()
            elif self._in_flight:
                self._await_oldest()
            elif (job := self._wait_for_job()) is not None:
                self._begin(job)
            else:
                return

    def _begin_ahead(self) -> None:
        while len(self._begun) < self._limits.ahead_max:
            with self._changed:
                job = self._pop()
            if job is None:
                return
            self._begin(job)

    def _may_post(self) -> bool:
        """Until all slots are taken, and then not before half of them are free: each post
        tells the peer, whose I/O thread gloo lets spin until its own post is through.
        """
        if self._pair is not None:
            if len(self._in_flight) == self._pair.slots:
                self._filling = False
            elif len(self._in_flight) <= self._pair.slots // 2:
                self._filling = True
        return self._filling

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
        job.begin()
        self._begun.append((job, job.messages()))

    def _open(self) -> Pair:
        """Not before the first parcel has begun: its header is what brings the target here."""
        pair = self._open_pair()
        with self._changed:
            self._pair = pair
        if self._killed is not None:
            raise PairError(self._killed)
        return pair

    def _post_next(self) -> None:
        pair = self._pair or self._open()
        job, messages = self._begun[0]
        message = next(messages, None)
        if message is None:
            self._begun.popleft()
            return
        number = self._posted
        self._posted += 1
        if not self._in_flight:
            self._moved_at = time.monotonic()
        place = pair.place(number, message.size_bytes)
        slot = Slot(message=message, place=place, number=number)
        self._in_flight.append(InFlight(job=job, slot=slot, pending=job.post(pair, slot)))

    def _await_oldest(self) -> None:
        assert self._pair is not None
        oldest = self._in_flight[0]
        oldest.pending.wait(self._moved_at + self._limits.copy_timeout_s - time.monotonic())
        self._moved_at = time.monotonic()
        self._in_flight.popleft()
        self._through(oldest)
        self._pair.release(oldest.slot.number)

    def _through(self, sent: InFlight) -> None:
        """Who is told of the last job's end finds the pair idle: another may need its place."""
        with self._changed:
            last = sent.slot.message.last and sent.job in self._unfinished  # not if abandoned
            if last:
                self._unfinished.remove(sent.job)
        told = False
        try:
            sent.job.through(sent.slot)
            told = True
        finally:
            if last and not told:
                with self._changed:
                    self._unfinished.appendleft(sent.job)

    def _end(self, reason: str) -> None:
        """The pair goes first, so that whoever is told can pair anew at once."""
        jobs = self._take_all()
        self._begun.clear()
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
