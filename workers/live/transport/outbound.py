"""The sender's half of a pair: numbers its copies and announces them."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from ....proto.ids import WorkerKey
from ....proto.move import Copy
from .backend import SOURCE_RANK, Pair, PairBackend, PairError, Rendezvous
from .backlog import Fifo
from .ending import Ending
from .header import CopyHeader, Endpoint
from .jobs import Outgoing, Payload
from .limits import TransportLimits
from .pair_loop import Offer, PairLoop
from .store import RemotePairStore

# Sends the header, with the copy it is about, to the target's `Transport.receive`.
Announce = Callable[[Endpoint, CopyHeader, Copy], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairing:
    """Who pairs with whom, and for the how-manieth time in the source's life."""

    source: WorkerKey
    target: Endpoint
    number: int


def store_prefix(source: WorkerKey, pairing: int, nonce: str) -> str:
    """Both sides' name for one pair in the receiver's store."""
    return f"{source}/{pairing}/{nonce}"


class Outbound:
    """One pairing with one target, never reopened: the next one has a new nonce."""

    def __init__(
        self,
        pairing: Pairing,
        announce: Announce,
        backend: PairBackend,
        limits: TransportLimits,
    ) -> None:
        self._pairing = pairing
        self._announce = announce
        self._nonce = secrets.token_hex(8)
        self._backend = backend
        self._limits = limits
        self._sequence = 0  # the loop's thread only
        self.loop = PairLoop(
            f"kv-send {pairing.target.worker}",
            partial(_open, pairing, self._nonce, backend, limits.open_timeout_s),
            Fifo(limits.queue_len_max),
            limits,
            limits.idle_timeout_s,
        )

    def offer(self, copy: Copy, payload: Payload, ending: Ending) -> Offer | str:
        """Queue a copy; see PairLoop.offer."""
        job = Outgoing(
            payload=payload,
            send_header=partial(self._send_header, copy),
            backend=self._backend,
            chunk_bytes=self._limits.chunk_bytes,
            copy_bytes_max=self._limits.copy_bytes_max,
            ending=ending,
        )
        return self.loop.offer(job)

    def _send_header(self, copy: Copy, transfer_bytes: int, checksum: int) -> None:
        header = CopyHeader(
            copy_id=copy.copy_id,
            source=self._pairing.source,
            pairing=self._pairing.number,
            pair_nonce=self._nonce,
            sequence=self._sequence,
            transfer_bytes=transfer_bytes,
            chunk_bytes=self._limits.chunk_bytes,
            checksum=checksum,
        )
        self._sequence += 1
        self._announce(self._pairing.target, header, copy)


def _open(pairing: Pairing, nonce: str, backend: PairBackend, timeout_s: float) -> Pair:
    """A function, as a method would tie Outbound and loop in a cycle that keeps the backend."""
    target = pairing.target
    prefix = store_prefix(pairing.source, pairing.number, nonce)
    try:
        store = RemotePairStore(target.host, target.port, prefix, timeout_s)
    except OSError as error:
        raise PairError(f"store of {target.worker} is out of reach: {error}") from error
    return backend.open(Rendezvous(store=store, rank=SOURCE_RANK, timeout_s=timeout_s))
