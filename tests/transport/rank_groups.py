"""Two groups of rank processes and their leaders, under a test's hand.

The leaders are what a tensor-parallel worker's core will see of its ranks:
`SendingParts` and `LandingParts`, fed with the ranks' real ends.
"""

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from kv_mesh import LIMITS, START_S, WAIT_S, PeerProcess
from rank_peer import whole
from splitweave.proto.effects import CloseLease, OpenLease
from splitweave.proto.ids import BlockId, Incarnation, MoveId, WorkerId, WorkerKey
from splitweave.proto.move import Copy
from splitweave.proto.worker_events import BlocksLanded, CopyFailed, CopySent
from splitweave.workers.core.head_ranges import exchanges, heads_of
from splitweave.workers.core.parts import LandingParts, SendingParts
from splitweave.workers.live.transport import Endpoint, ParcelHeader, TransportLimits

RANK_PEER = Path(__file__).with_name("rank_peer.py")
MOVE = MoveId("move")
OPEN, CLOSE = OpenLease(move_id=MOVE, lease=1), CloseLease(move_id=MOVE, lease=1)


class Rank:
    """One rank's process in one life."""

    def __init__(self, peer: PeerProcess, key: WorkerKey, limits: TransportLimits) -> None:
        self.peer, self.key = peer, key
        peer.said.clear()
        peer.order("open", key, limits)
        self.endpoint: Endpoint = peer.wait(lambda words: words[0] == "opened")[1]


class Groups:
    """A source and a target group of one model, and the copies between them."""

    def __init__(
        self,
        idle: list[PeerProcess],
        kv_heads: int,
        sizes: tuple[int, int],
        block_tokens: int = 2,
        limits: TransportLimits = LIMITS,
    ) -> None:
        self._limits = limits
        self.kv_heads, self.block_tokens = kv_heads, block_tokens
        self.plan = exchanges(kv_heads, *sizes)
        self._changed = threading.Condition()
        self.sending, self.landing = SendingParts(copies_max=8), LandingParts(copies_max=8)
        self.sent: dict[str, CopySent | CopyFailed] = {}
        self.landed: dict[str, BlocksLanded | CopyFailed] = {}
        self._idle = idle
        self.source = [self._rank("a", sizes[0], rank) for rank in range(sizes[0])]
        self.target = [self._rank("b", sizes[1], rank) for rank in range(sizes[1])]
        for rank in self.source:
            rank.peer.order("fill", kv_heads, block_tokens)
        for rank in self.target:
            rank.peer.order("open_lease", OPEN)

    def copy(self, copy_id: str, layers: tuple[int, int], blocks: list[int]) -> Copy:
        """Blocks go to their mirror images."""
        return Copy(
            copy_id=copy_id,
            move_id=MOVE,
            lease=1,
            target=WorkerKey(WorkerId("b"), Incarnation(1)),
            first_layer=layers[0],
            last_layer=layers[1],
            source_blocks=tuple(BlockId(block) for block in blocks),
            target_blocks=tuple(BlockId(23 - block) for block in blocks),
        )

    def start(self, copy: Copy) -> None:
        with self._changed:
            self.sent.pop(copy.copy_id, None)
            self.landed.pop(copy.copy_id, None)
            self.landing.open(copy, self.plan)
            parts = self.sending.open(copy, self.plan)
        for part, exchange in zip(parts, self.plan, strict=True):
            target = self.target[exchange.target_rank].endpoint
            self.source[exchange.source_rank].peer.order("start", part, exchange, target)

    def wait(self, ends: dict[str, Any], copy_id: str) -> Any:
        with self._changed:
            assert self._changed.wait_for(lambda: copy_id in ends, WAIT_S), (copy_id, ends)
            return ends[copy_id]

    def kill_source(self, rank: int) -> None:
        """The leader hears of its rank's death, as it would of any process it started."""
        self.source[rank].peer.end()
        with self._changed:
            for end in self.sending.rank_lost(rank):
                self._note(self.sent, end)

    def replace_source(self, rank: int) -> None:
        self.source[rank] = self._rank("a", len(self.source), rank, incarnation=2)
        self.source[rank].peer.order("fill", self.kv_heads, self.block_tokens)

    def close_leases(self) -> None:
        for rank in self.target:
            rank.peer.order("close_lease", CLOSE)
            rank.peer.wait(lambda words: words[0] == "lease closed")

    def blocks_of_target(self, rank: int, blocks: tuple[BlockId, ...]) -> torch.Tensor:
        self.target[rank].peer.order("show", blocks)
        said = self.target[rank].peer.wait(lambda words: words[0] == "blocks")
        return torch.from_numpy(said[1])

    def wanted(self, rank: int, blocks: tuple[BlockId, ...]) -> torch.Tensor:
        heads = heads_of(self.kv_heads, len(self.target), rank)
        everything = whole(self.kv_heads, self.block_tokens)
        return everything[:, :, list(blocks), heads.first : heads.last]

    def end(self) -> None:
        for rank in (*self.source, *self.target):
            if rank.peer.process.poll() is None:
                rank.peer.on_header = lambda *_: None
                rank.peer.order("close")
                rank.peer.wait(lambda words: words[0] == "closed")
                self._idle.append(rank.peer)

    def _rank(self, name: str, ranks: int, rank: int, incarnation: int = 1) -> Rank:
        peer = self._idle.pop() if self._idle else new_rank_peer()
        key = WorkerKey(WorkerId(f"{name}/rank{rank}"), Incarnation(incarnation))
        opened = Rank(peer, key, self._limits)
        peer.on_header = self._carry
        peer.on_end = self._take_landed if name == "b" else self._take_sent
        peer.order("rank", self.kv_heads, ranks, rank, self.block_tokens)
        return opened

    def _carry(self, target: Endpoint, header: ParcelHeader, parts: Sequence[Copy]) -> None:
        for rank in self.target:
            if rank.key == target.worker:
                rank.peer.order("land", header, parts, self.plan)

    def _take_sent(self, end: CopySent | CopyFailed) -> None:
        with self._changed:
            self._note(self.sent, self.sending.ended(end))

    def _take_landed(self, end: BlocksLanded | CopyFailed) -> None:
        with self._changed:
            self._note(self.landed, self.landing.ended(end))

    def _note(self, ends: dict[str, Any], end: Any) -> None:
        if end is not None:
            assert end.copy_id not in ends, end
            ends[end.copy_id] = end
            self._changed.notify_all()


def new_rank_peer() -> PeerProcess:
    peer = PeerProcess(RANK_PEER)
    peer.wait(lambda words: words[0] == "ready", START_S)
    return peer
