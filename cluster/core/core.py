"""The control plane's core: who works, where each request runs, what moves.

Its state is soft: after a restart workers register with all they hold, and
gateways ask again for what nobody holds. It is never on the token path.
"""

from ...proto.cluster_events import (
    ClusterEvent,
    ClusterStarted,
    DrainAsked,
    GatewayDied,
    MigrateAsked,
    MoveEnded,
    RequestArrived,
    RequestDropped,
    RequestEnded,
    RoleAsked,
    WorkerLost,
    WorkerRegistered,
    WorkerViewed,
)
from ...proto.effects import ClusterEffect
from ...proto.ids import RequestId, WorkerKey
from ...proto.timers import SetTimer, TimerFired, TimerKey
from ..policy.placement import PlacementPolicy
from .admission import arrive, drop, end_late, reject_hopeless, reject_overdue
from .asks import drain_asked, migrate_asked, role_asked
from .drain import end_late_drains, finish_drains
from .heartbeat import bury_silent, lost, registered, viewed
from .limits import ClusterLimits
from .listeners import end_orphans, gateway_died
from .membership import Standing
from .migrate import end_silent, order_due
from .placing import place_queued
from .reconcile import move_ended, request_ended
from .recovery import tell_displaced_again
from .state import Cluster
from .status import ClusterStatus, RequestTrace, status_of, trace_of

TICK = TimerKey("tick")


class ClusterCore:
    """`step(event, now_ns) -> effects`. Never raises for what the world can cause."""

    def __init__(self, limits: ClusterLimits, policy: PlacementPolicy, block_tokens: int) -> None:
        """`block_tokens` is the cluster's: every worker must have the same."""
        assert block_tokens > 0, block_tokens
        self._cluster = Cluster(limits, policy, block_tokens)

    def step(self, event: ClusterEvent, now_ns: int) -> list[ClusterEffect]:  # noqa: C901
        """Take one fact; the orders that follow from it, in order."""
        cluster = self._cluster
        cluster.out = []
        match event:
            case WorkerViewed():
                viewed(cluster, event, now_ns)
            case RequestArrived():
                arrive(cluster, event.request, now_ns)
            case RequestDropped():
                drop(cluster, event, now_ns)
            case RequestEnded():
                request_ended(cluster, event, now_ns)
            case MoveEnded():
                move_ended(cluster, event, now_ns)
            case WorkerRegistered():
                registered(cluster, event, now_ns)
            case WorkerLost():
                lost(cluster, event, now_ns)
            case GatewayDied():
                gateway_died(cluster, event, now_ns)
            case DrainAsked():
                drain_asked(cluster, event, now_ns)
            case MigrateAsked():
                migrate_asked(cluster, event, now_ns)
            case RoleAsked():
                role_asked(cluster, event, now_ns)
            case TimerFired():
                self._tick(now_ns)
            case ClusterStarted(worker_ids=worker_ids):
                cluster.started_ns, cluster.expected = now_ns, worker_ids
                missing = [w for w in worker_ids if cluster.members.get(w) is None]
                cluster.restarts.expect(missing, now_ns)
                self._set_tick(now_ns)
        return cluster.out

    def status(self, now_ns: int) -> ClusterStatus:
        """Everything an operator may see, dated `now_ns`."""
        return status_of(self._cluster, now_ns)

    def worker_state(self, key: WorkerKey) -> str:
        """What a word from that life of a worker is worth: its state, unknown, or fenced."""
        standing = self._cluster.members.standing(key)
        record = self._cluster.members.get(key.worker_id)
        if standing is not Standing.CURRENT or record is None:
            return standing.value
        return record.state.value

    def request_state(self, request_id: RequestId) -> str:
        """Where a request stands; unknown also after its end."""
        tracked = self._cluster.requests.get(request_id)
        return "unknown" if tracked is None else tracked.state.value

    def trace(self, request_id: RequestId, now_ns: int) -> RequestTrace | None:
        """One request and its moves, also for a while after its end; None if not known."""
        return trace_of(self._cluster, request_id, now_ns)

    def check(self) -> None:
        """Assert what must hold between any two steps. Costs all the state."""
        self._cluster.check()

    def _tick(self, now_ns: int) -> None:
        """All that is found by looking."""
        cluster = self._cluster
        bury_silent(cluster, now_ns)
        end_silent(cluster, now_ns)
        tell_displaced_again(cluster, now_ns)
        end_orphans(cluster, now_ns)
        cluster.bookings.expire(now_ns)
        reject_overdue(cluster, now_ns)
        reject_hopeless(cluster, now_ns)
        end_late(cluster, now_ns)
        order_due(cluster, now_ns)
        end_late_drains(cluster, now_ns)
        finish_drains(cluster)
        cluster.out += cluster.restarts.due(now_ns)
        place_queued(cluster, now_ns)
        self._set_tick(now_ns)

    def _set_tick(self, now_ns: int) -> None:
        at_ns = now_ns + self._cluster.limits.tick_ns
        self._cluster.out.append(SetTimer(TICK, at_ns))
