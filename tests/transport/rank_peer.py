"""One tensor-parallel rank as a process: a shard of a cache, a transport, and a pipe to obey."""

import contextlib
import sys
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any

import torch
from kv_peer import Peer
from splitweave.proto.move import Copy
from splitweave.workers.core.head_ranges import Exchange, HeadRange, heads_of
from splitweave.workers.core.parts import exchange_of
from splitweave.workers.live.copier import Copier
from splitweave.workers.live.kv_cache import KvCache
from splitweave.workers.live.rank_copier import HeadBlocks, RankCopier
from splitweave.workers.live.transport import Endpoint, ParcelHeader
from splitweave.workers.models.spec import Family, ModelSpec

LAYERS, BLOCKS, HEAD_DIM = 3, 24, 4


def whole(kv_heads: int, block_tokens: int) -> torch.Tensor:
    """What an unsharded source holds, in every process the same bits."""
    generator = torch.Generator().manual_seed(7)
    shape = (LAYERS, 2, BLOCKS, kv_heads, block_tokens, HEAD_DIM)
    return torch.randn(shape, generator=generator)


def shard_spec(kv_heads: int) -> ModelSpec:
    return ModelSpec(
        family=Family.LLAMA, layers=LAYERS, hidden=HEAD_DIM, heads=kv_heads, kv_heads=kv_heads,
        head_dim=HEAD_DIM, ffn=4, vocab=4, context_tokens=64, rms_eps=1e-5, rope_theta=1e4,
    )  # fmt: skip


class RankPeer(Peer):
    """As Peer, with a cache of its rank's heads and copies between caches."""

    def do_rank(self, kv_heads: int, ranks: int, rank: int, block_tokens: int) -> None:
        assert self._transport is not None
        held = heads_of(kv_heads, ranks, rank)
        self._cache = KvCache(shard_spec(len(held)), BLOCKS, block_tokens)
        self._everything = HeadRange(first=0, last=len(held))
        blocks = HeadBlocks(self._cache, self._everything)
        copier = Copier(blocks, self._transport, lambda end: self.say("end", end))
        self._rank = RankCopier(copier, self._cache, held)
        self._held = held

    def do_fill(self, kv_heads: int, block_tokens: int) -> None:
        own = whole(kv_heads, block_tokens)[:, :, :, self._held.first : self._held.last]
        self._cache.tensor.copy_(own)

    def do_start(self, part: Copy, exchange: Exchange, target: Endpoint) -> None:
        self._rank.start(part, exchange, target)

    def do_land(
        self, header: ParcelHeader, parts: Sequence[Copy], plan: tuple[Exchange, ...]
    ) -> None:
        exchange = exchange_of(parts[0], plan)
        assert exchange is not None, (parts, plan)
        self._rank.land(header, parts, exchange)

    def do_open_lease(self, order: Any) -> None:
        self._rank.open_lease(order)

    def do_close_lease(self, order: Any) -> None:
        self._rank.close_lease(order)
        self.say("lease closed")

    def do_show(self, blocks: tuple[int, ...]) -> None:
        held = self._cache.read_heads(0, LAYERS, blocks, self._everything)
        self.say("blocks", held.numpy())

    def _announce(self, target: Endpoint, header: ParcelHeader, copies: Any) -> None:
        self.say("header", target, header, copies)


if __name__ == "__main__":
    torch.set_num_threads(1)
    with contextlib.suppress(EOFError):
        RankPeer(Connection(int(sys.argv[1]))).serve()
