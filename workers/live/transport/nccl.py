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
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor

from .backend import Pair, PairError, PairStore, Pending, Rendezvous

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
        self._device = device
        self._launch = threading.Lock()

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
            with torch.cuda.device(self._device):
                group.eager_connect_single_device(self._device)
        except (RuntimeError, OSError) as error:
            store.forget()
            raise PairError(f"cannot open: {error}") from error
        return NcclPair(group, 1 - rendezvous.rank, store, self._device, self._launch)

    def stage(self, payload: Tensor) -> Tensor:
        """See PairBackend."""
        return payload.detach().to(self._device).contiguous().reshape(-1).view(torch.uint8)

    def allocate(self, size_bytes: int) -> Tensor:
        """See PairBackend."""
        return torch.empty(size_bytes, dtype=torch.uint8, device=self._device)

    def checksum(self, staged: Tensor) -> int:
        """See `position_sum`: on the GPU, as the bytes never visit the host."""
        return position_sum(staged)


class NcclPair:
    """One side of a pair. NCCL has no tags: both sides' order is what matches chunks."""

    def __init__(
        self,
        group: Any,
        peer: int,
        store: PairStore,
        device: torch.device,
        launch: threading.Lock,
    ) -> None:
        self._group = group
        self._peer = peer
        self._store = store
        self._device = device
        self._launch = launch
        self._cancelled = threading.Event()

    def send(self, chunk: Tensor, tag: int) -> Pending:
        """See Pair."""
        return self._post("send", chunk, tag)

    def recv(self, chunk: Tensor, tag: int) -> Pending:
        """See Pair."""
        return self._post("recv", chunk, tag)

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
            with self._launch, torch.cuda.device(self._device):
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


def position_sum(staged: Tensor) -> int:
    """Sum of (word + 1) · (position · MIX | 1) over 8-byte words, modulo 2**64.

    Integer sums have no order, so GPU and CPU agree. The odd factors differ by
    position: a changed byte or two swapped words change the sum.
    """
    padded = torch.nn.functional.pad(staged, (0, -staged.numel() % 8))
    words = padded.view(torch.int64)
    factors = torch.arange(1, words.numel() + 1, device=staged.device) * MIX | 1
    return int(((words + 1) * factors).sum().item()) % (1 << 64)
