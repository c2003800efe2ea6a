"""Turns a core's copies into transfers, and landings into blocks.

Source side: `start` may be called from any thread; the payload is gathered
from the blocks by the transport's own thread. Target side: a landing touches
blocks only while its move's lease is open; closing a lease waits for a write
in progress, so that after `close_lease` nothing late can land.
"""

import threading
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

import torch

from ...proto.ids import MoveId
from ...proto.move import Copy
from ...proto.worker_events import BlocksLanded, CopyFailed, CopySent
from .transport import CopyHeader, CopyResult, Endpoint, Transport

Post = Callable[[Any], None]


class Blocks(Protocol):
    """The part of an engine that moves see."""

    def read_blocks(self, first_layer: int, last_layer: int, blocks: Any) -> torch.Tensor: ...

    def write_blocks(
        self, first_layer: int, last_layer: int, blocks: Any, payload: torch.Tensor
    ) -> None: ...


class Copier:
    """One worker's transfers, both ways. `post` takes events from any thread."""

    def __init__(self, blocks: Blocks, transport: Transport, post: Post) -> None:
        self._blocks = blocks
        self._transport = transport
        self._post = post
        self._leases: set[MoveId] = set()
        self._lock = threading.Lock()

    def start(self, copy: Copy, target: Endpoint, blocks: Blocks | None = None) -> None:
        """Send `copy`, out of `blocks` if given; ends in CopySent or CopyFailed."""
        held = blocks or self._blocks

        def payload() -> torch.Tensor:
            return held.read_blocks(copy.first_layer, copy.last_layer, copy.source_blocks)

        self._transport.send(target, copy, payload, partial(self._end, CopySent, copy))

    def fail(self, copy: Copy, reason: str) -> None:
        """Report a copy that cannot be sent."""
        self._post(CopyFailed(copy_id=copy.copy_id, move_id=copy.move_id, reason=reason))

    def land(self, header: CopyHeader, copy: Copy, blocks: Blocks | None = None) -> None:
        """Receive a copy that a source announces, into `blocks` if given; ends in
        BlocksLanded or CopyFailed.
        """
        held = blocks or self._blocks

        def into(payload: torch.Tensor) -> None:
            with self._lock:
                if copy.move_id in self._leases:
                    held.write_blocks(
                        copy.first_layer, copy.last_layer, copy.target_blocks, payload
                    )

        self._transport.receive(header, into, partial(self._end, BlocksLanded, copy))

    def _end(self, end: type[CopySent | BlocksLanded], copy: Copy, result: CopyResult) -> None:
        if result.error is not None:
            self.fail(copy, result.error)
            return
        self._post(
            end(copy_id=copy.copy_id, move_id=copy.move_id, transfer_bytes=result.transfer_bytes)
        )

    def open_lease(self, move_id: MoveId) -> None:
        """Landings of this move may write from now on."""
        with self._lock:
            self._leases.add(move_id)

    def close_lease(self, move_id: MoveId) -> None:
        """No landing of this move writes after this returns."""
        with self._lock:
            self._leases.discard(move_id)
