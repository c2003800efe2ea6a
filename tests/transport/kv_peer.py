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
from splitweave.workers.live.transport import CopyHeader, CopyResult, Endpoint, Transport


def payload(seed: int, size_bytes: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (size_bytes,), dtype=torch.uint8, generator=generator)


def digest(tensor: torch.Tensor) -> int:
    return xxhash.xxh3_64_intdigest(tensor.numpy().data)


class Peer:
    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._lock = threading.Lock()
        self._transport: Transport | None = None

    def serve(self) -> None:
        self.say("ready")
        while True:
            order, *arguments = self._pipe.recv()
            getattr(self, f"do_{order}")(*arguments)

    def say(self, *words: Any) -> None:
        with self._lock:
            self._pipe.send(words)

    def do_open(self, key: Any, limits: Any) -> None:
        self._transport = Transport(key, "127.0.0.1", self._announce, limits=limits)
        self.say("opened", self._transport.endpoint)

    def do_send(self, target: Endpoint, copy: Any, seed: int, size_bytes: int) -> None:
        assert self._transport is not None
        self._transport.send(
            target,
            copy,
            lambda: payload(seed, size_bytes),
            lambda result: self._end("sent", result),
        )

    def do_receive(self, header: CopyHeader) -> None:
        assert self._transport is not None
        digests: list[int] = []
        self._transport.receive(
            header,
            lambda arrived: digests.append(digest(arrived)),
            lambda result: self._end("landed", result, *digests),
        )

    def do_close_pair(self, key: Any) -> None:
        assert self._transport is not None
        self._transport.close_pair(key)

    def do_close(self) -> None:
        if self._transport is not None:
            self._transport.close()
        self._transport = None
        self.say("closed")

    def do_census(self) -> None:
        process = psutil.Process()
        self.say("census", (threading.active_count(), process.num_threads(), process.num_fds()))

    def _announce(self, target: Endpoint, header: CopyHeader, copy: Any) -> None:
        self.say("header", target, header)

    def _end(self, side: str, result: CopyResult, *digests: int) -> None:
        self.say(side, result, *digests)


if __name__ == "__main__":
    torch.set_num_threads(1)
    with contextlib.suppress(EOFError):
        Peer(Connection(int(sys.argv[1]))).serve()
