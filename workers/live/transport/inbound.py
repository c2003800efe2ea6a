"""The receiver's half of a pair, opened by the first header of a new pairing."""

from collections.abc import Sequence
from functools import partial

from .backend import TARGET_RANK, PairBackend, PairError, Rendezvous
from .backlog import InSequence
from .ending import Ending
from .framing import ALIGN_BYTES
from .header import ParcelHeader
from .jobs import Incoming, InParcel
from .limits import CHUNK_BYTES_MAX, GROUP_MAX, TransportLimits
from .outbound import store_prefix
from .pair_loop import Offer, PairLoop
from .payload import Landing
from .store import HostedStore


class Inbound:
    """One pairing by one source."""

    def __init__(
        self, first: ParcelHeader, store: HostedStore, backend: PairBackend, limits: TransportLimits
    ) -> None:
        self._backend = backend
        self._limits = limits
        self._chunk_bytes = first.chunk_bytes
        name = store_prefix(first.source, first.pairing, first.pair_nonce)
        rendezvous = Rendezvous(
            store=store.pair_store(name),
            rank=TARGET_RANK,
            timeout_s=limits.open_timeout_s,
            slots=limits.in_flight_max,
            slot_bytes=first.chunk_bytes,
            name=name,
        )
        self.loop: PairLoop[InParcel] = PairLoop(
            f"kv-receive {first.source}",
            partial(backend.open, rendezvous),
            InSequence(limits.queue_len_max),
            limits,
            2 * limits.idle_timeout_s,
        )

    def offer(
        self, header: ParcelHeader, landings: Sequence[Landing], endings: Sequence[Ending]
    ) -> Offer | str:
        """Queue a parcel; see PairLoop.offer.

        One that cannot be taken costs the pair, as its bytes will come in
        all the same; a doubled header costs nothing.
        """
        if header.chunk_bytes != self._chunk_bytes:
            return self._kill(f"chunk_bytes ({header.chunk_bytes}) was {self._chunk_bytes}")
        if misfit := misfit_of(header, self._limits):
            return self._kill(misfit)
        try:
            return self.loop.offer(self._parcel(header, landings, endings))
        except PairError as error:
            return self._kill(str(error))

    def _parcel(
        self, header: ParcelHeader, landings: Sequence[Landing], endings: Sequence[Ending]
    ) -> InParcel:
        copies = [
            Incoming(
                size_bytes=copy.transfer_bytes,
                landing=landing,
                ending=ending,
                checksum=self._backend.checksum(),
            )
            for copy, landing, ending in zip(header.copies, landings, endings, strict=True)
        ]
        return InParcel(header=header, copies=copies)

    def _kill(self, reason: str) -> str:
        self.loop.kill(reason)
        return reason


def misfit_of(header: ParcelHeader, limits: TransportLimits) -> str:
    """Why a header cannot be true; empty if it can. Sizes from it steer gloo."""
    chunk = header.chunk_bytes
    if not ALIGN_BYTES <= chunk <= CHUNK_BYTES_MAX or chunk % ALIGN_BYTES:
        return f"chunk_bytes ({chunk}) is not a multiple of 16 up to {CHUNK_BYTES_MAX}"
    if header.sequence < 0 or header.first_number < header.sequence:
        return f"sequence ({header.sequence}) or first_number ({header.first_number}) is too low"
    if not 0 < len(header.copies) <= GROUP_MAX:
        return f"a parcel of {len(header.copies)} copies is not of 1..{GROUP_MAX}"
    for copy in header.copies:
        if not 0 <= copy.transfer_bytes <= limits.copy_bytes_max:
            return (
                f"copy {copy.copy_id}: transfer_bytes ({copy.transfer_bytes}) "
                f"is not in 0..copy_bytes_max ({limits.copy_bytes_max})"
            )
    return ""
