"""Delivers facts between actors: at most once, batched per turn of the loop.

Parties are Ray actors found by name in one namespace. A party that is gone
loses what was sent to it; the cores' timers see to the rest.
"""

import asyncio
from typing import Any

import ray
from ray.actor import ActorHandle

from ...proto.ids import GatewayId, WorkerId, WorkerKey

CONTROLLER = "controller"


def worker_name(worker_id: WorkerId) -> str:
    """The Ray actor name of a worker."""
    return f"worker/{worker_id}"


def gateway_name(gateway_id: GatewayId) -> str:
    """The Ray actor name of a gateway."""
    return f"gateway/{gateway_id}"


class Post:
    """Outgoing mail of one actor. Used on its event loop's thread only."""

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace
        self._handles: dict[str, ActorHandle[Any]] = {}
        self._mail: dict[tuple[str, WorkerKey | None], list[Any]] = {}

    def controller(self, event: Any) -> None:
        """Mail for the controller."""
        self._put((CONTROLLER, None), event)

    def worker(self, key: WorkerKey, event: Any) -> None:
        """Mail for one incarnation of a worker."""
        self._put((worker_name(key.worker_id), key), event)

    def gateway(self, gateway_id: GatewayId, event: Any) -> None:
        """Mail for a gateway."""
        self._put((gateway_name(gateway_id), None), event)

    def handle(self, name: str) -> "ActorHandle[Any] | None":
        """The actor of that name, None if there is none now."""
        found = self._handles.get(name)
        if found is None:
            try:
                found = ray.get_actor(name, namespace=self._namespace)
            except ValueError:
                return None
            self._handles[name] = found
        return found

    def forget(self, name: str) -> None:
        """Look the actor up again next time."""
        self._handles.pop(name, None)

    def _put(self, to: tuple[str, WorkerKey | None], event: Any) -> None:
        if not self._mail:
            asyncio.get_running_loop().call_soon(self._flush)
        self._mail.setdefault(to, []).append(event)

    def _flush(self) -> None:
        mail, self._mail = self._mail, {}
        for (name, key), events in mail.items():
            handle = self.handle(name)
            if handle is None:
                continue
            if key is None:
                handle.deliver.remote(events)
            else:
                handle.deliver.remote(key, events)
