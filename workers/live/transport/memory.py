"""Pairs over memory that two processes of one machine share.

The source makes a ring of slots in a memfd and hands its descriptor over a unix
socket; both map it. It has no name, so it ends with the last process that has
it, however that one ends. A payload is gathered into a slot and scattered out
of it: no byte passes the kernel. The socket carries a byte per message, from
the source when a slot is filled and from the target when it is done with it,
and says at once when the other process is gone.

    source   fill slot ── "." ──►   checksum, scatter     target
             wait     ◄── "." ──    release
"""

import contextlib
import fcntl
import mmap
import os
import secrets
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from .backend import SOURCE_RANK, Checksum, Pair, PairError, Pending, Rendezvous
from .xxh3 import Xxh3

KEY = "memory"
SLOTS_MAX = 64
BELL = b"."
# A byte fits the socket's buffer: at most `slots` of them are unread.
RING_TIMEOUT_S = 5.0
SHAPE = struct.Struct("<QQ")
CREDENTIALS = struct.Struct("3i")
SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW


def host_id() -> str:
    """What two processes share that can share memory so; empty if this one cannot.

    The same boot, network namespace (that is where the socket's name lives) and user.
    """
    if not hasattr(os, "memfd_create"):
        return ""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        return f"{boot}/{Path('/proc/self/ns/net').readlink()}/{os.getuid()}"
    except OSError:
        return ""


class MemoryBackend:
    """Pairs with other processes of this machine, of this user."""

    def open(self, rendezvous: Rendezvous) -> Pair:
        """See PairBackend. Raises PairError."""
        try:
            if rendezvous.rank == SOURCE_RANK:
                bell, memory = _offer(rendezvous)
            else:
                bell, memory = _accept(rendezvous)
        except (OSError, RuntimeError, ValueError) as error:
            rendezvous.store.forget()
            raise PairError(f"cannot open: {str(error).splitlines()[0]}") from error
        rendezvous.store.met()
        return MemoryPair(bell, memory, rendezvous)

    def checksum(self) -> Checksum:
        """See PairBackend."""
        return Xxh3()


def _offer(rendezvous: Rendezvous) -> tuple[socket.socket, mmap.mmap]:
    """The source's side of meeting: it makes the memory, so that its size is its own."""
    name = f"splitweave-kv-{secrets.token_hex(16)}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.settimeout(rendezvous.timeout_s)
        listener.bind(f"\0{name}")
        listener.listen(1)
        rendezvous.store.torch_store.set(KEY, name)
        bell = listener.accept()[0]
    with _closed_on_error(bell):
        bell.settimeout(rendezvous.timeout_s)
        _check_user(bell)
        size = rendezvous.slots * rendezvous.slot_bytes
        descriptor = os.memfd_create("splitweave-kv", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(descriptor, size)
            fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, SEALS)
            memory = mmap.mmap(descriptor, size)
            shape = SHAPE.pack(rendezvous.slots, rendezvous.slot_bytes)
            socket.send_fds(bell, [shape], [descriptor])
        finally:
            os.close(descriptor)
        if bell.recv(1) != BELL:
            raise ConnectionError("the target would not map the memory")
    return bell, memory


def _accept(rendezvous: Rendezvous) -> tuple[socket.socket, mmap.mmap]:
    """The target's side. Memory that could shrink under it would end its process."""
    name = rendezvous.store.torch_store.get(KEY).decode("ascii")
    bell = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with _closed_on_error(bell):
        bell.settimeout(rendezvous.timeout_s)
        bell.connect(f"\0{name}")
        _check_user(bell)
        data, descriptors, _, _ = socket.recv_fds(bell, SHAPE.size, 1)
        try:
            slots, slot_bytes = SHAPE.unpack(data)
            if slot_bytes != rendezvous.slot_bytes or not 0 < slots <= SLOTS_MAX:
                raise ValueError(f"memory of {slots} slots of {slot_bytes} bytes")
            (descriptor,) = descriptors
            sealed = fcntl.fcntl(descriptor, fcntl.F_GET_SEALS) & SEALS == SEALS
            if not sealed or os.fstat(descriptor).st_size != slots * slot_bytes:
                raise ValueError("memory is not sealed, or of another size than said")
            memory = mmap.mmap(descriptor, slots * slot_bytes)
        finally:
            for each in descriptors:
                os.close(each)
        bell.sendall(BELL)
    return bell, memory


