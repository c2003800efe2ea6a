"""What a placement policy is asked, what it sees, and what it answers.

A policy sees dated views and bookings, never a worker. It answers None when
nobody can take the request now; the request then waits in the queue.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ...proto.ids import RequestId, WorkerKey
from ...proto.move import MoveReport
from ...proto.views import Role, WorkerInfo, WorkerView


@dataclass(frozen=True, slots=True, kw_only=True)
class SLO:
    """What a request should get: time to first token, and time per output token."""

    ttft_ns: int
    tpot_ns: int

    def __post_init__(self) -> None:
        for name, value in (("ttft_ns", self.ttft_ns), ("tpot_ns", self.tpot_ns)):
            if value <= 0:
                raise ValueError(f"{name} ({value}) must be above 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """`uncached` tokens are computed once all that is copied has arrived, after `arrive_ns`."""

    uncached: int
    arrive_ns: float = 0.0
    fetch: WorkerKey | None = None
    fetch_tokens: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacementAsk:
    """One request that needs a worker. `known_tokens` are to be computed or found cached.

    `holders` are workers from which a cached prefix may be fetched, `ways` how each worker comes
    by the prefix: a policy picks them, and keeps them here.
    """

    request_id: RequestId
    known_tokens: int
    output_tokens_max: int  # still to come
    waited_ns: int  # since it arrived
    block_tokens: int
    holders: "tuple[Candidate, ...]" = ()
    ways: dict[WorkerKey, Way] = field(default_factory=dict, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveAsk:
    """One running request that should leave `source`."""

    request_id: RequestId
    source: WorkerKey
    known_tokens: int
    block_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A worker that may be chosen: its last view, and what was placed on it since.

    The view cannot show yet: `booked_prefills` requests with `booked_tokens` prompt
    tokens to compute, `booked_blocks` blocks to allocate, `booked_streams` to decode.
    `hit_tokens` of the request's prefix are cached there, `host_hit_tokens` behind
    them lie in its host memory.
    """

    info: WorkerInfo
    view: WorkerView
    role: Role
    booked_tokens: int = 0
    booked_blocks: int = 0
    booked_prefills: int = 0
    booked_streams: int = 0
    hit_tokens: int = 0
    host_hit_tokens: int = 0
    # Of the above, once: a policy asks for these again and again.
    key: WorkerKey = field(init=False)
    backlog_tokens: int = field(init=False)  # prompt tokens computed before a new request's
    streams: int = field(init=False)  # requests that decode there, or are booked to
    waiting: int = field(init=False)  # requests that wait there, or are booked to prefill
    iteration_ns: float = field(init=False)  # with one token of each request that runs there
    # Blocks nobody has, or will soon need; below 0 when overbooked. Leases are for moves that
    # are booked here, so only bookings beyond what is leased already come off; the backlog
    # will take blocks as it is computed.
    blocks_available: int = field(init=False)

    def __post_init__(self) -> None:
        view = self.view
        backlog_blocks = blocks_for(view.backlog_tokens, self.info.block_tokens)
        booked = max(0, self.booked_blocks - view.blocks_leased)
        free = view.blocks_free + view.blocks_cached - backlog_blocks - booked
        object.__setattr__(self, "key", self.info.key)
        object.__setattr__(self, "backlog_tokens", view.backlog_tokens + self.booked_tokens)
        object.__setattr__(self, "streams", view.running + self.booked_streams)
        object.__setattr__(self, "waiting", view.waiting + self.booked_prefills)
        iteration_ns = view.speed.iteration_ns + view.running * view.speed.token_ns
        object.__setattr__(self, "iteration_ns", iteration_ns)
        object.__setattr__(self, "blocks_available", free)

    @property
    def prefills(self) -> bool:
        """Whether prefill is its job."""
        return self.role is not Role.DECODE

    @property
    def decodes(self) -> bool:
        """Whether decode is its job."""
        return self.role is not Role.PREFILL


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Where a request goes. `decode` None: it stays where it is prefilled.

    `fetch` is a worker from which the first `fetch_tokens` of its prefix are to be
    fetched to `prefill` first; None: nothing is.
    """

    prefill: WorkerKey
    decode: WorkerKey | None
    predicted_ttft_ns: int
    predicted_tpot_ns: int
    fetch: WorkerKey | None = None
    fetch_tokens: int = 0


class PlacementPolicy(Protocol):
    """Chooses workers. Deterministic; ties go to the lower worker key."""

    def place(
        self, ask: PlacementAsk, candidates: Sequence[Candidate], now_ns: int
    ) -> Placement | None:
        """Where to run a request, or None if no candidate can take it now."""
        ...

    def pick_target(
        self, ask: MoveAsk, candidates: Sequence[Candidate], now_ns: int
    ) -> WorkerKey | None:
        """Where to move a running request, never its source; None if nowhere."""
        ...

    def observe_move(self, report: MoveReport) -> None:
        """A move has ended: what it says of the link between its two workers."""
        ...


def blocks_for(tokens: int, block_tokens: int) -> int:
    """Blocks that hold `tokens` tokens."""
    return -(-tokens // block_tokens)
