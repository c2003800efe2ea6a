"""What travels over the control RPC, and what the owner of a copy is told."""

from dataclasses import dataclass
from enum import StrEnum

from ....proto.ids import WorkerKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where a receiver's rendezvous store listens; part of a worker's registration.

    Two workers of equal `host_id` share memory; it is empty if this one does not.
    """

    worker: WorkerKey
    host: str
    port: int
    host_id: str = ""


class Way(StrEnum):
    """What moves a pair's bytes."""

    NETWORK = "network"  # gloo, or NCCL between GPUs
    MEMORY = "memory"  # of the machine that both are on


@dataclass(frozen=True, slots=True, kw_only=True)
class Announced:
    """One copy of a parcel."""

    copy_id: str
    transfer_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ParcelHeader:
    """Announces the copies of one parcel to their target. All sizes of the data plane
    come from here: both sides cut the same messages from it (`framing`).

    `pairing` counts the pairs that `source` has built in its life, so that a
    late header of a dead pair is told from the first of a new one; with
    `pair_nonce` it makes the store prefix, which must never be used twice.
    `sequence` numbers the parcels of one pair from 0, in the order of their
    bytes, and `first_number` its copies. `chunk_bytes` is the same for all of a pair.
    """

    source: WorkerKey
    pairing: int
    pair_nonce: str
    sequence: int
    first_number: int
    chunk_bytes: int
    way: Way
    copies: tuple[Announced, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyResult:
    """How one side's half of a copy ended; `error` is None if it went well.

    At the source that means all bytes have left; at the target, that they
    arrived in their place and matched the checksum. `seconds` run from the
    announcement, 0.0 for a copy that never began.
    """

    copy_id: str
    error: str | None
    transfer_bytes: int
    seconds: float

    @property
    def ok(self) -> bool:
        """Whether this half went well."""
        return self.error is None
