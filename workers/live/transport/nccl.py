"""Pairs over NCCL: between GPU memories. What of it is not NCCL runs on any machine.

Traps it is built around: a dead peer is not reported, so every wait polls with
a deadline; a wait on the host only orders streams; an aborted operation
returns as if it had gone well, so a cancelled pair says no from then on, and
the checksum is the last word; an abort may hang, so a watchdog bounds it and
has the worker start again; every communicator takes 50-100 MB of the GPU, so
there are `pairs_max` of them and no more; the GPU may use a chunk until the
abort is through, so it is kept until then.

    pair's thread ── post ──► dispatcher ── launch ──► communicator
        │  polls the launch                                ▲ abort
        └─ cancel, close ───► watchdog ────────────────────┘
"""

import threading
import time
from typing import Protocol

import torch
from torch import Tensor

from ..nccl_limits import NcclLimits
from .backend import Checksum, Pair, PairError, PairStore, Pending, Rendezvous
from .copy_stream import CopyStream
from .nccl_comm import Communicators, NcclCommunicators, Verb, require_nccl
from .nccl_dispatch import Dispatcher, DispatcherFull, Line, Posted
from .nccl_watchdog import OnStuck, Watchdog
from .ring import Ring

POLL_S = 0.0002
# Odd, so that multiplying by it loses nothing modulo 2**64.
MIX = -7046029254386353131


class NcclBackend:
    """All pairs of one device.

    `on_stuck` is called, once and from a thread of its own, when NCCL hangs in
    a way that only a new process cures. Raises RuntimeError if torch has no NCCL.
    """

    def __init__(
        self,
        device: torch.device,
        on_stuck: OnStuck,
        limits: NcclLimits | None = None,
        communicators: Communicators | None = None,
    ) -> None:
        self._limits = limits or NcclLimits()
        if communicators is None:
            require_nccl()
        self._stream = CopyStream(device)
        self._device = device
        self._communicators = communicators or NcclCommunicators(self._stream, self._limits)
        self._dispatcher = Dispatcher(self._limits.group_max, self._limits.queue_len_max)
        self._watchdog = Watchdog(self._limits.abort_stuck_s, on_stuck)
        self._places = threading.Semaphore(self._limits.pairs_max)

    def open(self, rendezvous: Rendezvous) -> Pair:
        """See PairBackend. Waits for a place among `pairs_max` while an idle pair makes room."""
        store, name = rendezvous.store, rendezvous.name
        if not self._places.acquire(timeout=rendezvous.timeout_s):
            store.forget()
            raise PairError(f"all pairs are busy, pairs_max ({self._limits.pairs_max})")
        try:
            with self._watchdog.bound(f"open of {name}", self._limits.open_stuck_s):
                communicator = self._communicators.open(rendezvous)
        except PairError:
            store.forget()
            self._places.release()
            raise
        line = Line(name, communicator)
        self._stream.enter()  # the pair's thread: all its copying happens there
        ring = Ring(rendezvous.slots, rendezvous.slot_bytes, self._allocate)
        return NcclPair(line, store, ring, self._dispatcher, self._leave)

    def checksum(self) -> Checksum:
        """See `PositionSum`: on the GPU, as the bytes never visit the host."""
        return PositionSum()

    def close(self, timeout_s: float) -> None:
        """End its threads, once no pair is left."""
        self._dispatcher.close(timeout_s)
        self._watchdog.close(timeout_s)

    def _allocate(self, size_bytes: int) -> Tensor:
        return torch.empty(size_bytes, dtype=torch.uint8, device=self._device)

    def _leave(self, line: Line, *, in_haste: bool) -> None:
        after_s = 0.0 if in_haste else self._limits.linger_s
        self._watchdog.abort(line, self._places.release, after_s)


class Leave(Protocol):
    """What a pair calls once, to be rid of its communicator."""

    def __call__(self, line: Line, *, in_haste: bool) -> None: ...


class NcclPair:
    """One side of a pair. `leave` frees its communicator, in another thread."""

    def __init__(
        self, line: Line, store: PairStore, ring: Ring, dispatcher: Dispatcher, leave: Leave
    ) -> None:
        self._line = line
        self._store = store
        self._ring = ring
        self._dispatcher = dispatcher
        self._leave = leave
        self._lock = threading.Lock()
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
        return self._post(Verb.SEND, place, number)

    def recv(self, place: Tensor, number: int) -> Pending:
        """See Pair."""
        return self._post(Verb.RECV, place, number)

    def release(self, number: int) -> None:
        """See Pair. Nothing: a later message of that slot follows on the same stream."""

    def cancel(self) -> None:
        """See Pair."""
        self._end(in_haste=True)

    def close(self) -> None:
        """See Pair. Aborting is the one way to leave that needs nobody else."""
        self._end(in_haste=False)
        self._store.forget()

    def _end(self, *, in_haste: bool) -> None:
        with self._lock:
            if self._cancelled.is_set():
                return
            self._cancelled.set()
        self._line.broken = self._line.broken or "pair was cancelled"
        self._leave(self._line, in_haste=in_haste)

    def _post(self, verb: Verb, place: Tensor, number: int) -> Pending:
        if self._cancelled.is_set():
            raise PairError("pair is closed")
        try:
            return NcclPending(
                self._dispatcher.post(self._line, verb, place, number), self._cancelled
            )
        except DispatcherFull as error:
            raise PairError(str(error)) from error


class NcclPending:
    """A posted send or receive. It holds the chunk, which the GPU uses until it is through."""

    def __init__(self, posted: Posted, cancelled: threading.Event) -> None:
        self._posted = posted
        self._cancelled = cancelled

    def wait(self, timeout_s: float) -> None:
        """See Pending. A late one raises; the loop then cancels the pair."""
        deadline = time.monotonic() + timeout_s
        while not self._through():
            if time.monotonic() > deadline:
                raise PairError(f"not through in {timeout_s:.1f} s")
            self._cancelled.wait(POLL_S)
        if self._cancelled.is_set():  # an aborted operation looks completed
            raise PairError("pair was cancelled")

    def _through(self) -> bool:
        posted = self._posted
        if self._cancelled.is_set():
            return True
        if not posted.told.is_set():
            return False
        if posted.launched is None:
            raise PairError(posted.error)
        try:
            return posted.launched.is_completed()
        except RuntimeError as error:
            raise PairError(str(error).split("\n", 1)[0]) from error


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
