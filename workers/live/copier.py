"""Turns a core's copies into transfers, and landings into blocks.

Source side: `start` may be called from any thread; the bytes are read out of
the blocks by the transport's own thread. Target side: a landing touches blocks
only while its move's lease is open; closing a lease waits for a write in
progress, so that after `close_lease` nothing late can land. Bytes are written
before they are verified: nobody reads a leased block before its `BlocksLanded`.
"""

import threading
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from torch import Tensor

from ...proto.effects import CloseLease, OpenLease
from ...proto.ids import MoveId
from ...proto.move import Copy
from ...proto.worker_events import BlocksLanded, CopyFailed, CopySent
from .block_rows import BlockBytes
from .transport import CopyResult, Endpoint, Landing, ParcelHeader, Transport

Post = Callable[[Any], None]


class Blocks(Protocol):
    """The part of an engine that moves see."""

    def block_rows(self, first_layer: int, last_layer: int, blocks: Sequence[int]) -> BlockBytes:
        """Raises IndexError for layers or blocks that there are not."""
        ...


class Copier:
    """One worker's transfers, both ways. `post` takes events from any thread."""

    def __init__(self, blocks: Blocks, transport: Transport, post: Post) -> None:
        self._blocks = blocks
        self._transport = transport
        self._post = post
        self._leases: set[tuple[MoveId, int]] = set()
        self._lock = threading.Lock()

    def start(self, copy: Copy, target: Endpoint, blocks: Blocks | None = None) -> None:
        """Send `copy`, out of `blocks` if given; ends in CopySent or CopyFailed."""
        try:
            payload = (blocks or self._blocks).block_rows(
                copy.first_layer, copy.last_layer, copy.source_blocks
            )
        except IndexError as error:
            self.fail(copy, f"no such blocks: {error}")
            return
        self._transport.send(
            target, copy, payload, lambda result: self._end(CopySent, copy, result)
        )

    def fail(self, copy: Copy, reason: str) -> None:
        """Report a copy that cannot be sent."""
        self._post(CopyFailed(copy_id=copy.copy_id, move_id=copy.move_id, reason=reason))

    def land(
        self, header: ParcelHeader, copies: Sequence[Copy], blocks: Blocks | None = None
    ) -> None:
        """Receive copies that a source announces, into `blocks` if given; each ends in
        BlocksLanded or CopyFailed.
        """
        by_id = {copy.copy_id: copy for copy in copies}
        landings = [
            _LeasedLanding(self, by_id[announced.copy_id], blocks or self._blocks)
            for announced in header.copies
        ]
        self._transport.receive(
            header,
            landings,
            lambda result: self._end(BlocksLanded, by_id[result.copy_id], result),
        )

    def open_lease(self, order: OpenLease) -> None:
        """Landings for this lease may write from now on."""
        with self._lock:
            self._leases.add((order.move_id, order.lease))

    def close_lease(self, order: CloseLease) -> None:
        """No landing for this lease writes after this returns."""
        with self._lock:
            self._leases.discard((order.move_id, order.lease))

    def write(self, copy: Copy, rows: Landing, start: int, piece: Tensor) -> None:
        """Into leased blocks; nothing once the lease is closed: nobody waits for that copy."""
        with self._lock:
            if (copy.move_id, copy.lease) in self._leases:
                rows.scatter(start, piece)

    def _end(self, end: type[CopySent | BlocksLanded], copy: Copy, result: CopyResult) -> None:
        if result.error is not None:
            self.fail(copy, result.error)
            return
        self._post(
            end(copy_id=copy.copy_id, move_id=copy.move_id, transfer_bytes=result.transfer_bytes)
        )


class _LeasedLanding:
    """Where one copy lands. A copy of blocks that there are not fails when it begins to."""

    def __init__(self, copier: Copier, copy: Copy, blocks: Blocks) -> None:
        self._copier = copier
        self._copy = copy
        self._rows: BlockBytes | None
        try:
            self._rows = blocks.block_rows(copy.first_layer, copy.last_layer, copy.target_blocks)
        except IndexError:
            self._rows = None

    @property
    def size_bytes(self) -> int:
        return 0 if self._rows is None else self._rows.size_bytes

    def scatter(self, start: int, piece: Tensor) -> None:
        assert self._rows is not None, self._copy
        self._copier.write(self._copy, self._rows, start, piece)
