"""The sender's half of a pair: numbers its parcels and announces them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from ....proto.ids import WorkerKey
from ....proto.move import Copy
from .backend import SOURCE_RANK, Pair, PairError, Rendezvous
from .backlog import Grouping
from .ending import Ending
from .header import Announced, Endpoint, ParcelHeader, Way
from .jobs import Outgoing, OutParcel
from .limits import TransportLimits
from .pair_loop import Offer, PairLoop
from .payload import Payload
from .store import RemotePairStore
from .ways import Ways

# Sends the header, with the copies it is about, to the target's `Transport.receive`.
# Raises OSError if the target is known to be out of reach.
Announce = Callable[[Endpoint, ParcelHeader, Sequence[Copy]], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairing:
    """Who pairs with whom, how, and for the how-manieth time in the source's life."""

    source: WorkerKey
    target: Endpoint
    number: int
    nonce: str
    way: Way


def store_prefix(source: WorkerKey, pairing: int, nonce: str) -> str:
    """Both sides' name for one pair in the receiver's store."""
    return f"{source}/{pairing}/{nonce}"


class Outbound:
    """One pairing with one target, never reopened: the next one has a new nonce."""

    def __init__(
        self,
        pairing: Pairing,
        announce: Announce,
        ways: Ways,
        limits: TransportLimits,
    ) -> None:
        backend = ways.backend(pairing.way)
        assert backend is not None, pairing
        self._backend = backend
        self._limits = limits
        headers = Headers(pairing, announce, limits.chunk_bytes)
        self.loop: PairLoop[Outgoing] = PairLoop(
            f"kv-send {pairing.target.worker}",
            partial(_open, pairing, ways, limits),
            Grouping(limits, partial(_parcel, headers)),
            limits,
            limits.idle_timeout_s,
        )

    def offer(self, copy: Copy, payload: Payload, ending: Ending) -> Offer | str:
        """Queue a copy; see PairLoop.offer."""
        size, limit = payload.size_bytes, self._limits.copy_bytes_max
        if size > limit:
            return f"copy of {size} exceeds copy_bytes_max ({limit})"
        return self.loop.offer(
            Outgoing(copy=copy, payload=payload, ending=ending, checksum=self._backend.checksum())
        )


class Headers:
    """Numbers what one pair announces; the loop's thread only."""

    def __init__(self, pairing: Pairing, announce: Announce, chunk_bytes: int) -> None:
        self._pairing = pairing
        self._announce = announce
        self._chunk_bytes = chunk_bytes
        self._sequence = 0
        self._number = 0

    def send(self, copies: Sequence[Outgoing]) -> ParcelHeader:
        """The header, once it is on its way."""
        header = ParcelHeader(
            source=self._pairing.source,
            pairing=self._pairing.number,
            pair_nonce=self._pairing.nonce,
            sequence=self._sequence,
            first_number=self._number,
            chunk_bytes=self._chunk_bytes,
            way=self._pairing.way,
            copies=tuple(
                Announced(copy_id=copy.copy.copy_id, transfer_bytes=copy.size_bytes)
                for copy in copies
            ),
        )
        self._sequence += 1
        self._number += len(copies)
        self._announce(self._pairing.target, header, [copy.copy for copy in copies])
        return header


def _parcel(headers: Headers, copies: Sequence[Outgoing]) -> OutParcel:
    return OutParcel(copies=copies, send_header=headers.send)


def _open(pairing: Pairing, ways: Ways, limits: TransportLimits) -> Pair:
    """A function, as a method would tie Outbound and loop in a cycle that keeps the backend."""
    target, timeout_s = pairing.target, limits.open_timeout_s
    prefix = store_prefix(pairing.source, pairing.number, pairing.nonce)
    try:
        store = RemotePairStore(target.host, target.port, prefix, timeout_s)
    except OSError as error:
        raise PairError(f"store of {target.worker} is out of reach: {error}") from error
    rendezvous = Rendezvous(
        store=store,
        rank=SOURCE_RANK,
        timeout_s=timeout_s,
        slots=limits.in_flight_max,
        slot_bytes=limits.chunk_bytes,
        name=prefix,
    )
    backend = ways.backend(pairing.way)
    assert backend is not None, pairing
    try:
        return backend.open(rendezvous)
    except PairError:
        if pairing.way is Way.MEMORY:
            ways.give_up_memory(target.worker)
        raise
