"""A worker process for transport tests: hosts one Transport at a time, obeys a pipe.

Payloads are made from a seed and a size on the source and compared by digest
on the target, so that nothing but orders, headers and results crosses the pipe.
"""

import contextlib
import sys
import threading
from multiprocessing.connection import Connection
from typing import Any

import psutil
import torch
import xxhash
from flat import FlatLanding, FlatPayload
from splitweave.workers.live.transport import (
    CopyResult,
    Endpoint,
    PairBackend,
    ParcelHeader,
    Transport,
    Way,
    Ways,
)
from splitweave.workers.live.transport.backend import Checksum, Pair, Pending, Rendezvous
from splitweave.workers.live.transport.gloo import GlooBackend
from splitweave.workers.live.transport.memory import MemoryBackend, host_id

WAIT_S = 100.0


def payload(seed: int, size_bytes: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (size_bytes,), dtype=torch.uint8, generator=generator)


def digest(tensor: torch.Tensor) -> int:
    return xxhash.xxh3_64_intdigest(tensor.numpy().data)


class Flipping:
    """A backend on whose wire bits flip."""

    def __init__(self, backend: PairBackend, flips: list[int]) -> None:
        self._backend = backend
        self._flips = flips

    def checksum(self) -> Checksum:
        return self._backend.checksum()

    def open(self, rendezvous: Rendezvous) -> Pair:
        pair: Any = FlippingPair(self._backend.open(rendezvous), self._flips)
        return pair


class FlippingPair:
    """Flips, after the checksum, a bit of what is sent next, `flips` bytes on."""

    def __init__(self, pair: Pair, flips: list[int]) -> None:
        self._pair = pair
        self._flips = flips

    def send(self, place: torch.Tensor, number: int) -> Pending:
        if self._flips:
            at = self._flips.pop()
            if at < place.numel():
                place[at] ^= 4
            else:
                self._flips.append(at - place.numel())
        return self._pair.send(place, number)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pair, name)


class Peer:
    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._lock = threading.Lock()
        self._transport: Transport | None = None
        self._go_on = threading.Event()
        self._go_on.set()
        self._flips: list[int] = []  # after how many of the next bytes sent to flip a bit

    def serve(self) -> None:
        self.say("ready")
        while True:
            order, *arguments = self._pipe.recv()
            getattr(self, f"do_{order}")(*arguments)

    def say(self, *words: Any) -> None:
        with self._lock:
            self._pipe.send(words)

    def do_open(self, key: Any, limits: Any, way: Way = Way.NETWORK) -> None:
        network = Flipping(GlooBackend("127.0.0.1"), self._flips)
        memory = Flipping(MemoryBackend(), self._flips) if way is Way.MEMORY else None
        ways = Ways(network, memory, host_id() if memory else "")
        self._transport = Transport(key, "127.0.0.1", self._announce, ways, limits)
        self.say("opened", self._transport.endpoint)

    def do_send(self, target: Endpoint, copy: Any, seed: int, size_bytes: int) -> None:
        assert self._transport is not None
        self._transport.send(
            target,
            copy,
            FlatPayload(make=lambda: self._payload(seed, size_bytes), size=size_bytes),
            lambda result: self._end("sent", result),
        )

    def _payload(self, seed: int, size_bytes: int) -> torch.Tensor:
        if not self._go_on.is_set():
            self.say("held")
            assert self._go_on.wait(WAIT_S)
        return payload(seed, size_bytes)

    def do_hold(self) -> None:
        self._go_on.clear()

    def do_go_on(self) -> None:
        self._go_on.set()

    def do_flip(self, at: int) -> None:
        self._flips.append(at)

    def do_receive(self, header: ParcelHeader) -> None:
        assert self._transport is not None
        landings = {copy.copy_id: FlatLanding(copy.transfer_bytes) for copy in header.copies}

        def end(result: CopyResult) -> None:
            digests = [digest(landings[result.copy_id].tensor)] if result.ok else []
            self._end("landed", result, *digests)

        self._transport.receive(header, [landings[copy.copy_id] for copy in header.copies], end)

    def do_close_pair(self, key: Any) -> None:
        assert self._transport is not None
        self._transport.close_pair(key)

    def do_cut(self, worker_id: Any) -> None:
        assert self._transport is not None
        self.say("cut", self._transport.cut(worker_id))

    def do_close(self) -> None:
        if self._transport is not None:
            self._transport.close()
        self._transport = None
        self.say("closed")

    def do_census(self) -> None:
        process = psutil.Process()
        self.say("census", (threading.active_count(), process.num_threads(), process.num_fds()))

    def _announce(self, target: Endpoint, header: ParcelHeader, copies: Any) -> None:
        self.say("header", target, header)

    def _end(self, side: str, result: CopyResult, *digests: int) -> None:
        self.say(side, result, *digests)


if __name__ == "__main__":
    torch.set_num_threads(1)
    with contextlib.suppress(EOFError):
        Peer(Connection(int(sys.argv[1]))).serve()
