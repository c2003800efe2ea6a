"""The receiver's half of a pair, opened by the first header of a new pairing."""

from functools import partial

from .backend import TARGET_RANK, PairBackend, PairError, Rendezvous
from .backlog import InSequence
from .ending import Ending
from .header import CopyHeader
from .jobs import Incoming, Into
from .limits import TransportLimits
from .outbound import store_prefix
from .pair_loop import Offer, PairLoop
from .store import HostedStore


class Inbound:
    """One pairing by one source."""

    def __init__(
        self, first: CopyHeader, store: HostedStore, backend: PairBackend, limits: TransportLimits
    ) -> None:
        self._backend = backend
        self._limits = limits
        rendezvous = Rendezvous(
            store=store.pair_store(store_prefix(first.source, first.pairing, first.pair_nonce)),
            rank=TARGET_RANK,
            timeout_s=limits.open_timeout_s,
        )
        self.loop = PairLoop(
            f"kv-receive {first.source}",
            partial(backend.open, rendezvous),
            InSequence(limits.queue_len_max),
            limits,
            2 * limits.idle_timeout_s,
        )

    def offer(self, header: CopyHeader, into: Into, ending: Ending) -> Offer | str:
        """Queue a copy; see PairLoop.offer.

        A copy that cannot be taken costs the pair, as its bytes will come in
        all the same; a doubled header costs nothing.
        """
        if misfit := _misfit(header, self._limits):
            self.loop.kill(misfit)
            return misfit
        job = Incoming(header=header, into=into, backend=self._backend, ending=ending)
        try:
            return self.loop.offer(job)
        except PairError as error:
            self.loop.kill(str(error))
            return str(error)


def _misfit(header: CopyHeader, limits: TransportLimits) -> str:
    """Why a header cannot be true; empty if it can. Sizes from it steer gloo."""
    if not 0 <= header.transfer_bytes <= limits.copy_bytes_max:
        return (
            f"copy {header.copy_id}: transfer_bytes ({header.transfer_bytes}) "
            f"is not in 0..copy_bytes_max ({limits.copy_bytes_max})"
        )
    if header.chunk_bytes <= 0 or header.sequence < 0:
        return (
            f"copy {header.copy_id}: chunk_bytes ({header.chunk_bytes}) or "
            f"sequence ({header.sequence}) is too low"
        )
    return ""
