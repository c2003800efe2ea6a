"""The seam to what moves bytes: a backend opens pairs, a pair moves chunks.

A pair has two ranks: the source is 0, the target is 1. It moves messages, each
of which lies in a `place` of the pair: flat bytes of a ring that is allocated
once. Both sides post the messages 0, 1, 2, … with the same sizes.
"""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor
from torch.distributed import Store  # type: ignore[attr-defined]

SOURCE_RANK = 0
TARGET_RANK = 1


class PairError(Exception):
    """The pair is of no further use: every copy on it fails."""


class PairStore(Protocol):
    """One rank's end of the keys of one pair."""

    @property
    def torch_store(self) -> Store:
        """What a process group takes."""
        ...

    def met(self) -> None:
        """Release what only questions need: the own rank is connected and asks no more."""
        ...

    def forget(self) -> None:
        """Release what it holds, when the pair is done with."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendezvous:
    """Where the two ranks meet: a store, under a prefix that was never used before.

    One that was used holds stale keys: gloo's rank 1 is then refused and rank 0
    hangs for several timeouts. `slots` messages of at most `slot_bytes` may be
    posted at once; both ranks have the same `slot_bytes`, and the pair's `name`.
    """

    store: PairStore
    rank: int
    timeout_s: float
    slots: int
    slot_bytes: int
    name: str


class Pending(Protocol):
    """A message on its way."""

    def wait(self, timeout_s: float) -> None:
        """Block, without the GIL, until it is through. PairError if it fails or is late.

        A late one costs the pair, so this is no way to poll.
        """
        ...


class Pair(Protocol):
    """One side of an open pair. Used by one thread, but for `cancel`."""

    @property
    def slots(self) -> int:
        """How many messages may be posted at once, at most the rendezvous' slots."""
        ...

    def place(self, number: int, size_bytes: int) -> Tensor:
        """Memory for message `number`, 16-byte aligned; free once message `number - slots`
        is through (source) or released (target).
        """
        ...

    def send(self, place: Tensor, number: int) -> Pending:
        """Post a filled place to the target; PairError if the pair is dead."""
        ...

    def recv(self, place: Tensor, number: int) -> Pending:
        """Post a place to be filled by the source; PairError if the pair is dead."""
        ...

    def release(self, number: int) -> None:
        """Done, on this side, with the place of the message; PairError if the pair is dead."""
        ...

    def cancel(self) -> None:
        """Kill the pair and wake every `wait` on it. Any thread; never raises."""
        ...

    def close(self) -> None:
        """Release sockets, threads, memory and the rendezvous' store. Nothing may be pending."""
        ...


class Checksum(Protocol):
    """Of one copy, a piece at a time; all pieces but the last are multiples of 16 bytes."""

    def update(self, piece: Tensor) -> None:
        """Go on with the flat bytes of a place."""
        ...

    def digest(self) -> int:
        """A number below 2**64 that changes if a byte, or two bytes' order, does."""
        ...


class PairBackend(Protocol):
    """Opens pairs. Any thread."""

    def open(self, rendezvous: Rendezvous) -> Pair:
        """Meet the other rank; PairError after at most a few `timeout_s`, the store released."""
        ...

    def checksum(self) -> Checksum:
        """A fresh one, for the places of this backend's pairs."""
        ...
