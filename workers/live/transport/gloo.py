"""Pairs over gloo: TCP between CPU memories.

Each pair is a bare two-rank ProcessGroupGloo. Traps met here (measured, torch
2.13): a size mismatch aborts the receiving process; a wait that expires closes
the pair for both sides; `abort()` wakes nobody; `is_completed()` stays False
until someone waits; a tensor that is not contiguous closes the pair.
"""

import contextlib
from datetime import timedelta
from typing import Any

import torch
import xxhash
from torch import Tensor
from torch.distributed import ProcessGroupGloo, Work

from .backend import Pair, PairError, PairStore, Pending, Rendezvous

CANCEL_TAG = (1 << 30) + 1
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
        return GlooPair(group, 1 - rendezvous.rank, store)

    def stage(self, payload: Tensor) -> Tensor:
        """See PairBackend. No copy if the payload is contiguous on the CPU."""
        return payload.detach().cpu().contiguous().reshape(-1).view(torch.uint8)

    def allocate(self, size_bytes: int) -> Tensor:
        """See PairBackend."""
        return torch.empty(size_bytes, dtype=torch.uint8)

    def checksum(self, staged: Tensor) -> int:
        """XXH3, 64 bits."""
        return xxhash.xxh3_64_intdigest(staged.numpy().data)


class GlooPair:
    """One side of a pair; `peer` is the other side's rank."""

    def __init__(self, group: Any, peer: int, store: PairStore) -> None:
        self._group = group  # torch's stub of ProcessGroupGloo knows neither send nor recv
        self._peer = peer
        self._store = store

    def send(self, chunk: Tensor, tag: int) -> Pending:
        """See Pair."""
        try:
            return GlooPending(self._open_group().send([chunk], self._peer, tag))
        except RuntimeError as error:
            raise PairError(first_line(error)) from error

    def recv(self, chunk: Tensor, tag: int) -> Pending:
        """See Pair."""
        try:
            return GlooPending(self._open_group().recv([chunk], self._peer, tag))
        except RuntimeError as error:
            raise PairError(first_line(error)) from error

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
        # gloo takes 0 ms for "no timeout at all".
        timeout = max(timedelta(seconds=timeout_s), timedelta(milliseconds=1))
        try:
            self._work.wait(timeout)
        except RuntimeError as error:
            raise PairError(first_line(error)) from error


def first_line(error: Exception) -> str:
    """Of a message that may drag a C++ stack along, what a person reads."""
    return str(error).split("\n", 1)[0]
