"""Where the other workers receive KV, found once per life of each.

The first call between two Ray actors takes long (a look-up, a connection), so
a worker greets the others when it starts, before a handoff waits for it.
"""

import asyncio
from collections.abc import Iterable
from typing import Any

from ray.exceptions import RayError

from ...proto.ids import WorkerId, WorkerKey
from .post import Post, worker_name
from .transport import Endpoint

ENDPOINT_TIMEOUT_S = 5.0
GREETING_TIMEOUT_S = 120.0  # a peer may still load its model


class Peers:
    """Endpoints by life. `known` may be called from any thread."""

    def __init__(self, post: Post) -> None:
        self._post = post
        self._endpoints: dict[WorkerKey, Endpoint] = {}

    def known(self, key: WorkerKey) -> Endpoint | None:
        """The endpoint of that life, if it has been found."""
        return self._endpoints.get(key)

    async def find(self, key: WorkerKey) -> Endpoint | None:
        """The endpoint of that life; None if it is gone or silent for 5 s."""
        return self.known(key) or await self._ask(key.worker_id, key, ENDPOINT_TIMEOUT_S)

    async def greet(self, worker_ids: Iterable[WorkerId]) -> None:
        """Finds whichever lives of these there are; whoever does not answer is left out."""
        asked = (self._ask(worker_id, None, GREETING_TIMEOUT_S) for worker_id in worker_ids)
        await asyncio.gather(*asked)

    def forget(self, key: WorkerKey) -> None:
        """That life is over."""
        self._endpoints.pop(key, None)

    async def _ask(
        self, worker_id: WorkerId, key: WorkerKey | None, timeout_s: float
    ) -> Endpoint | None:
        handle: Any = self._post.handle(worker_name(worker_id))
        if handle is None:
            return None
        asked: asyncio.Future[Endpoint | None]
        asked = asyncio.wrap_future(handle.endpoint.remote(key).future())
        try:
            endpoint = await asyncio.wait_for(asked, timeout_s)
        except (RayError, TimeoutError):
            return None
        if endpoint is not None:
            self._endpoints[endpoint.worker] = endpoint
        return endpoint
