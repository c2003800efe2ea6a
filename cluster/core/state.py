"""All that one `ClusterCore` holds, and the effects of the step in progress."""

from dataclasses import dataclass, field

from ...proto.cluster_events import AfterDrain, AtDeadline
from ...proto.effects import AnswerAsk, ClusterEffect, DrainReport, ToGateway, ToWorker
from ...proto.gateway_events import GatewayEvent
from ...proto.ids import GatewayId, RequestId, WorkerId, WorkerKey
from ...proto.move import MoveReport
from ...proto.worker_events import WorkerEvent
from ..policy.placement import PlacementPolicy
from ..policy.tiered_index import TieredIndex
from .bookings import Bookings
from .deadlines import Deadlines
from .limits import ClusterLimits
from .membership import Membership
from .moves import OpenMoves
from .queue import AdmissionQueue
from .requests import Requests
from .restarts import Restarts
from .traces import Traces


@dataclass(slots=True, kw_only=True)
class Drain:
    """One worker's drain: what was wished, who waits for its end, and what has left."""

    began_ns: int
    requests: int  # that were there when it began
    then: AfterDrain = AfterDrain.RETIRE
    at_deadline: AtDeadline = AtDeadline.KEEP
    deadline_ns: int | None = None
    asks: list[str] = field(default_factory=list)
    moved: int = 0
    recomputed: int = 0
    transfer_bytes: int = 0


class Cluster:
    """The tables of the control plane. The modules beside this one act on it."""

    def __init__(self, limits: ClusterLimits, policy: PlacementPolicy, block_tokens: int) -> None:
        self.limits = limits
        self.policy = policy
        self.block_tokens = block_tokens
        self.started_ns: int | None = None
        self.expected: tuple[WorkerId, ...] = ()
        self.members = Membership(limits)
        self.restarts = Restarts(limits)
        self.requests = Requests(limits.ended_max)
        self.queue = AdmissionQueue(limits.queue_age_ns)
        self.deadlines = Deadlines()
        self.bookings = Bookings(limits.booking_ns_max)
        self.moves = OpenMoves()
        self.traces = Traces(limits.traces_max, limits.trace_moves_max)
        self.prefixes = TieredIndex(block_tokens=block_tokens, hashes_max=limits.prefix_hashes_max)
        self.drains: dict[WorkerKey, Drain] = {}  # by the worker that drains
        # Unknown lives that a worker waits for, and since when. Bounded, oldest first.
        self.unheard: dict[WorkerKey, int] = {}
        # Gateways that died lately, whose requests still run, by when; then for good.
        # Both bounded, oldest first.
        self.dying_gateways: dict[GatewayId, int] = {}
        self.dead_gateways: dict[GatewayId, None] = {}
        self.orphans: dict[RequestId, int] = {}  # when they became that; stale ones too
        self.out: list[ClusterEffect] = []

    def tell_worker(self, key: WorkerKey, event: WorkerEvent) -> None:
        """Order a message to one life of a worker."""
        self.out.append(ToWorker(key, event))

    def tell_gateway(self, gateway_id: GatewayId, event: GatewayEvent) -> None:
        """Order a message to a gateway."""
        self.out.append(ToGateway(gateway_id, event))

    def answer(
        self,
        ask_id: str,
        error: str = "",
        report: MoveReport | None = None,
        drained: DrainReport | None = None,
    ) -> None:
        """Order the end of an operator's ask."""
        self.out.append(AnswerAsk(ask_id=ask_id, error=error, report=report, drained=drained))

    def asks(self) -> int:
        """Operators who wait for an answer."""
        return sum(len(drain.asks) for drain in self.drains.values()) + self.moves.asks()

    def check(self) -> None:
        """Invariants across the tables; each table has its own beside."""
        self.members.check()
        self.requests.check()
        self.bookings.check()
        self.moves.check()
        self.traces.check()
        queued = [t for t in self.requests.all() if t.request is not None]
        assert len(queued) == len(self.queue), (len(queued), len(self.queue))
        for tracked in queued:
            assert tracked in self.queue, tracked.request_id
        for record in self.members.all():
            if record.dead:
                assert self.requests.count_owned(record.key) == 0, record.key
                assert self.moves.involving(record.key) == [], record.key
        for move in self.moves.all():
            held = self.requests.get(move.order.request_id)
            assert held is not None, move.order
            assert held.owner is not None, move.order
        for key in self.drains:
            assert self.members.current(key) is not None, key
        assert len(self.dying_gateways) <= self.limits.gateways_max, self.dying_gateways
        assert len(self.dead_gateways) <= self.limits.gateways_max, self.dead_gateways
        for tracked in self.requests.all():
            assert tracked.orphaned_ns in (None, self.orphans.get(tracked.request_id)), tracked
        self.restarts.check()
        assert self.asks() <= self.limits.asks_max, self.asks()
