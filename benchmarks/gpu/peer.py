"""A worker process for the sections: one transport at a time, obeying a pipe."""

import contextlib
import os
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import Any

import torch
import xxhash
from splitweave.proto.ids import WorkerKey
from splitweave.proto.move import Copy
from splitweave.workers.live.nccl_limits import NcclLimits
from splitweave.workers.live.transport import (
    CopyResult,
    Endpoint,
    ParcelHeader,
    Transport,
    TransportLimits,
    Ways,
    network_ways,
)

HOST = "127.0.0.1"


def payload(seed: int, size_bytes: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (size_bytes,), dtype=torch.uint8, generator=generator)


def digest(tensor: torch.Tensor) -> int:
    return xxhash.xxh3_64_intdigest(tensor.cpu().numpy().data)


class Flat:
    """The bytes of one tensor as a copy's payload, or its landing. They come in pieces."""

    def __init__(self, size_bytes: int, tensor: torch.Tensor | None = None) -> None:
        self.size_bytes = size_bytes
        self.tensor = tensor

    def gather(self, start: int, into: torch.Tensor) -> None:
        assert self.tensor is not None
        into.copy_(self.tensor[start : start + into.numel()])

    def scatter(self, start: int, piece: torch.Tensor) -> None:
        if self.tensor is not None:
            self.tensor[start : start + piece.numel()] = piece


class Peer:
    """What `gpu_fleet.py` orders; everything it says goes through the pipe."""

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
        ways = network_ways(HOST)
        if backend == "nccl":
            ways, limits = self._nccl(limits)
        self._transport = Transport(key, HOST, self._announce, ways, limits)
        self.say("opened", self._transport.endpoint)

    def do_send(self, target: Endpoint, copy: Copy, seed: int, size_bytes: int) -> None:
        """Bytes of a seed, compared by digest at the target."""
        self._send(target, copy, payload(seed, size_bytes).to(self._device))

    def do_send_staged(self, target: Endpoint, copy: Copy, size_bytes: int) -> None:
        """Bytes that lie ready: for timing."""
        if size_bytes not in self._staged:
            self._staged[size_bytes] = torch.ones(
                size_bytes, dtype=torch.uint8, device=self._device
            )
        self._send(target, copy, self._staged[size_bytes])

    def do_receive(self, header: ParcelHeader, with_digest: bool) -> None:
        landings = {
            copy.copy_id: Flat(copy.transfer_bytes, self._memory(copy.transfer_bytes, with_digest))
            for copy in header.copies
        }

        def end(result: CopyResult) -> None:
            landed = landings[result.copy_id].tensor
            known = result.ok and landed is not None
            self._end("landed", result, *([digest(landed)] if known else []))

        self._transport.receive(header, [landings[copy.copy_id] for copy in header.copies], end)

    def do_close_pair(self, key: WorkerKey) -> None:
        self._transport.close_pair(key)

    def do_used_bytes(self) -> None:
        """Of the whole GPU, by every process."""
        if self._device == "cpu":
            self.say("used_bytes", 0)
            return
        free, total = torch.cuda.mem_get_info()
        self.say("used_bytes", total - free)

    def _memory(self, size_bytes: int, wanted: bool) -> torch.Tensor | None:
        """Where a copy lands whose bytes are looked at; the others are let go."""
        return torch.zeros(size_bytes, dtype=torch.uint8, device=self._device) if wanted else None

    def _send(self, target: Endpoint, copy: Copy, source: torch.Tensor) -> None:
        payload = Flat(source.numel(), source)
        self._transport.send(target, copy, payload, lambda end: self._end("sent", end))

    def _nccl(self, limits: TransportLimits) -> tuple[Ways, TransportLimits]:
        from splitweave.workers.live.transport.nccl import NcclBackend

        nccl = NcclLimits(pairs_max=int(os.environ.get("PAIRS_MAX", "16")))
        device = torch.device(self._device, 0)
        torch.cuda.set_device(device)
        backend = NcclBackend(device, lambda reason: self.say("stuck", reason), nccl)
        limits = replace(
            limits, pairs_max=nccl.pairs_per_direction, chunk_bytes=2 << 20, in_flight_max=16
        )
        return Ways(backend, None, ""), limits

    def _announce(self, target: Endpoint, header: ParcelHeader, _copies: Sequence[Copy]) -> None:
        self.say("header", target, header)

    def _end(self, side: str, result: CopyResult, *digests: int) -> None:
        self.say(side, result, time.monotonic(), *digests)


if __name__ == "__main__":
    torch.set_num_threads(1)
    with contextlib.suppress(EOFError):
        Peer(Connection(int(sys.argv[1]))).serve()
