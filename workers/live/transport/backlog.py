"""What waits for a pair's thread: copies in the order they came, parcels in their sequence.

Plain data, guarded by the pair loop's lock.
"""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar

from .backend import PairError
from .framing import frame_bytes
from .jobs import InParcel, Job, Outgoing, OutParcel
from .limits import TransportLimits

T_contra = TypeVar("T_contra", contravariant=True)
MakeParcel = Callable[[Sequence[Outgoing]], OutParcel]


class Backlog(Protocol, Generic[T_contra]):
    """Bounded."""

    def add(self, item: T_contra) -> str | None:
        """Take it, or say why not. PairError if the pair cannot go on without it."""
        ...

    def pop(self) -> Job | None:
        """The next parcel whose turn it is."""
        ...

    def __len__(self) -> int:
        """How many wait, whether or not it is their turn."""
        ...

    def drain(self) -> Sequence[Job]:
        """Empty it."""
        ...


class Grouping:
    """A sender's: first come, first sent. Small copies that wait share a parcel."""

    def __init__(self, limits: TransportLimits, make_parcel: MakeParcel) -> None:
        self._limits = limits
        self._make_parcel = make_parcel
        self._copies: deque[Outgoing] = deque()

    def add(self, item: Outgoing) -> str | None:
        """See Backlog."""
        if len(self._copies) >= self._limits.queue_len_max:
            return f"queue is full, queue_len_max ({self._limits.queue_len_max})"
        self._copies.append(item)
        return None

    def pop(self) -> OutParcel | None:
        """See Backlog."""
        if not self._copies:
            return None
        group = [self._copies.popleft()]
        left_bytes = self._limits.chunk_bytes - frame_bytes(group[0].size_bytes)
        while self._copies and len(group) < self._limits.group_max:
            left_bytes -= frame_bytes(self._copies[0].size_bytes)
            if left_bytes < 0:
                break
            group.append(self._copies.popleft())
        return self._make_parcel(group)

    def __len__(self) -> int:
        return len(self._copies)

    def drain(self) -> Sequence[Job]:
        """See Backlog."""
        copies, self._copies = list(self._copies), deque()
        return [self._make_parcel(copies)] if copies else []


class InSequence:
    """A receiver's reorder buffer: the control RPC may swap headers, the bytes come in order."""

    def __init__(self, queue_len_max: int) -> None:
        self._queue_len_max = queue_len_max
        self._next = 0
        self._parcels: dict[int, InParcel] = {}

    def add(self, item: InParcel) -> str | None:
        """See Backlog. A doubled header is refused: the first one counts."""
        sequence = item.header.sequence
        if sequence < self._next or sequence in self._parcels:
            return f"header {sequence} of the pair came twice"
        if len(self._parcels) >= self._queue_len_max:
            raise PairError(f"queue is full, queue_len_max ({self._queue_len_max})")
        self._parcels[sequence] = item
        return None

    def pop(self) -> InParcel | None:
        """See Backlog."""
        parcel = self._parcels.pop(self._next, None)
        if parcel is not None:
            self._next += 1
        return parcel

    def __len__(self) -> int:
        return len(self._parcels)

    def drain(self) -> Sequence[Job]:
        """See Backlog. Lowest sequence first."""
        parcels, self._parcels = [self._parcels[key] for key in sorted(self._parcels)], {}
        return parcels
