"""Between a worker and the controller: registration, role, heartbeats.

`WorkerRegistered` is repeated until `RoleAssigned`; from then on there are
heartbeats, and none stops for a later registration.
"""

from collections.abc import Callable
from dataclasses import dataclass

from ...proto.cluster_events import WorkerRegistered, WorkerViewed
from ...proto.ids import WorkerKey
from ...proto.timers import TimerKey
from ...proto.views import Phase, Role, Speed, WorkerInfo, WorkerView
from .holdings import Holdings
from .limits import WorkerLimits
from .outbox import Outbox

REGISTER = TimerKey("register")
HEARTBEAT = TimerKey("heartbeat")


@dataclass(frozen=True, slots=True, kw_only=True)
class Witness:
    """What else a worker tells of itself, asked when it is told."""

    speed: Callable[[], Speed]
    awaited: Callable[[], tuple[WorkerKey, ...]]  # who still writes to closed leases here
    lost: Callable[[], tuple[WorkerKey, ...]]  # peers known to be dead


class Membership:
    """What the controller was told, and what it has answered."""

    def __init__(
        self,
        info: WorkerInfo,
        limits: WorkerLimits,
        holdings: Holdings,
        witness: Witness,
        seed: int,
        out: Outbox,
    ) -> None:
        self.role = info.role
        self.draining = False
        self._info = info
        self._limits = limits
        self._holdings = holdings
        self._witness = witness
        self._host = holdings.host_blocks
        self._out = out
        # Workers that start together do not beat together.
        self._offset_ns = (seed * 2_654_435_761 & 0xFFFFFFFF) * limits.heartbeat_ns >> 32
        self._answered = False
        self._beats = False
        self._number = 0

    def register(self, now_ns: int) -> None:
        """Tells everything; again by timer until it is answered."""
        self._answered = False
        self._holdings.blocks.take_changes()  # `cached` has them all
        self._host.findable.take_changes()
        self._out.to_controller(
            WorkerRegistered(
                info=self._info,
                view=self.view(now_ns),
                cached=self._holdings.blocks.findable(),
                number=self._number,
                lost=self._witness.lost(),
                host_cached=self._host.findable.all(),
            )
        )
        self._out.set_timer(REGISTER, now_ns + self._limits.register_retry_ns)

    def register_again(self, now_ns: int) -> None:
        """Nobody has answered yet, or the answer has crossed the timer."""
        if not self._answered:
            self.register(now_ns)

    def assigned(self, role: Role, now_ns: int, *, draining: bool) -> None:
        """The controller knows this worker; what it says counts."""
        self.role = role
        self.draining = draining
        if not self._answered:
            self._answered = True
            self._out.clear_timer(REGISTER)
        if not self._beats:
            self._beats = True
            at_ns = now_ns + self._limits.heartbeat_ns - self._offset_ns
            self._out.set_timer(HEARTBEAT, at_ns)

    def beat(self, now_ns: int) -> None:
        """One heartbeat: the view, and what changed in the prefix cache."""
        self._number += 1
        cached, evicted = self._holdings.blocks.take_changes()
        host_cached, host_evicted = self._host.findable.take_changes()
        self._out.to_controller(
            WorkerViewed(
                view=self.view(now_ns),
                number=self._number,
                cached=cached,
                evicted=evicted,
                host_cached=host_cached,
                host_evicted=host_evicted,
            )
        )
        self._out.set_timer(HEARTBEAT, now_ns + self._limits.heartbeat_ns)

    def view(self, now_ns: int) -> WorkerView:
        """The worker as of now. O(requests)."""
        holdings = self._holdings
        counts = holdings.blocks.counts
        backlog = sum(
            sequence.remaining
            for sequence in holdings.held.values()
            if sequence.phase in (Phase.WAITING, Phase.PREFILL)
        )
        return WorkerView(
            key=self._info.key,
            role=self.role,
            observed_at_ns=now_ns,
            draining=self.draining,
            waiting=len(holdings.waiting),
            running=len(holdings.running),
            backlog_tokens=backlog,
            blocks_total=holdings.blocks.total,
            blocks_free=counts.free,
            blocks_held=counts.held,
            blocks_cached=counts.cached,
            blocks_leased=counts.leased,
            blocks_quarantined=counts.quarantined,
            speed=self._witness.speed(),
            requests=tuple([sequence.held() for sequence in holdings.held.values()]),
            awaited=self._witness.awaited(),
            host_blocks_total=self._host.total,
            host_blocks_cached=len(self._host.findable),
        )