def _check_user(bell: socket.socket) -> None:
    """An abstract name is open to every user of the machine."""
    _, user, _ = CREDENTIALS.unpack(
        bell.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size)
    )
    if user != os.getuid():
        raise ConnectionError(f"the other end is user {user}")


@contextlib.contextmanager
def _closed_on_error(bell: socket.socket) -> Iterator[None]:
    with contextlib.ExitStack() as undo:
        undo.callback(bell.close)
        yield
        undo.pop_all()


class MemoryPair:
    """One side of a pair. A message is through when its bell has come."""

    def __init__(self, bell: socket.socket, memory: mmap.mmap, rendezvous: Rendezvous) -> None:
        self._bell = bell
        self._store = rendezvous.store
        self._is_target = rendezvous.rank != SOURCE_RANK
        self._slot_bytes = rendezvous.slot_bytes
        self._memory: Tensor | None = torch.frombuffer(memory, dtype=torch.uint8)
        self.slots = len(memory) // rendezvous.slot_bytes
        self._heard = 0

    def place(self, number: int, size_bytes: int) -> Tensor:
        """See Pair. Both sides count alike, so a message's slot needs no word."""
        if self._memory is None:
            raise PairError("pair is closed")
        at = number % self.slots * self._slot_bytes
        return self._memory[at : at + size_bytes]

    def send(self, place: Tensor, number: int) -> Pending:
        """See Pair. The target finds it where it lies."""
        assert place.data_ptr() == self.place(number, 1).data_ptr(), number
        self._ring()
        return MemoryPending(self, number)

    def recv(self, place: Tensor, number: int) -> Pending:
        """See Pair. Its place is where the source writes."""
        assert place.data_ptr() == self.place(number, 1).data_ptr(), number
        return MemoryPending(self, number)

    def release(self, number: int) -> None:
        """See Pair. A source hears of it, and tells nobody."""
        if self._is_target:
            assert number < self._heard, number
            self._ring()

    def hear(self, number: int, timeout_s: float) -> None:
        """Until the other side has rung for that message. PairError if it does not."""
        deadline = time.monotonic() + timeout_s
        try:
            while self._heard <= number:
                self._bell.settimeout(max(0.001, deadline - time.monotonic()))
                rung = self._bell.recv(SLOTS_MAX)
                if not rung:
                    raise PairError("the other side has closed the pair")
                self._heard += len(rung)
        except TimeoutError as error:
            raise PairError(f"nothing from the other side in {timeout_s:.1f} s") from error
        except OSError as error:
            raise PairError(f"pair is broken: {error}") from error

    def cancel(self) -> None:
        """See Pair."""
        with contextlib.suppress(OSError):
            self._bell.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """See Pair. The memory goes with its last user."""
        self._bell.close()
        self._memory = None
        self._store.forget()

    def _ring(self) -> None:
        try:
            self._bell.settimeout(RING_TIMEOUT_S)
            self._bell.sendall(BELL)
        except OSError as error:
            raise PairError(f"pair is broken: {error}") from error


class MemoryPending:
    """A filled slot that the target has not released, or one that the source has not filled."""

    def __init__(self, pair: MemoryPair, number: int) -> None:
        self._pair = pair
        self._number = number

    def wait(self, timeout_s: float) -> None:
        """See Pending."""
        self._pair.hear(self._number, timeout_s)
