"""What travels over the control RPC, and what the owner of a copy is told."""

from dataclasses import dataclass

from ....proto.ids import WorkerKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where a receiver's rendezvous store listens; part of a worker's registration."""

    worker: WorkerKey
    host: str
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyHeader:
    """Announces one copy to its target. All sizes of the data plane come from here.

    `pairing` counts the pairs that `source` has built in its life, so that a
    late header of a dead pair is told from the first of a new one; with
    `pair_nonce` it makes the store prefix, which must never be used twice.
    `sequence` numbers the copies of one pair from 0, in the order of their
    bytes. `checksum` is the backend's, over all `transfer_bytes`.
    """

    copy_id: str
    source: WorkerKey
    pairing: int
    pair_nonce: str
    sequence: int
    transfer_bytes: int
    chunk_bytes: int
    checksum: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyResult:
    """How one side's half of a copy ended; `error` is None if it went well.

    At the source that means all bytes have left; at the target, that they
    arrived, matched the checksum and were handed over. `seconds` run from the
    gather (source) or the allocation (target), 0.0 for a copy that never began.
    """

    copy_id: str
    error: str | None
    transfer_bytes: int
    seconds: float

    @property
    def ok(self) -> bool:
        """Whether this half went well."""
        return self.error is None
