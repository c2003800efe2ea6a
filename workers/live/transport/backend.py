"""The seam to what moves bytes: a backend opens pairs, a pair moves chunks.

A pair has two ranks: the source is 0, the target is 1. Chunks are contiguous
flat uint8 tensors from the backend's `stage` or `allocate`. Both sides post
chunks in the same order, with the same tags and sizes.
"""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor
from torch.distributed import Store  # type: ignore[attr-defined]

SOURCE_RANK = 0
TARGET_RANK = 1


class PairError(Exception):
    """The pair is of no further use: every copy on it fails."""


class CopyError(Exception):
    """The copy fails; the pair is in step and goes on."""


class PairStore(Protocol):
    """One rank's end of the keys of one pair."""

    @property
    def torch_store(self) -> Store:
        """What a process group takes."""
        ...

    def forget(self) -> None:
        """Release what it holds, when the pair is done with."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendezvous:
    """Where the two ranks meet: a store, under a prefix that was never used before.

    One that was used holds stale keys: gloo's rank 1 is then refused and rank 0
    hangs for several timeouts.
    """

    store: PairStore
    rank: int
    timeout_s: float


class Pending(Protocol):
    """A chunk on its way."""

    def wait(self, timeout_s: float) -> None:
        """Block, without the GIL, until it is through. PairError if it fails or is late.

        A late one costs the pair, so this is no way to poll.
        """
        ...


class Pair(Protocol):
    """One side of an open pair. Used by one thread, but for `cancel`."""

    def send(self, chunk: Tensor, tag: int) -> Pending:
        """Post a chunk to the target; PairError if the pair is dead."""
        ...

    def recv(self, chunk: Tensor, tag: int) -> Pending:
        """Post a chunk's place from the source; PairError if the pair is dead."""
        ...

    def cancel(self) -> None:
        """Kill the pair and wake every `wait` on it. Any thread; never raises."""
        ...

    def close(self) -> None:
        """Release sockets, threads, memory and the rendezvous' store. Nothing may be pending."""
        ...


class PairBackend(Protocol):
    """Opens pairs and owns the memory they work on. Any thread."""

    def open(self, rendezvous: Rendezvous) -> Pair:
        """Meet the other rank; PairError after at most a few `timeout_s`, the store released."""
        ...

    def stage(self, payload: Tensor) -> Tensor:
        """The payload as flat contiguous bytes where this backend can send them."""
        ...

    def allocate(self, size_bytes: int) -> Tensor:
        """Flat bytes where this backend can receive."""
        ...

    def checksum(self, staged: Tensor) -> int:
        """A number below 2**64 that changes if a byte, or two bytes' order, does."""
        ...
