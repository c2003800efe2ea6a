"""A cached prefix from host memory, from a peer, or computed: seconds per 1 024 tokens.

    python benchmarks/tiers.py [--model PATH] [--tokens 1024] [--rounds 5] [--threads 2] [--json]

The three ways take turns in one run, so that a busy machine slows all of them;
figures are medians, ratios are to computing. `restore` copies the blocks from host
memory into the cache. `fetch` sends them over the KV transport from this process to
another one, checksums and the write into its cache included. `compute` is a prefill
in chunks of 256 tokens.
"""

import argparse
import json
import multiprocessing
import statistics
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from splitweave.cluster.live.model_path import demo_model
from splitweave.proto.batch import Batch, Chunk, Draw
from splitweave.proto.ids import BlockId, Incarnation, MoveId, RequestId, WorkerId, WorkerKey
from splitweave.proto.move import Copy
from splitweave.proto.requests import SamplingParams
from splitweave.workers.live.engine import TorchEngine, load_engine
from splitweave.workers.live.host_memory import HostMemory
from splitweave.workers.live.kv_cache import KvCache
from splitweave.workers.live.transport import CopyHeader, CopyResult, Endpoint, Transport
from splitweave.workers.models.spec_file import read_spec

BLOCK_TOKENS = 16
CHUNK_TOKENS = 256
COPY_BLOCKS = 16
WAIT_S = 100.0
HOST = "127.0.0.1"
WAYS = ("restore", "fetch", "compute")


def key(name: str) -> WorkerKey:
    return WorkerKey(WorkerId(name), Incarnation(1))


def peer_main(pipe: Connection, model: Path, blocks: int) -> None:
    """The process that a prefix is sent to: a cache, and a transport that fills it."""
    torch.set_num_threads(1)
    spec = read_spec(model)
    cache = KvCache(spec, blocks, BLOCK_TOKENS)
    transport = Transport(key("target"), HOST, lambda *_: None)
    pipe.send(transport.endpoint)
    while (order := pipe.recv()) is not None:
        header, copy = order
        transport.receive(header, _into(cache, spec.layers, copy), _tell(pipe))
    transport.close()


def _into(cache: KvCache, layers: int, copy: Copy) -> Callable[[torch.Tensor], None]:
    return lambda payload: cache.write(0, layers, copy.target_blocks, payload)


def _tell(pipe: Connection) -> Callable[[CopyResult], None]:
    return lambda result: pipe.send(result.ok)


class Bench:
    """One engine with `tokens` tokens of KV, its host memory, and a peer."""

    def __init__(self, model: Path, tokens: int, threads: int) -> None:
        self._blocks = tuple(BlockId(block) for block in range(-(-tokens // BLOCK_TOKENS)))
        self._tokens = tokens
        count = len(self._blocks)
        self._engine: TorchEngine = load_engine(model, count, BLOCK_TOKENS, threads=threads)
        self._host = HostMemory(self._engine, count, "cpu")
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        arguments = (theirs, model, count)
        self._peer = context.Process(target=peer_main, args=arguments, daemon=True)
        self._peer.start()
        self._endpoint: Endpoint = self._pipe.recv()
        self._transport = Transport(key("source"), HOST, self._announce)
        self.compute()
        self._host.spill(self._blocks, self._blocks)

    def compute(self) -> None:
        for start in range(0, self._tokens, CHUNK_TOKENS):
            end = min(start + CHUNK_TOKENS, self._tokens)
            chunk = Chunk(
                request_id=RequestId("bench"),
                token_ids=tuple(range(start, end)),
                start=start,
                block_table=self._blocks[: -(-end // BLOCK_TOKENS)],
                draw=Draw(params=SamplingParams(), position=end) if end == self._tokens else None,
            )
            self._engine.run(Batch(iteration=0, chunks=(chunk,)), lambda _layer: None)

    def restore(self) -> None:
        self._host.restore(self._blocks, self._blocks)

    def fetch(self) -> None:
        copies = range(0, len(self._blocks), COPY_BLOCKS)
        for first in copies:
            self._send(self._blocks[first : first + COPY_BLOCKS])
        for _ in copies:
            assert self._pipe.poll(WAIT_S), f"a copy did not end in {WAIT_S} s"
            assert self._pipe.recv(), "a copy failed"

    def close(self) -> None:
        self._pipe.send(None)
        self._transport.close()
        self._peer.join(WAIT_S)

    def _send(self, blocks: tuple[BlockId, ...]) -> None:
        layers = self._engine.spec.layers
        copy = Copy(
            copy_id=str(blocks[0]), move_id=MoveId("bench"), lease=1, target=self._endpoint.worker,
            first_layer=0, last_layer=layers, source_blocks=blocks, target_blocks=blocks,
        )  # fmt: skip
        self._transport.send(
            self._endpoint,
            copy,
            lambda: self._engine.read_blocks(0, layers, blocks),
            lambda _result: None,
        )

    def _announce(self, _target: Endpoint, header: CopyHeader, copy: Copy) -> None:
        self._pipe.send((header, copy))


def measure(bench: Bench, rounds: int, tokens: int) -> dict[str, float]:
    """Seconds per 1 024 tokens, medians; the first round warms up."""
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    for number in range(rounds + 1):
        for way in WAYS:
            started_s = time.perf_counter()
            getattr(bench, way)()
            if number:
                seconds[way].append((time.perf_counter() - started_s) * 1024 / tokens)
    return {way: statistics.median(times) for way, times in seconds.items()}


def table(seconds: dict[str, float]) -> str:
    head = f"{'way':8} {'s / 1 024 tokens':>17} {'x quicker than compute':>23}"
    rows = [f"{w:8} {seconds[w]:17.4f} {seconds['compute'] / seconds[w]:23.1f}" for w in WAYS]
    return "\n".join([head, *rows])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, help="GGUF or folder (default: SmolLM2-135M)")
    parser.add_argument("--tokens", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    options: Any = parser.parse_args()
    bench = Bench(options.model or demo_model(), options.tokens, options.threads)
    seconds = measure(bench, options.rounds, options.tokens)
    bench.close()
    print(json.dumps(seconds) if options.json else table(seconds))


if __name__ == "__main__":
    main()
