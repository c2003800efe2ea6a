"""A worker process for the sections: one transport at a time, obeying a pipe."""

import contextlib
import os
import sys
import threading
import time
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import Any

import torch
import xxhash
from splitweave.proto.ids import WorkerKey
from splitweave.proto.move import Copy
from splitweave.workers.live.nccl_limits import NcclLimits
from splitweave.workers.live.transport import (
    CopyHeader,
    CopyResult,
    Endpoint,
    PairBackend,
    Transport,
    TransportLimits,
)

HOST = "127.0.0.1"


def payload(seed: int, size_bytes: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (size_bytes,), dtype=torch.uint8, generator=generator)


def digest(tensor: torch.Tensor) -> int:
    return xxhash.xxh3_64_intdigest(tensor.cpu().numpy().data)


class Peer:
    """What `fleet.py` orders; everything it says goes through the pipe."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._lock = threading.Lock()
        self._device = "cpu"
        self._staged: dict[int, torch.Tensor] = {}

    def serve(self) -> None:
        self.say("ready")
        while True:
            order, *arguments = self._pipe.recv()
            getattr(self, f"do_{order}")(*arguments)

    def say(self, *words: Any) -> None:
        with self._lock:
            self._pipe.send(words)

    def do_open(self, key: WorkerKey, backend: str, device: str, copy_timeout_s: float) -> None:
        self._device = device
        self._key = key
        limits = TransportLimits(copy_timeout_s=copy_timeout_s, queue_len_max=1 << 14)
        chosen: PairBackend | None = None
        if backend == "nccl":
            chosen, limits = self._nccl(limits)
        self._transport = Transport(key, HOST, self._announce, backend=chosen, limits=limits)
        self.say("opened", self._transport.endpoint)

    def do_send(self, target: Endpoint, copy: Copy, seed: int, size_bytes: int) -> None:
        """Bytes of a seed, compared by digest at the target."""
        self._send(target, copy, lambda: payload(seed, size_bytes).to(self._device))

    def do_send_staged(self, target: Endpoint, copy: Copy, size_bytes: int) -> None:
        """Bytes that lie ready: for timing."""
        if size_bytes not in self._staged:
            self._staged[size_bytes] = torch.ones(
                size_bytes, dtype=torch.uint8, device=self._device
            )
        staged = self._staged[size_bytes]
        self._send(target, copy, lambda: staged)

    def do_receive(self, header: CopyHeader, with_digest: bool) -> None:
        digests: list[int] = []

        def into(arrived: torch.Tensor) -> None:
            if with_digest:
                digests.append(digest(arrived))

        self._transport.receive(header, into, lambda end: self._end("landed", end, *digests))

    def do_close_pair(self, key: WorkerKey) -> None:
        self._transport.close_pair(key)

    def do_used_bytes(self) -> None:
        """Of the whole GPU, by every process."""
        if self._device == "cpu":
            self.say("used_bytes", 0)
            return
        free, total = torch.cuda.mem_get_info()
        self.say("used_bytes", total - free)

    def _send(self, target: Endpoint, copy: Copy, source: Any) -> None:
        self._transport.send(target, copy, source, lambda end: self._end("sent", end))

    def _nccl(self, limits: TransportLimits) -> tuple[PairBackend, TransportLimits]:
        from splitweave.workers.live.transport.nccl import NcclBackend

        nccl = NcclLimits(pairs_max=int(os.environ.get("PAIRS_MAX", "16")))
        device = torch.device(self._device, 0)
        torch.cuda.set_device(device)
        backend = NcclBackend(device, lambda reason: self.say("stuck", reason), nccl)
        return backend, replace(limits, pairs_max=nccl.pairs_per_direction, in_flight_max=64)

    def _announce(self, target: Endpoint, header: CopyHeader, _copy: Copy) -> None:
        self.say("header", target, header)

    def _end(self, side: str, result: CopyResult, *digests: int) -> None:
        self.say(side, result, time.monotonic(), *digests)


if __name__ == "__main__":
    torch.set_num_threads(1)
    with contextlib.suppress(EOFError):
        Peer(Connection(int(sys.argv[1]))).serve()
