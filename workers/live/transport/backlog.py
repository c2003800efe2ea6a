"""What waits for a pair's thread: copies in the order they came, or in their sequence.

Plain data, guarded by the pair loop's lock.
"""

from collections import deque
from collections.abc import Sequence
from typing import Protocol

from .backend import PairError
from .jobs import Incoming, Job


class Backlog(Protocol):
    """Bounded."""

    def add(self, job: Job) -> str | None:
        """Take the job, or say why not. PairError if the pair cannot go on without it."""
        ...

    def pop(self) -> Job | None:
        """The next job whose turn it is."""
        ...

    def __len__(self) -> int:
        """How many wait, whether or not it is their turn."""
        ...

    def drain(self) -> Sequence[Job]:
        """Empty it."""
        ...


class Fifo:
    """A sender's: first come, first sent."""

    def __init__(self, queue_len_max: int) -> None:
        self._queue_len_max = queue_len_max
        self._jobs: deque[Job] = deque()

    def add(self, job: Job) -> str | None:
        """See Backlog."""
        if len(self._jobs) >= self._queue_len_max:
            return f"queue is full, queue_len_max ({self._queue_len_max})"
        self._jobs.append(job)
        return None

    def pop(self) -> Job | None:
        """See Backlog."""
        return self._jobs.popleft() if self._jobs else None

    def __len__(self) -> int:
        return len(self._jobs)

    def drain(self) -> Sequence[Job]:
        """See Backlog."""
        jobs, self._jobs = list(self._jobs), deque()
        return jobs


class InSequence:
    """A receiver's reorder buffer: the control RPC may swap headers, the bytes come in order."""

    def __init__(self, queue_len_max: int) -> None:
        self._queue_len_max = queue_len_max
        self._next = 0
        self._jobs: dict[int, Incoming] = {}

    def add(self, job: Job) -> str | None:
        """See Backlog. A doubled header is refused: the first one counts."""
        assert isinstance(job, Incoming), job
        sequence = job.header.sequence
        if sequence < self._next or sequence in self._jobs:
            return f"header {sequence} of the pair came twice"
        if len(self._jobs) >= self._queue_len_max:
            raise PairError(f"queue is full, queue_len_max ({self._queue_len_max})")
        self._jobs[sequence] = job
        return None

    def pop(self) -> Job | None:
        """See Backlog."""
        job = self._jobs.pop(self._next, None)
        if job is not None:
            self._next += 1
        return job

    def __len__(self) -> int:
        return len(self._jobs)

    def drain(self) -> Sequence[Job]:
        """See Backlog. Lowest sequence first."""
        jobs, self._jobs = [self._jobs[key] for key in sorted(self._jobs)], {}
        return jobs
