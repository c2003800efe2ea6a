"""One worker's KV transport: sends copies to peers and receives theirs.

Data plane: one pair per ordered (source, target), built by the first copy,
under a store prefix that is never used again; the receiver hosts the store.
Control plane: headers travel over someone else's RPC, out through `announce`,
in through `receive`; that RPC may lose, double and reorder them.

Every `send` and every `receive` ends in exactly one `on_done`, whatever dies.
A pair with an error is dead: its copies fail, the next `send` pairs anew.

    source                                 target
    send -> announce(header) ~~ RPC ~~>    receive -> post places, in sequence
            gather, checksum
            messages ==== pair ======>     checksum, scatter
            on_done (all left)             verify, on_done (all landed)

Small copies that wait together share a header and its messages: a *parcel*.

Threads: `send`, `receive` and `close_pair` may be called from any thread and
return at once. Payloads, landings, `announce` and `on_done` run on the pair's
thread (`kv-send <target>`, `kv-receive <source>`) and hold up that pair
only; they must return. `on_done` of a copy that is refused runs in the caller,
before the call returns. None may wait for this transport's `close`.
"""

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence

from ....proto.ids import WorkerId, WorkerKey
from ....proto.move import Copy
from .backend import PairBackend
from .ending import Ending, OnDone
from .header import Endpoint, ParcelHeader
from .inbound import Inbound
from .limits import TransportLimits
from .outbound import Announce, Outbound, Pairing
from .pair_loop import Offer
from .pair_table import PairTable
from .payload import Landing, Payload
from .store import HostedStore
from .ways import Ways, cpu_ways


