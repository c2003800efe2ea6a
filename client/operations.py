"""What both clients share: their settings, and a machine for each operation."""

import random
import time
from collections.abc import Sequence
from typing import Any

from .ask import Options, Prompt, generate_request
from .calls import Call, CallMachine
from .endpoints import parse_addresses
from .errors import SplitweaveError
from .machine import GenerationMachine
from .retry import Retry, RetryPolicy


class Operations:
    """Makes machines, and keeps time for them."""

    def __init__(
        self, addresses: str | Sequence[str], timeout_s: float | None, policy: RetryPolicy
    ) -> None:
        self.addresses = parse_addresses(addresses)
        self._timeout_s = timeout_s
        self._policy = policy
        self._rng = random.Random()

    def generation(self, prompt: Prompt, options: Options) -> GenerationMachine:
        """The machine of one stream. Raises InvalidRequest, TypeError."""
        ask = generate_request(prompt, options)
        return GenerationMachine(ask, self._retry(options.get("timeout_s", self._timeout_s)))

    def call(self, call: Call[Any]) -> CallMachine:
        """The machine of one call with one reply."""
        timeout_s = call.timeout_s if self._timeout_s is None else self._timeout_s
        return CallMachine(self._retry(timeout_s, call.policy), len(self.addresses))

    def address_index(self, machine: GenerationMachine | CallMachine) -> int:
        """Which address the next try goes to: each retry takes the next one."""
        return machine.retry.retries % len(self.addresses)

    def remaining_s(self, machine: GenerationMachine | CallMachine) -> float | None:
        """The time the next try has."""
        return machine.retry.remaining_s(time.monotonic())

    def wait_s(self, machine: GenerationMachine | CallMachine, error: SplitweaveError) -> float:
        """Seconds to wait before the next try; raises `error` if it is final."""
        return machine.failed(error, time.monotonic())

    def _retry(self, timeout_s: float | None, policy: RetryPolicy | None = None) -> Retry:
        deadline_s = None if timeout_s is None else time.monotonic() + timeout_s
        return Retry(policy or self._policy, deadline_s, self._rng)
