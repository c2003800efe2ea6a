"""What a fleet is made of: names, limits, a network's faults, a stream, a transcript's lines."""

from dataclasses import dataclass, field
from random import Random
from typing import Any

from splitweave.proto.ids import GatewayId, Incarnation, WorkerId, WorkerKey
from splitweave.proto.move import Copy
from splitweave.proto.requests import FinishReason, Request
from splitweave.proto.views import Role, Speed, WorkerInfo
from splitweave.workers.core import WorkerLimits

MS = 1_000_000
GATEWAY = GatewayId("g")
LIMITS = WorkerLimits(
    batched_tokens_max=32,
    sequences_max=8,
    prefill_chunk_tokens=16,
    watermark_blocks=1,
    layer_group=2,
    copy_bytes_min=1,
    copy_percent=100,
    drain_copy_percent=100,
    asks_ahead_max=1,
    copy_blocks_max=4,
    copies_in_flight_max=8,
)


def key_of(name: str, incarnation: int = 1) -> WorkerKey:
    return WorkerKey(WorkerId(name), Incarnation(incarnation))


def info_of(
    key: WorkerKey, blocks: int = 64, block_tokens: int = 4, host_blocks: int = 0
) -> WorkerInfo:
    return WorkerInfo(
        key=key,
        role=Role.MIXED,
        pool="pool",
        node="node",
        pid=1,
        host="host",
        port=1,
        blocks_total=blocks,
        block_tokens=block_tokens,
        block_bytes=100,
        context_tokens_max=1000,
        speed=Speed(iteration_ns=1e6, token_ns=1e4),
        host_blocks=host_blocks,
    )


@dataclass
class Network:
    """How peers' messages and copies travel; the defaults are a perfect network."""

    random: Random = field(default_factory=Random)
    delay_ns: int = 100_000
    jitter_ns: int = 0
    lost: float = 0.0
    doubled: float = 0.0
    copies_failed: float = 0.0
    damaged: tuple[str, ...] = ()  # copies that arrive with a wrong marker
    copy_ns: int = 500_000

    def copies_of_message(self) -> int:
        if self.random.random() < self.lost:
            return 0
        return 2 if self.random.random() < self.doubled else 1

    def delay(self, least_ns: int) -> int:
        return least_ns + (self.random.randrange(self.jitter_ns) if self.jitter_ns else 0)


@dataclass
class Stream:
    """What the gateway has of one request."""

    request: Request
    expected: list[int]
    tokens: dict[int, int] = field(default_factory=dict)
    finish: FinishReason | None = None
    length: int | None = None

    @property
    def done(self) -> bool:
        return self.length is not None and len(self.tokens) == self.length

    @property
    def have(self) -> int:
        """How many tokens the gateway has without a gap."""
        count = len(self.request.emitted) if self.request.epoch.attempt else 0
        while count in self.tokens:
            count += 1
        return count

    @property
    def text(self) -> list[int]:
        return [self.tokens[index] for index in sorted(self.tokens)]


def describe(what: Any) -> str:
    """An event or a copy as one line of a transcript."""
    if isinstance(what, Copy):
        layers = f"layers {what.first_layer}-{what.last_layer}"
        return f"copy {what.copy_id} {layers} {len(what.source_blocks)} blocks"
    shown = {
        "blocks": lambda blocks: f"blocks={blocks if isinstance(blocks, int) else len(blocks)}",
        "present": lambda present: f"present={present}",
        "emitted": lambda emitted: f"emitted={len(emitted)}",
        "computed": lambda computed: f"computed={computed}",
        "copies": lambda copies: f"copies={len(copies)}",
        "epoch": lambda epoch: f"epoch={epoch.attempt}.{epoch.hop}",
        "reason": lambda reason: f"reason={reason!r}",
    }
    parts = [show(getattr(what, name)) for name, show in shown.items() if hasattr(what, name)]
    return f"{type(what).__name__}({', '.join(parts)})"