class Transport:
    """Owns its pairs, their threads, and the store where peers meet it.

    `host` is the own address that peers reach. Raises OSError if the
    store cannot be served.
    """

    def __init__(
        self,
        worker: WorkerKey,
        host: str,
        announce: Announce,
        ways: Ways | None = None,
        limits: TransportLimits | None = None,
    ) -> None:
        self._limits = limits or TransportLimits()
        self._announce = announce
        ways = ways or cpu_ways(host)
        self._ways: Ways | None = ways  # None once closed
        self._store = HostedStore(host, self._limits.open_timeout_s)
        self.endpoint = Endpoint(
            worker=worker, host=host, port=self._store.port, host_id=ways.host_id
        )
        self._lock = threading.Lock()  # guards all below
        self._pairings = 0
        self._newest: OrderedDict[WorkerKey, int] = OrderedDict()
        self._senders: PairTable[WorkerKey, Outbound] = PairTable(self._limits.pairs_max)
        self._receivers: PairTable[tuple[WorkerKey, int], Inbound] = PairTable(
            self._limits.pairs_max
        )

    def send(self, target: Endpoint, copy: Copy, payload: Payload, on_done: OnDone) -> None:
        """Copy `payload` to the target, in order of calls.

        `on_done` says when all bytes have left. Refused above `copy_bytes_max`, at `queue_len_max`
        waiting copies, when all `pairs_max` pairs are busy, or once closed.
        """
        ending = Ending(copy.copy_id, on_done)
        with self._lock:
            refusal = self._offer_outgoing(target, copy, payload, ending)
        if refusal is not None:
            ending.fail(refusal)

    def receive(self, header: ParcelHeader, landings: Sequence[Landing], on_done: OnDone) -> None:
        """Take the copies that a peer announced, each to its landing.

        `on_done` is called for each, when it has landed and is verified or when
        it never will be. Refused if the header is of a pair that is gone, came
        twice, or exceeds a limit.
        """
        endings = [Ending(copy.copy_id, on_done) for copy in header.copies]
        with self._lock:
            refusal = self._offer_incoming(header, landings, endings)
        if refusal is not None:
            for ending in endings:
                ending.fail(refusal)

    def close_pair(self, worker: WorkerKey) -> None:
        """End all pairs with that incarnation; their copies fail, on their threads."""
        self._kill_pairs(worker.__eq__, f"pair with {worker} was closed")

    def cut(self, worker_id: WorkerId) -> int:
        """End all pairs with any incarnation of that worker; how many there were."""
        return self._kill_pairs(
            lambda key: key.worker_id == worker_id, f"pair with {worker_id} was cut"
        )

    def _kill_pairs(self, meant: Callable[[WorkerKey], bool], reason: str) -> int:
        with self._lock:
            pairs = [
                *(self._senders.get(key) for key in self._senders.known() if meant(key)),
                *(self._receivers.get(key) for key in self._receivers.known() if meant(key[0])),
            ]
        live = [pair for pair in pairs if pair is not None]
        for pair in live:
            pair.loop.kill(reason)
        return len(live)

    def close(self) -> None:
        """Fail every copy, end every thread; at most `close_timeout_s`. Idempotent.

        A thread that is stuck in a callback by then is left behind (a daemon),
        its copies failed from here.
        """
        with self._lock:
            self._ways = None  # the last pair to go takes it along
            loops = [*self._senders.loops(), *self._receivers.loops()]
        reason = f"transport of {self.endpoint.worker} was closed"
        deadline = time.monotonic() + self._limits.close_timeout_s
        for loop in loops:
            loop.kill(reason)
        for loop in loops:
            if not loop.join(max(0.0, deadline - time.monotonic())):
                loop.abandon(reason)
        self._store.close()

    def _offer_outgoing(
        self, target: Endpoint, copy: Copy, payload: Payload, ending: Ending
    ) -> str | None:
        """The reason if refused. Holds the lock."""
        if self._ways is None:
            return "transport is closed"
        pair = self._senders.get(target.worker)
        offer = Offer.ENDED if pair is None else pair.offer(copy, payload, ending)
        if offer is Offer.ENDED:
            if refusal := self._senders.make_room():
                return refusal
            pair = self._new_pair(target, self._ways)
            offer = pair.offer(copy, payload, ending)
        return offer if isinstance(offer, str) else None

    def _new_pair(self, target: Endpoint, ways: Ways) -> Outbound:
        self._pairings += 1
        pairing = Pairing(
            source=self.endpoint.worker,
            target=target,
            number=self._pairings,
            nonce=secrets.token_hex(8),
            way=ways.to(target),
        )
        pair = Outbound(pairing, self._announce, ways, self._limits)
        self._senders.add(target.worker, pair)
        return pair

    def _offer_incoming(
        self, header: ParcelHeader, landings: Sequence[Landing], endings: Sequence[Ending]
    ) -> str | None:
        """The reason if refused. Holds the lock."""
        if self._ways is None:
            return "transport is closed"
        pair = self._receivers.get((header.source, header.pairing))
        if pair is None:
            if header.pairing <= self._newest.get(header.source, 0):
                return f"pairing {header.pairing} with {header.source} is gone"
            if refusal := self._receivers.make_room():
                return refusal
            backend = self._ways.backend(header.way)
            if backend is None:
                return f"way {header.way} of {header.source} is not for this worker"
            pair = self._accept_pair(header, backend)
        offer = pair.offer(header, landings, endings)
        if offer is Offer.ENDED:
            return f"pairing {header.pairing} with {header.source} has just ended"
        return offer if isinstance(offer, str) else None

    def _accept_pair(self, header: ParcelHeader, backend: PairBackend) -> Inbound:
        """A source's newer pairing: what is left of its older ones winds down."""
        for source, pairing in self._receivers.known():
            older = self._receivers.get((source, pairing))
            if source == header.source and older is not None:
                older.loop.wind_down()
        self._newest[header.source] = header.pairing
        self._newest.move_to_end(header.source)
        if len(self._newest) > self._limits.sources_max:
            self._newest.popitem(last=False)
        pair = Inbound(header, self._store, backend, self._limits)
        self._receivers.add((header.source, header.pairing), pair)
        return pair
