"""What Ray sees of a gateway.

Light on purpose: whoever looks an actor up by name imports its class, and
workers have no use for gRPC and chat templates.
"""

import os
from collections.abc import Sequence
from typing import Any

import ray

from .gateway_setup import GatewaySetup


class GatewayActor:
    """What Ray sees. No coroutine here: Ray would run all of it on a loop of its own."""

    def __init__(self, setup: GatewaySetup) -> None:
        from .gateway import Gateway

        self._gateway = Gateway(setup)

    def deliver(self, events: Sequence[Any]) -> None:
        """Mail: facts for the core, answers for the operator."""
        self._gateway.deliver(events)

    def pid(self) -> int:
        """Answers while the process lives."""
        return os.getpid()

    def address(self) -> tuple[str, str]:
        """(host:port once it listens, why it does not)."""
        return self._gateway.address()

    def look(self) -> tuple[int, str, int]:
        """(pid, host:port or empty, open streams): what the controller shows of it."""
        return os.getpid(), self._gateway.address()[0], self._gateway.streams_open

    def stop(self, grace_s: float) -> None:
        """Stop listening; streams in flight get `grace_s` seconds."""
        self._gateway.stop(grace_s)


def gateway_class() -> Any:
    """The Ray actor class; needs no CPU of its own and is restarted for ever."""
    return ray.remote(num_cpus=0, max_restarts=-1)(GatewayActor)
