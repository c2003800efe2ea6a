"""What both clients share: their settings, and a machine for each operation."""

import random
import time
import uuid
from collections.abc import Sequence
from typing import Any

from .ask import Options, Prompt, generate_request
from .calls import Call, CallMachine
from .endpoints import parse_addresses
from .errors import Cancelled, InvalidRequest, SplitweaveError, Violation
from .machine import GenerationMachine
from .retry import Retry, RetryPolicy

TIMEOUT_S_MAX = 1e9  # more is none: gRPC's own clock ends, and takes it for the past


class Operations:
    """Makes machines, and keeps time for them."""

    def __init__(
        self, addresses: str | Sequence[str], timeout_s: float | None, policy: RetryPolicy
    ) -> None:
        self.addresses = parse_addresses(addresses)
        self._timeout_s = timeout_s if timeout_s is None else _seconds(timeout_s)
        self._policy = policy
        self._rng = random.Random()
        self.closed = False

    def generation(self, prompt: Prompt, options: Options) -> GenerationMachine:
        """The machine of one stream. Raises InvalidRequest, TypeError."""
        ask = generate_request(prompt, options)
        ask.resume_key = uuid.uuid4().hex  # nobody else may take the stream over
        return GenerationMachine(ask, self._retry(options.get("timeout_s", self._timeout_s)))

    def call(self, call: Call[Any]) -> CallMachine:
        """The machine of one call with one reply."""
        timeout_s = call.timeout_s if self._timeout_s is None else self._timeout_s
        return CallMachine(self._retry(timeout_s, call.policy), len(self.addresses))

    def address_index(self, machine: GenerationMachine | CallMachine) -> int:
        """Which address the next try goes to: each retry takes the next one."""
        return machine.retry.retries % len(self.addresses)

    def check_open(self) -> None:
        """Raises Cancelled if the client was closed: nothing may touch a channel then."""
        if self.closed:
            raise Cancelled("the client is closed")

    def remaining_s(self, machine: GenerationMachine | CallMachine) -> float | None:
        """The time the next try has."""
        return machine.retry.remaining_s(time.monotonic())

    def wait_s(self, machine: GenerationMachine | CallMachine, error: SplitweaveError) -> float:
        """Seconds to wait before the next try; raises `error` if it is final."""
        return machine.failed(error, time.monotonic())

    def _retry(self, timeout_s: float | None, policy: RetryPolicy | None = None) -> Retry:
        bounded = timeout_s is not None and _seconds(timeout_s) <= TIMEOUT_S_MAX
        deadline_s = time.monotonic() + timeout_s if timeout_s is not None and bounded else None
        return Retry(policy or self._policy, deadline_s, self._rng)


def _seconds(timeout_s: float) -> float:
    """`timeout_s` if it is a time; raises InvalidRequest."""
    if not isinstance(timeout_s, int | float) or not timeout_s >= 0.0:  # also false for NaN
        problem = f"is {timeout_s!r}; seconds, at least 0"
        raise InvalidRequest(f"timeout_s: {problem}", (Violation("timeout_s", problem),))
    return timeout_s
