"""One thread that runs iterations, one at a time, in order.

The event loop stays free meanwhile: the kernels release the GIL, so
heartbeats and peers are answered during an iteration.
"""

import logging
import os
import queue
import threading
import time
from collections.abc import Callable
from typing import Any

from ...proto.effects import RunIteration
from ...proto.move import Copy
from ...proto.worker_events import IterationDone
from .engine import Engine
from .iteration_log import IterationLog

log = logging.getLogger(__name__)


class EngineLoop:
    """Runs what the core orders; `post` takes events from this thread.

    `start_copy` is called here as soon as a copy's layers are stored.
    """

    def __init__(
        self, engine: Engine, post: Callable[[Any], None], start_copy: Callable[[Copy], None]
    ) -> None:
        self.log = IterationLog()
        self._engine = engine
        self._post = post
        self._start_copy = start_copy
        # The core has at most one iteration in flight.
        self._orders: queue.Queue[RunIteration | None] = queue.Queue(maxsize=2)
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    def run(self, order: RunIteration) -> None:
        """Queue one iteration; ends in IterationDone."""
        self._orders.put_nowait(order)

    def stop(self, timeout_s: float) -> None:
        """End the thread after the iteration in flight, at most `timeout_s` later."""
        self._orders.put(None)
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while (order := self._orders.get()) is not None:
            try:
                self._iterate(order)
            except Exception:
                # An engine that failed once cannot be trusted with its KV: the
                # process ends, and the cluster recovers its requests elsewhere.
                log.critical("iteration %d failed", order.batch.iteration, exc_info=True)
                os._exit(1)

    def _iterate(self, order: RunIteration) -> None:
        due: dict[int, list[Copy]] = {}
        for copy in order.copies:
            due.setdefault(copy.last_layer - 1, []).append(copy)

        def on_layer(layer: int) -> None:
            for copy in due.get(layer, ()):
                self._start_copy(copy)

        began_ns = time.monotonic_ns()
        sampled = self._engine.run(order.batch, on_layer)
        ended_ns = time.monotonic_ns()
        self._post(IterationDone(iteration=order.batch.iteration, sampled=sampled))
        self.log.add(order.batch, began_ns, ended_ns)
