"""KV transport against what it stands on: bytes and CPU seconds between two processes.

    python benchmarks/transport.py [--rounds 9] [--total-mib 128] [--json]

Five ways move the same bytes over loopback, in turns, so that a busy machine
slows all of them:

    network     a real KV cache to another: headers, gather, checksum, gloo,
                checksum, scatter
    memory      the same over memory that both processes share, as workers of
                one machine do
    gloo        a bare ProcessGroupGloo, messages of the copy's size, as many
                in flight as the transport's
    gloo-chunks the same in messages of the transport's size
    tcp         one plain socket

All read from, and write to, as much memory as the caches have; the last three
in order, without gather, checksum or header. A round lasts until the receiver has
everything. Figures are medians; the ratios are to each of the other ways.

Both ends share the cores of one machine, so what bounds a way is most often the
CPU time it takes: that of both processes is printed too, all threads counted.
"""

import argparse
import json
import multiprocessing
import os
import socket
import statistics
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

import torch
from rich.console import Console
from rich.progress import track
from splitweave.proto.ids import BlockId, Incarnation, MoveId, WorkerId, WorkerKey
from splitweave.proto.move import Copy
from splitweave.workers.live.kv_cache import KvCache
from splitweave.workers.live.transport import (
    CopyResult,
    Endpoint,
    ParcelHeader,
    Transport,
    TransportLimits,
    Ways,
    cpu_ways,
    network_ways,
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
from splitweave.workers.models.spec import Family, ModelSpec
from torch import Tensor

MIB = 1 << 20
GIB = 1 << 30
# A block of one layer is 16 KiB: keys and values of 16 tokens, 2 heads of 64.
SPEC = ModelSpec(
    family=Family.LLAMA, layers=32, hidden=64, heads=2, kv_heads=2, head_dim=64, ffn=64, vocab=9,
    context_tokens=99, rms_eps=1e-5, rope_theta=1e4,
)  # fmt: skip
BLOCK_TOKENS = 16
LAYER_BLOCK_BYTES = 16 << 10
BLOCKS = 256  # of 512 KiB: 128 MiB of cache
# (layers, blocks) of one copy: from a layer of a chunk to whole blocks of a migration
SHAPES = ((1, 4), (4, 4), (2, 32), (4, 64), (8, 64), (16, 64))
LIMITS = TransportLimits(copy_timeout_s=60.0, queue_len_max=1 << 16)
WAIT_S = 100.0
HOST = "127.0.0.1"
OURS = ("network", "memory")
BARE = ("gloo", "gloo-chunks", "tcp")
WAYS = OURS + BARE
Shape = tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One way, one size."""

    bytes_per_s: float
    source_cpu_s_per_gib: float
    target_cpu_s_per_gib: float


Rounds = dict[tuple[Shape, str], list[Round]]


def key(name: str) -> WorkerKey:
    return WorkerKey(WorkerId(name), Incarnation(1))


def size_of(shape: Shape) -> int:
    return shape[0] * shape[1] * LAYER_BLOCK_BYTES


def copies_of(shape: Shape, count: int) -> list[Copy]:
    """Copies that walk over layers and blocks, the blocks out of order, as a real one has them."""
    layers, width = shape
    made = []
    for number in range(count):
        first = number * layers % (SPEC.layers - layers + 1)
        blocks = tuple(BlockId((number * width + i * 7) % BLOCKS) for i in range(width))
        made.append(
            Copy(
                copy_id=str(number),
                move_id=MoveId("bench"),
                lease=1,
                target=key("target"),
                first_layer=first,
                last_layer=first + layers,
                source_blocks=blocks,
                target_blocks=blocks,
            )
        )
    return made


def cache() -> KvCache:
    made = KvCache(SPEC, BLOCKS, BLOCK_TOKENS)
    made.tensor.fill_(1.0)  # its pages are taken now
    return made


def gloo(store: PairStore, rank: int) -> Pair:
    """A bare group, posted to directly: no thread, no header, no checksum of ours."""
    rendezvous = Rendezvous(
        store=store, rank=rank, timeout_s=10.0, slots=1, slot_bytes=16, name="bare"
    )
    return GlooBackend(HOST).open(rendezvous)


def move_messages(post: Callable[[Tensor, int], Pending], places: Sequence[Tensor], n: int) -> None:
    """`n` messages through a bare group, as many in flight as the transport has."""
    pending: deque[Pending] = deque()
    for number in range(n):
        if len(pending) == LIMITS.in_flight_max:
            pending.popleft().wait(WAIT_S)
        pending.append(post(places[number % len(places)], number))
    for work in pending:
        work.wait(WAIT_S)


def ways_of(way: str) -> Ways:
    """As workers have them, but of one kind."""
    return cpu_ways(HOST) if way == "memory" else network_ways(HOST)


def places(memory: Tensor, size: int) -> list[Tensor]:
    """The memory, a message at a time."""
    return list(memory.split(size))


class Target:
    """The receiving process."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._left = 0
        self._cache = cache()
        self._transports = {
            way: Transport(key("target"), HOST, lambda *_: None, ways_of(way), LIMITS)
            for way in OURS
        }
        self._store = HostedStore(HOST, 10.0)
        listener = socket.create_server((HOST, 0))
        endpoints = {way: each.endpoint for way, each in self._transports.items()}
        pipe.send((endpoints, self._store.port, listener.getsockname()[1]))
        self._gloo = gloo(self._store.pair_store("bench"), TARGET_RANK)
        self._socket = listener.accept()[0]
        self._memory = cache().tensor.view(-1).view(torch.uint8)

    def serve(self) -> None:
        while (order := self._pipe.recv()) is not None:
            word, value = order
            getattr(self, f"do_{word}")(value)
        for transport in self._transports.values():
            transport.close()

    def do_header(self, value: tuple[str, ParcelHeader, Sequence[Copy]]) -> None:
        way, header, copies = value
        landings = [
            self._cache.rows(copy.first_layer, copy.last_layer, copy.target_blocks)
            for copy in copies
        ]
        self._transports[way].receive(header, landings, self._landed)

    def do_transport(self, shape: tuple[int, int]) -> None:
        self._left = shape[1]

    def do_cpu(self, _: None) -> None:
        self._pipe.send(time.process_time())

    def do_gloo(self, shape: tuple[int, int]) -> None:
        size, count = shape
        move_messages(self._gloo.recv, places(self._memory, size), count)
        self._pipe.send("done")

    def do_tcp(self, shape: tuple[int, int]) -> None:
        size, count = shape
        all_places = places(self._memory, size)
        for number in range(count):
            place = memoryview(all_places[number % len(all_places)].numpy())
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
        self._cache = cache()
        self._endpoints, store_port, tcp_port = pipe.recv()
        self._transports = {
            way: Transport(key("source"), HOST, partial(self._announce, way), ways_of(way), LIMITS)
            for way in OURS
        }
        self._gloo = gloo(RemotePairStore(HOST, store_port, "bench", 10.0), SOURCE_RANK)
        self._socket = socket.create_connection((HOST, tcp_port))
        self._memory = cache().tensor.view(-1).view(torch.uint8)

    def close(self) -> None:
        for transport in self._transports.values():
            transport.close()
        self._pipe.send(None)

    def round(self, way: str, shape: Shape, total_bytes: int) -> Round:
        """All of it, once."""
        count = max(1, total_bytes // size_of(shape))
        source_cpu_s, target_cpu_s = self._cpu_s()
        seconds = self._move(way, shape, count)
        source_end_s, target_end_s = self._cpu_s()
        size = size_of(shape) * count
        return Round(
            bytes_per_s=size / seconds,
            source_cpu_s_per_gib=(source_end_s - source_cpu_s) * GIB / size,
            target_cpu_s_per_gib=(target_end_s - target_cpu_s) * GIB / size,
        )

    def _move(self, way: str, shape: Shape, count: int) -> float:
        """Seconds, until the target has everything."""
        copies = copies_of(shape, count)
        started_at = time.perf_counter()
        match way:
            case "network" | "memory":
                self._send_copies(way, copies)
            case "gloo":
                self._send_gloo(size_of(shape), count)
            case "gloo-chunks":
                size = min(size_of(shape), LIMITS.chunk_bytes)
                self._send_gloo(size, count * size_of(shape) // size)
            case _:
                self._send_tcp(size_of(shape), count)
        assert self._pipe.poll(WAIT_S), f"{way} did not end in {WAIT_S} s"
        self._pipe.recv()
        return time.perf_counter() - started_at

    def _cpu_s(self) -> tuple[float, float]:
        """What both processes have used in their lives: source, target."""
        self._order("cpu", None)
        return time.process_time(), float(self._pipe.recv())

    def _order(self, word: str, value: Any) -> None:
        with self._lock:
            self._pipe.send((word, value))

    def _announce(
        self, way: str, _target: Endpoint, header: ParcelHeader, copies: Sequence[Copy]
    ) -> None:
        self._order("header", (way, header, copies))

    def _send_copies(self, way: str, copies: list[Copy]) -> None:
        self._order("transport", (0, len(copies)))
        for copy in copies:
            payload = self._cache.rows(copy.first_layer, copy.last_layer, copy.source_blocks)
            self._transports[way].send(self._endpoints[way], copy, payload, lambda _: None)

    def _send_gloo(self, size: int, count: int) -> None:
        self._order("gloo", (size, count))
        move_messages(self._gloo.send, places(self._memory, size), count)

    def _send_tcp(self, size: int, count: int) -> None:
        self._order("tcp", (size, count))
        all_places = places(self._memory, size)
        for number in range(count):
            self._socket.sendall(memoryview(all_places[number % len(all_places)].numpy()))


def measure(rounds: int, total_bytes: int, console: Console) -> list[dict[str, float]]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=target_main, args=(theirs,), daemon=True)
    process.start()
    source = Source(ours)
    measured: Rounds = {(shape, way): [] for shape in SHAPES for way in WAYS}
    for number in track(range(rounds + 1), "rounds", console=console):
        for shape in SHAPES:
            for way in WAYS:
                seen = source.round(way, shape, total_bytes)
                if number:  # the first round pairs and warms up
                    measured[shape, way].append(seen)
    source.close()
    process.join(WAIT_S)
    return [row(shape, measured) for shape in SHAPES]


def row(shape: Shape, measured: Rounds) -> dict[str, float]:
    """Ratios are medians of each round's own ratio: the ways of a round share its weather."""
    names = ("bytes_per_s", "source_cpu_s_per_gib", "target_cpu_s_per_gib")
    return {
        "copy_bytes": size_of(shape),
        **{
            f"{way}_{name}": statistics.median(getattr(seen, name) for seen in measured[shape, way])
            for way in WAYS
            for name in names
        },
        **{
            f"{mine}_to_{bare}": ratio(measured[shape, mine], measured[shape, bare])
            for mine in OURS
            for bare in BARE
        },
    }


def ratio(mine: list[Round], theirs: list[Round]) -> float:
    pairs = zip(mine, theirs, strict=True)
    return statistics.median(ours.bytes_per_s / bare.bytes_per_s for ours, bare in pairs)


def print_rows(rows: Sequence[dict[str, float]]) -> None:
    """Throughput and ratios; then what it took."""
    head = "copy KiB" + "".join(f"{way:>13}" for way in WAYS)
    print(head + "   MB/s; network, memory to:", *BARE)
    for line in rows:
        print(
            f"{line['copy_bytes'] / 1024:8.0f}"
            + "".join(f"{line[f'{way}_bytes_per_s'] / 1e6:13.0f}" for way in WAYS)
            + "".join(
                f"   {line[f'network_to_{bare}']:.2f} {line[f'memory_to_{bare}']:.2f}"
                for bare in BARE
            )
        )
    print(f"\n{head}   CPU seconds per GiB, source + target")
    for line in rows:
        print(
            f"{line['copy_bytes'] / 1024:8.0f}"
            + "".join(
                f"{line[f'{way}_source_cpu_s_per_gib']:7.2f} +"
                f"{line[f'{way}_target_cpu_s_per_gib']:5.2f}"
                for way in WAYS
            )
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description="KV transport throughput on loopback, against bare gloo and a bare socket."
    )
    parser.add_argument("--rounds", type=int, default=9, help="measured rounds (9)")
    parser.add_argument("--total-mib", type=int, default=128, help="MiB per way and round (128)")
    parser.add_argument("--json", action="store_true", help="figures as JSON on stdout")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = measure(arguments.rounds, arguments.total_mib * MIB, Console(stderr=True))
    if arguments.json:
        load = os.getloadavg()[0]
        print(json.dumps({"rounds": arguments.rounds, "load": load, "rows": rows}, indent=2))
        return
    print_rows(rows)


if __name__ == "__main__":
    main()
