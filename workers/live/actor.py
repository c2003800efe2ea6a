"""What Ray sees of a worker.

Light on purpose: whoever looks an actor up by name imports its class, and the
controller and the gateways have no use for torch.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import ray

from ...proto.ids import WorkerId, WorkerKey
from ...proto.move import Copy
from .setup import WorkerSetup

if TYPE_CHECKING:
    from .iteration_log import TimedIteration
    from .transport import Endpoint, ParcelHeader


class WorkerActor:
    """What Ray sees; a restart by Ray is a new incarnation.

    No coroutine here: Ray would run all of it on a loop of its own.
    """

    def __init__(self, setup: WorkerSetup) -> None:
        from .worker import Worker

        self._worker = Worker(setup)

    def deliver(self, key: WorkerKey | None, events: Sequence[Any]) -> None:
        """Mail for incarnation `key` (None: whichever lives)."""
        self._worker.deliver(key, events)

    def endpoint(self, key: WorkerKey | None) -> "Endpoint | None":
        """Where `key` (None: whichever lives) receives KV; None if it is not this one."""
        return self._worker.endpoint(key)

    def land(self, key: WorkerKey, header: "ParcelHeader", copies: Sequence[Copy]) -> None:
        """A peer announces copies."""
        self._worker.land(key, header, copies)

    def cut(self, peer: WorkerId) -> int:
        """For tests and operators: close every KV pair with that worker, now. How many."""
        return self._worker.cut(peer)

    def iterations(self) -> "list[TimedIteration]":
        """What iterations took since the last call; the first call begins to keep them."""
        return self._worker.iterations()

    def life(self) -> int:
        """The incarnation of this life; answers while the process is well."""
        return self._worker.life()

    def error(self) -> str:
        """Why the worker could not start; empty if it did or still tries."""
        return self._worker.error()


def worker_class() -> Any:
    """The Ray actor class; restarted for ever, each time as a new incarnation."""
    return ray.remote(max_restarts=-1)(WorkerActor)
