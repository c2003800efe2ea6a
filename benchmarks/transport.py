"""KV transport against what it stands on: bytes per second between two processes.

    python benchmarks/transport.py [--rounds 7] [--total-mib 128] [--json]

Three ways move the same bytes over loopback, in turns, so that a busy machine
slows all of them: `transport` (gather, checksum, header, chunks, checksum),
`gloo` (a bare ProcessGroupGloo, same chunks, as many in flight, no checksum)
and `tcp` (one plain socket, no checksum). A round lasts until the receiver
has everything. Figures are medians; the ratios are to the other two.
"""

import argparse
import json
import multiprocessing
import socket
import statistics
import threading
import time
from collections import deque
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import torch
from splitweave.proto.ids import Incarnation, MoveId, WorkerId, WorkerKey
from splitweave.proto.move import Copy
from splitweave.workers.live.transport import (
    CopyHeader,
    CopyResult,
    Endpoint,
    Transport,
    TransportLimits,
)
from splitweave.workers.live.transport.backend import (
    SOURCE_RANK,
    TARGET_RANK,
    Pair,
    PairStore,
    Pending,
    Rendezvous,
)
from splitweave.workers.live.transport.gloo import GlooBackend
from splitweave.workers.live.transport.store import HostedStore, RemotePairStore
from torch import Tensor

MIB = 1 << 20
SIZES = (64 << 10, 1 * MIB, 8 * MIB, 64 * MIB)
LIMITS = TransportLimits(copy_timeout_s=60.0, queue_len_max=1 << 16)
WAIT_S = 100.0
HOST = "127.0.0.1"


def key(name: str) -> WorkerKey:
    return WorkerKey(WorkerId(name), Incarnation(1))


def gloo(store: PairStore, rank: int) -> Pair:
    """A bare group, posted to directly: no thread, no header, no checksum of ours."""
    return GlooBackend(HOST).open(Rendezvous(store=store, rank=rank, timeout_s=10.0))


def move_chunks(post: Callable[[Tensor, int], Pending], copies: list[Tensor]) -> None:
    """All chunks of the copies through a bare group, `in_flight_max` at a time."""
    pending: deque[Pending] = deque()
    chunks = (chunk for copy in copies for chunk in copy.split(LIMITS.chunk_bytes))
    for tag, chunk in enumerate(chunks):
        if len(pending) == LIMITS.in_flight_max:
            pending.popleft().wait(WAIT_S)
        pending.append(post(chunk, tag))
    for work in pending:
        work.wait(WAIT_S)


class Target:
    """The receiving process."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._left = 0
        self._transport = Transport(key("target"), HOST, lambda *_: None, limits=LIMITS)
        self._store = HostedStore(HOST, 10.0)
        listener = socket.create_server((HOST, 0))
        pipe.send((self._transport.endpoint, self._store.port, listener.getsockname()[1]))
        self._gloo = gloo(self._store.pair_store("bench"), TARGET_RANK)
        self._socket = listener.accept()[0]

    def serve(self) -> None:
        while (order := self._pipe.recv()) is not None:
            word, value = order
            getattr(self, f"do_{word}")(value)
        self._transport.close()

    def do_header(self, header: Any) -> None:
        self._transport.receive(header, lambda _: None, self._landed)

    def do_transport(self, shape: tuple[int, int]) -> None:
        self._left = shape[1]

    def do_gloo(self, shape: tuple[int, int]) -> None:
        size, count = shape
        places = [torch.empty(size, dtype=torch.uint8) for _ in range(count)]
        move_chunks(self._gloo.recv, places)
        self._pipe.send("done")

    def do_tcp(self, shape: tuple[int, int]) -> None:
        size, count = shape
        for _ in range(count):
            place = memoryview(torch.empty(size, dtype=torch.uint8).numpy())
            while place:
                place = place[self._socket.recv_into(place) :]
        self._pipe.send("done")

    def _landed(self, result: CopyResult) -> None:
        assert result.ok, result
        self._left -= 1
        if not self._left:
            self._pipe.send("done")


def target_main(pipe: Connection) -> None:
    torch.set_num_threads(1)
    Target(pipe).serve()


class Source:
    """The sending process: starts each way's round and waits for the target to say done."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._lock = threading.Lock()
        self._endpoint, store_port, tcp_port = pipe.recv()
        self._transport = Transport(key("source"), HOST, self._announce, limits=LIMITS)
        self._gloo = gloo(RemotePairStore(HOST, store_port, "bench", 10.0), SOURCE_RANK)
        self._socket = socket.create_connection((HOST, tcp_port))

    def close(self) -> None:
        self._transport.close()
        self._pipe.send(None)

    def round(self, way: str, size: int, count: int) -> float:
        """Bytes per second."""
        payload = torch.ones(size, dtype=torch.uint8)
        started_at = time.perf_counter()
        self._order(way, (size, count))
        getattr(self, f"_send_{way}")(payload, count)
        assert self._pipe.poll(WAIT_S), f"{way} did not end in {WAIT_S} s"
        self._pipe.recv()
        return size * count / (time.perf_counter() - started_at)

    def _order(self, word: str, value: Any) -> None:
        with self._lock:
            self._pipe.send((word, value))

    def _announce(self, _target: Endpoint, header: CopyHeader, _copy: Copy) -> None:
        self._order("header", header)

    def _send_transport(self, payload: Tensor, count: int) -> None:
        for number in range(count):
            copy = Copy(
                copy_id=str(number),
                move_id=MoveId("bench"),
                target=self._endpoint.worker,
                first_layer=0,
                last_layer=1,
                source_blocks=(),
                target_blocks=(),
            )
            self._transport.send(self._endpoint, copy, payload.clone, lambda _: None)

    def _send_gloo(self, payload: Tensor, count: int) -> None:
        move_chunks(self._gloo.send, [payload] * count)

    def _send_tcp(self, payload: Tensor, count: int) -> None:
        for _ in range(count):
            self._socket.sendall(memoryview(payload.numpy()))


def measure(rounds: int, total_bytes: int) -> list[dict[str, float]]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=target_main, args=(theirs,), daemon=True)
    process.start()
    source = Source(ours)
    rows = [row(source, size, rounds, total_bytes) for size in SIZES]
    source.close()
    process.join(WAIT_S)
    return rows


def row(source: Source, size: int, rounds: int, total_bytes: int) -> dict[str, float]:
    ways = ("transport", "gloo", "tcp")
    rates: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(rounds + 1):
        for way in ways:
            rate = source.round(way, size, max(1, total_bytes // size))
            if number:  # the first round pairs and warms up
                rates[way].append(rate)
    median = {way: statistics.median(rates[way]) for way in ways}
    return {
        "copy_bytes": size,
        **{f"{way}_bytes_per_s": median[way] for way in ways},
        "ratio_to_gloo": median["transport"] / median["gloo"],
        "ratio_to_tcp": median["transport"] / median["tcp"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="KV transport throughput on loopback.")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--total-mib", type=int, default=128)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = measure(arguments.rounds, arguments.total_mib * MIB)
    if arguments.json:
        print(json.dumps(rows, indent=2))
        return
    print("copy KiB   transport   gloo        tcp  (MB/s)   of gloo   of tcp")
    for line in rows:
        rates = [line[f"{way}_bytes_per_s"] / 1e6 for way in ("transport", "gloo", "tcp")]
        print(
            f"{line['copy_bytes'] / 1024:8.0f}"
            + "".join(f"{rate:11.0f}" for rate in rates)
            + f"{line['ratio_to_gloo']:16.2f}{line['ratio_to_tcp']:9.2f}"
        )


if __name__ == "__main__":
    main()
