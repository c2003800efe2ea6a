"""Pairs over NCCL: between GPU memories. Written from NCCL's and torch's documents, never run.

Traps it is built around: a dead peer is not reported, so every wait polls with
a deadline; a wait on the host only orders streams; an aborted operation
returns as if it had gone well, so a cancelled pair says no from then on, and
the checksum is the last word; `abort()` itself may hang, so it gets a thread
of its own. Each pair takes 50-100 MB of GPU memory: keep `pairs_max` low.
"""

import os
import threading
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor

from .backend import Checksum, Pair, PairError, PairStore, Pending, Rendezvous
from .ring import Ring

POLL_S = 0.0002
# Copies need few blocks of threads; the rest of the GPU computes.
CTAS_MAX = 4
# Odd, so that multiplying by it loses nothing modulo 2**64.
MIX = -7046029254386353131


class NcclBackend:
    """All pairs of one GPU. Launches are serialised: NCCL wants one order per device.

    Raises RuntimeError if torch has no NCCL.
    """

    def __init__(self, device: torch.device) -> None:
        # Before the first group: torch's default is to end the process on a late
        # operation, and its watchdog must not act where our deadlines do.
        os.environ.setdefault("TORCH_NCCL_ASYNC_ERROR_HANDLING", "0")
        os.environ.setdefault("TORCH_NCCL_ENABLE_MONITORING", "0")
        os.environ.setdefault("NCCL_LAUNCH_ORDER_IMPLICIT", "1")
        if not torch.distributed.is_nccl_available():
            raise RuntimeError("this torch has no NCCL")
        self._launcher = Launcher(device, threading.Lock())

    def open(self, rendezvous: Rendezvous) -> Pair:
        """See PairBackend. Raises PairError."""
        from torch.distributed import ProcessGroupNCCL

        options = ProcessGroupNCCL.Options()
        options._timeout = timedelta(seconds=rendezvous.timeout_s)  # noqa: SLF001
        options.config.min_ctas = 1
        options.config.max_ctas = CTAS_MAX
        store = rendezvous.store
        try:
            group: Any = ProcessGroupNCCL(store.torch_store, rendezvous.rank, 2, options)
            with torch.cuda.device(self._launcher.device):
                group.eager_connect_single_device(self._launcher.device)
        except (RuntimeError, OSError) as error:
            store.forget()
            raise PairError(f"cannot open: {error}") from error
        ring = Ring(rendezvous.slots, rendezvous.slot_bytes, self._allocate)
        return NcclPair(group, 1 - rendezvous.rank, store, ring, self._launcher)

    def checksum(self) -> Checksum:
        """See `PositionSum`: on the GPU, as the bytes never visit the host."""
        return PositionSum()

    def _allocate(self, size_bytes: int) -> Tensor:
        return torch.empty(size_bytes, dtype=torch.uint8, device=self._launcher.device)


@dataclass(frozen=True, slots=True)
class Launcher:
    """What all pairs of a device share."""

    device: torch.device
    lock: threading.Lock


class NcclPair:
    """One side of a pair. NCCL has no tags: both sides' order is what matches chunks."""

    def __init__(
        self, group: Any, peer: int, store: PairStore, ring: Ring, launcher: Launcher
    ) -> None:
        self._group = group
        self._peer = peer
        self._store = store
        self._ring = ring
        self._launcher = launcher
        self._cancelled = threading.Event()

    @property
    def slots(self) -> int:
        """See Pair."""
        return self._ring.slots

    def place(self, number: int, size_bytes: int) -> Tensor:
        """See Pair."""
        return self._ring.place(number, size_bytes)

    def send(self, place: Tensor, number: int) -> Pending:
        """See Pair."""
        return self._post("send", place, number)

    def recv(self, place: Tensor, number: int) -> Pending:
        """See Pair."""
        return self._post("recv", place, number)

    def release(self, number: int) -> None:
        """See Pair. Nothing: a later message of that slot follows on the same stream."""

    def cancel(self) -> None:
        """See Pair."""
        group = self._group
        if group is not None and not self._cancelled.is_set():
            self._cancelled.set()
            threading.Thread(target=group.abort, name="kv-abort", daemon=True).start()

    def close(self) -> None:
        """See Pair."""
        self._group = None
        self._store.forget()

    def _post(self, verb: str, chunk: Tensor, tag: int) -> Pending:
        if self._cancelled.is_set() or self._group is None:
            raise PairError("pair is closed")
        try:
            with self._launcher.lock, torch.cuda.device(self._launcher.device):
                work = getattr(self._group, verb)([chunk], self._peer, tag)
        except RuntimeError as error:
            raise PairError(str(error)) from error
        return NcclPending(work, self._cancelled)


class NcclPending:
    """A launched send or receive."""

    def __init__(self, work: Any, cancelled: threading.Event) -> None:
        self._work = work
        self._cancelled = cancelled

    def wait(self, timeout_s: float) -> None:
        """See Pending. Ends late ones by raising; the loop then cancels the pair."""
        deadline = time.monotonic() + timeout_s
        while not self._done():
            if time.monotonic() > deadline:
                raise PairError(f"not through in {timeout_s:.1f} s")
            self._cancelled.wait(POLL_S)
        if self._cancelled.is_set():  # an aborted operation looks completed
            raise PairError("pair was cancelled")

    def _done(self) -> bool:
        try:
            return self._cancelled.is_set() or bool(self._work.is_completed())
        except RuntimeError as error:
            raise PairError(str(error)) from error


class PositionSum:
    """Sum of (word + 1) · (position · MIX | 1) over 8-byte words, modulo 2**64.

    Integer sums have no order, so GPU and CPU agree. The odd factors differ by
    position: a changed byte or two swapped words change the sum.
    """

    def __init__(self) -> None:
        self._words = 0
        self._sums: list[Tensor] = []

    def update(self, piece: Tensor) -> None:
        """See Checksum."""
        padded = torch.nn.functional.pad(piece, (0, -piece.numel() % 8))
        words = padded.view(torch.int64)
        first = self._words + 1
        self._words += words.numel()
        factors = torch.arange(first, self._words + 1, device=piece.device) * MIX | 1
        self._sums.append(((words + 1) * factors).sum())

    def digest(self) -> int:
        """See Checksum. Waits for the GPU."""
        return sum(int(each.item()) for each in self._sums) % (1 << 64)
