"""Pairs over gloo: TCP between CPU memories.

Each pair is a bare two-rank ProcessGroupGloo. Traps met here (measured, torch
2.13): a size mismatch aborts the receiving process; a wait that expires closes
the pair for both sides; `abort()` wakes nobody; `is_completed()` stays False
until someone waits; a tensor that is not contiguous closes the pair.
"""

import contextlib
import math
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor
from torch.distributed import ProcessGroupGloo, Work

from .backend import Checksum, Pair, PairError, PairStore, Pending, Rendezvous
from .ring import Ring
from .xxh3 import Xxh3

# Tags number a pair's messages; they need only differ among those in flight.
TAGS = 1 << 30
CANCEL_TAG = TAGS + 1
CANCEL_WAIT = timedelta(milliseconds=1)


class GlooBackend:
    """All pairs share one gloo device: one I/O thread, whatever their number."""

    def __init__(self, host: str) -> None:
        """`host`: the own address that peers can reach."""
        self._device = ProcessGroupGloo.create_device(hostname=host)

    def open(self, rendezvous: Rendezvous) -> Pair:
        """See PairBackend. Raises PairError."""
        timeout = timedelta(seconds=rendezvous.timeout_s)
        options = ProcessGroupGloo._Options()  # type: ignore[attr-defined]  # noqa: SLF001
        options._devices = [self._device]  # noqa: SLF001
        options._threads = 1  # noqa: SLF001
        options._timeout = timeout  # noqa: SLF001
        store = rendezvous.store
        try:
            group = ProcessGroupGloo(store.torch_store, rendezvous.rank, 2, options)
        except (RuntimeError, OSError) as error:
            store.forget()
            raise PairError(f"cannot open: {first_line(error)}") from error
        store.met()
        ring = Ring(rendezvous.slots, rendezvous.slot_bytes, cpu_bytes)
        return GlooPair(group, 1 - rendezvous.rank, store, ring)

    def checksum(self) -> Checksum:
        """See PairBackend."""
        return Xxh3()


def cpu_bytes(size_bytes: int) -> Tensor:
    """Uninitialised; pages are taken when first written."""
    return torch.empty(size_bytes, dtype=torch.uint8)


class GlooPair:
    """One side of a pair; `peer` is the other side's rank."""

    def __init__(self, group: Any, peer: int, store: PairStore, ring: Ring) -> None:
        self._group = group  # torch's stub of ProcessGroupGloo knows neither send nor recv
        self._peer = peer
        self._store = store
        self._ring = ring

    @property
    def slots(self) -> int:
        """See Pair."""
        return self._ring.slots

    def place(self, number: int, size_bytes: int) -> Tensor:
        """See Pair."""
        return self._ring.place(number, size_bytes)

    def send(self, place: Tensor, number: int) -> Pending:
        """See Pair."""
        try:
            return GlooPending(self._open_group().send([place], self._peer, number % TAGS))
        except RuntimeError as error:
            raise PairError(first_line(error)) from error

    def recv(self, place: Tensor, number: int) -> Pending:
        """See Pair."""
        try:
            return GlooPending(self._open_group().recv([place], self._peer, number % TAGS))
        except RuntimeError as error:
            raise PairError(first_line(error)) from error

    def release(self, number: int) -> None:
        """See Pair. Nothing: the next message of that slot is not posted before."""

    def cancel(self) -> None:
        """See Pair. abort() wakes nobody, but a wait that expires closes the whole pair:
        so receive what is never sent, with the shortest of timeouts.
        """
        group = self._group
        if group is not None:
            with contextlib.suppress(RuntimeError):
                nothing = torch.empty(1, dtype=torch.uint8)
                group.recv([nothing], self._peer, CANCEL_TAG).wait(CANCEL_WAIT)

    def close(self) -> None:
        """See Pair. The group's destructor closes its sockets."""
        self._group = None
        self._store.forget()

    def _open_group(self) -> Any:
        if self._group is None:
            raise PairError("pair is closed")
        return self._group


class GlooPending:
    """A posted send or receive."""

    def __init__(self, work: Work) -> None:
        self._work = work

    def wait(self, timeout_s: float) -> None:
        """See Pending."""
        # gloo cuts to whole milliseconds, and takes 0 for "no timeout at all".
        timeout = timedelta(milliseconds=max(1, math.ceil(timeout_s * 1000)))
        try:
            self._work.wait(timeout)
        except RuntimeError as error:
            raise PairError(first_line(error)) from error


def first_line(error: Exception) -> str:
    """Of a message that may drag a C++ stack along, what a person reads."""
    return str(error).split("\n", 1)[0]
