"""When to try again: a pure decision, the waiting is the shells'."""

import random
from collections.abc import Callable
from dataclasses import dataclass

from .errors import Overloaded, SplitweaveError, Unavailable

DOUBLINGS_MAX = 64  # a float ends at 1 024 of them


# Told before a wait of a stream that had begun, or for want of room: what failed, and for
# how many seconds.
OnRetry = Callable[[SplitweaveError, float], None]


def say_nothing(_error: SplitweaveError, _wait_s: float) -> None:
    """Nobody is interested."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How often and how patiently.

    The n-th try in a row without a new token waits a random time between half
    and all of `backoff_s` x 2^(n-1), at most `backoff_max_s`; never less than
    the server asked for.
    """

    tries_max: int = 6  # calls in a row before anything arrived; 1: never retry
    # Calls in a row without progress once something had arrived: a gateway that died takes
    # some seconds to come back. tries_max 1 switches this off too.
    resume_tries_max: int = 12
    backoff_s: float = 0.1
    backoff_max_s: float = 5.0
    on_retry: OnRetry = say_nothing


class Retry:
    """One operation's tries. `deadline_s` is on the caller's clock; None: no deadline."""

    def __init__(self, policy: RetryPolicy, deadline_s: float | None, rng: random.Random) -> None:
        self._policy = policy
        self._deadline_s = deadline_s
        self._rng = rng
        self._failures = 0  # in a row
        self._began = False
        self.retries = 0  # in all; also picks the address

    def remaining_s(self, now_s: float) -> float | None:
        """What is left for the next call, at least 0."""
        return None if self._deadline_s is None else max(0.0, self._deadline_s - now_s)

    def progressed(self) -> None:
        """Something new arrived: patience starts anew, and there is more of it."""
        self._failures = 0
        self._began = True

    def failed(self, error: SplitweaveError, now_s: float) -> float:
        """Seconds to wait before the next try; raises `error` if there is none."""
        if not isinstance(error, Overloaded | Unavailable):
            raise error
        self._failures += 1
        wait_s = max(self._backoff_s(), error.retry_after_s or 0.0)
        remaining_s = self.remaining_s(now_s)
        late = remaining_s is not None and wait_s >= remaining_s
        if late or self._failures >= self._tries_max():
            raise error
        self.retries += 1
        if self._began or isinstance(error, Overloaded):
            self._policy.on_retry(error, wait_s)
        return wait_s

    def _tries_max(self) -> int:
        policy = self._policy
        if policy.tries_max == 1 or not self._began:
            return policy.tries_max
        return max(policy.tries_max, policy.resume_tries_max)

    def _backoff_s(self) -> float:
        full_s = self._policy.backoff_s * 2.0 ** min(self._failures - 1, DOUBLINGS_MAX)
        return min(full_s, self._policy.backoff_max_s) * self._rng.uniform(0.5, 1.0)
