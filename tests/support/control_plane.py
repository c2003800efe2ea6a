"""A ClusterCore on a table: facts in, its orders as short lines of text out."""

from collections.abc import Sequence
from typing import Any

from splitweave.cluster.core.core import ClusterCore
from splitweave.cluster.core.limits import ClusterLimits
from splitweave.cluster.core.requests import HOP_MAX
from splitweave.cluster.policy.placement import SLO, PlacementPolicy
from splitweave.cluster.policy.predicted_seconds import PredictedSeconds
from splitweave.proto.cluster_events import (
    ClusterStarted,
    RequestArrived,
    RequestDropped,
    WorkerLost,
    WorkerRegistered,
    WorkerViewed,
)
from splitweave.proto.effects import (
    AnswerAsk,
    DeliverTokens,
    EndStream,
    FailStream,
    RestartStarting,
    RestartWorker,
    RetireWorker,
    ToController,
    ToGateway,
    ToWorker,
)
from splitweave.proto.gateway_events import (
    RequestAccepted,
    RequestDisplaced,
    RequestRejected,
)
from splitweave.proto.ids import Epoch, GatewayId, Incarnation, RequestId, WorkerId, WorkerKey
from splitweave.proto.move import MoveKind, MoveOrder, MoveReport, Stage
from splitweave.proto.requests import Request
from splitweave.proto.timers import ClearTimer, SetTimer, TimerFired, TimerKey
from splitweave.proto.views import HeldRequest, Phase, Role, Speed, WorkerInfo, WorkerView
from splitweave.proto.worker_events import (
    GatewayLost,
    ListenerChanged,
    MoveOrdered,
    PeerLost,
    RequestAssigned,
    RequestCancelled,
    ResendAsked,
    RoleAssigned,
    StreamAcked,
    ViewAsked,
)

MS = 1_000_000
S = 1_000_000_000
BLOCK_TOKENS = 16
ROLES = {"p": Role.PREFILL, "d": Role.DECODE, "m": Role.MIXED}


def key(name: str, incarnation: int = 1) -> WorkerKey:
    return WorkerKey(WorkerId(name), Incarnation(incarnation))


def info_of(name: str, incarnation: int = 1, **changes: Any) -> WorkerInfo:
    """A worker whose role is its name's first letter: p0, d0, m0."""
    values: dict[str, Any] = {
        "key": key(name, incarnation),
        "role": ROLES[name[0]],
        "pool": name[0],
        "node": "node-0",
        "pid": 1,
        "host": "localhost",
        "port": 1,
        "blocks_total": 1000,
        "block_tokens": BLOCK_TOKENS,
        "block_bytes": 1_000_000,
        "context_tokens_max": 8192,
        "speed": Speed(iteration_ns=10.0 * MS, token_ns=0.1 * MS),
    }
    return WorkerInfo(**values | changes)


def view_of(info: WorkerInfo, **changes: Any) -> WorkerView:
    """An idle, empty worker's view; what is held or leased comes off the free blocks."""
    values: dict[str, Any] = {
        "key": info.key,
        "role": info.role,
        "observed_at_ns": 0,
        "draining": False,
        "waiting": 0,
        "running": 0,
        "backlog_tokens": 0,
        "blocks_total": info.blocks_total,
        "blocks_held": 0,
        "blocks_cached": 0,
        "blocks_leased": 0,
        "blocks_quarantined": 0,
        "speed": info.speed,
        "requests": (),
    } | changes
    used = sum(values[f"blocks_{name}"] for name in ("held", "cached", "leased", "quarantined"))
    return WorkerView(blocks_free=info.blocks_total - used, **values)


def request_of(name: str = "r1", **changes: Any) -> Request:
    values: dict[str, Any] = {
        "request_id": RequestId(name),
        "gateway_id": GatewayId("g0"),
        "token_ids": tuple(range(100)),
        "max_tokens": 50,
        "epoch": Epoch(0),
    }
    return Request(**values | changes)


def held(name: str = "r1", phase: Phase = Phase.DECODE, **changes: Any) -> HeldRequest:
    values: dict[str, Any] = {
        "request_id": RequestId(name),
        "gateway_id": GatewayId("g0"),
        "epoch": Epoch(0),
        "phase": phase,
        "known_tokens": 105,
        "output_tokens": 5,
    }
    return HeldRequest(**values | changes)


def report_of(order: MoveOrder, outcome: Stage = Stage.COMMITTED, **changes: Any) -> MoveReport:
    values: dict[str, Any] = {
        "move_id": order.move_id,
        "kind": order.kind,
        "request_id": order.request_id,
        "epoch": Epoch(0, 1) if outcome is Stage.COMMITTED else Epoch(0, 0),
        "source": order.source,
        "target": order.target,
        "outcome": outcome,
        "reason": "" if outcome is Stage.COMMITTED else "a copy failed",
        "blocks": 7,
        "transfer_bytes": 7_000_000,
        "hidden_bytes": 6_000_000,
        "reserve_ns": 1 * MS,
        "copy_ns": 7 * MS,
        "handover_ns": 2 * MS,
    }
    values |= changes
    stages_ns = values["reserve_ns"] + values["copy_ns"] + values["handover_ns"]
    return MoveReport(asked_ns=1 * MS, ended_ns=1 * MS + stages_ns, **values)


def order_of(name: str, source: str, target: str, kind: MoveKind, move_id: str = "m") -> MoveOrder:
    return MoveOrder(
        move_id=move_id,  # type: ignore[arg-type]
        kind=kind,
        request_id=RequestId(name),
        source=key(source),
        target=key(target),
    )


# ---- effects in words


def _epoch(epoch: Epoch | None) -> str:
    if epoch is None:
        return "any"
    return f"{epoch.attempt}.{'*' if epoch.hop == HOP_MAX else epoch.hop}"


def _to_worker(event: Any) -> str:
    match event:
        case RequestAssigned(request=request, handoff=handoff):
            on = "" if handoff is None else f", hand off to {handoff.target}"
            emitted = f" +{len(request.emitted)}" if request.emitted else ""
            return f"run {request.request_id}@{_epoch(request.epoch)}{emitted}{on}"
        case MoveOrdered(order=order):
            return f"move {order.request_id} to {order.target}"
        case RequestCancelled(request_id=name, epoch=epoch):
            return f"cancel {name}@{_epoch(epoch)}"
        case RoleAssigned(role=role, draining=draining):
            return f"be {role}{', draining' if draining else ''}"
        case ViewAsked():
            return "register"
        case PeerLost(key=lost):
            return f"{lost} is lost"
        case GatewayLost(gateway_id=name):
            return f"gateway {name} is lost"
        case StreamAcked(request_id=name):
            return f"ack {name}"
        case ListenerChanged(request_id=name, gateway_id=gateway, from_index=index):
            return f"send {name} to {gateway} from {index}"
        case ResendAsked(request_id=name, from_index=index):
            return f"resend {name} from {index}"
    raise AssertionError(event)


def _to_gateway(event: Any) -> str:
    match event:
        case RequestAccepted(request_id=name, epoch=epoch, worker=worker):
            where = "waits" if worker is None else f"is at {worker}"
            return f"{name}@{_epoch(epoch)} {where}"
        case RequestRejected(request_id=name, code=code, message=message):
            return f"{name} rejected, {code}: {message}"
        case RequestDisplaced(request_id=name, epoch=epoch, reason=reason):
            return f"{name}@{_epoch(epoch)} displaced: {reason}"
    raise AssertionError(event)


def _to_controller(event: Any) -> str:
    match event:
        case RequestArrived(request=request):
            return f"submit {request.request_id}@{_epoch(request.epoch)} +{len(request.emitted)}"
        case RequestDropped(request_id=name):
            return f"drop {name}"
    raise AssertionError(event)


def _ending(effect: RetireWorker | RestartWorker | RestartStarting) -> str:
    match effect:
        case RetireWorker(key=to):
            return f"retire {to}"
        case RestartWorker(key=to):
            return f"restart {to}"
        case RestartStarting(worker_id=worker_id):
            return f"restart starting {worker_id}"


def say(effect: Any) -> str:
    """One effect as a line; timers too."""
    match effect:
        case ToWorker(key=to, event=event):
            return f"{to}: {_to_worker(event)}"
        case ToGateway(gateway_id=to, event=event):
            return f"{to}: {_to_gateway(event)}"
        case ToController(event=event):
            return f"controller: {_to_controller(event)}"
        case AnswerAsk(ask_id=ask_id, error=error, report=report):
            done = "done" if report is None else f"done, {report.outcome}"
            return f"{ask_id}: {error or done}"
        case RetireWorker() | RestartWorker() | RestartStarting():
            return _ending(effect)
        case DeliverTokens(request_id=name, first_index=first, tokens=tokens):
            return f"{name}[{first}] = {' '.join(str(token.token_id) for token in tokens)}"
        case EndStream(request_id=name, finish=finish, account=account):
            return f"{name} ends, {finish}, {account.output_tokens} tokens"
        case FailStream(request_id=name, code=code, message=message):
            return f"{name} fails, {code}: {message}"
        case SetTimer(key=timer, at_ns=at_ns):
            return f"timer {timer.kind} {timer.subject} at {at_ns // MS} ms"
        case ClearTimer(key=timer):
            return f"no timer {timer.kind} {timer.subject}"
    raise AssertionError(effect)


def lines(effects: Sequence[Any]) -> list[str]:
    """All effects but timers."""
    return [say(e) for e in effects if not isinstance(e, SetTimer | ClearTimer)]


# ---- the two tables


def policy_of(**changes: Any) -> PredictedSeconds:
    values = {"slo": SLO(ttft_ns=1 * S, tpot_ns=50 * MS)} | changes
    return PredictedSeconds(**values)


class Plane:
    """A ClusterCore with the workers named, all registered at time 0."""

    def __init__(
        self,
        *names: str,
        limits: ClusterLimits | None = None,
        policy: PlacementPolicy | None = None,
        infos: dict[str, dict[str, Any]] | None = None,
    ) -> None:
        self.core = ClusterCore(limits or ClusterLimits(), policy or policy_of(), BLOCK_TOKENS)
        self.now_ns = 0
        self.effects: list[Any] = []
        self.infos: dict[WorkerKey, WorkerInfo] = {}
        self.numbers: dict[WorkerKey, int] = {}
        self.tell(ClusterStarted())
        for name in names:
            self.register(name, **(infos or {}).get(name, {}))

    def tell(self, event: Any) -> list[str]:
        """One fact, now; the orders but timers. Invariants are checked."""
        self.effects = self.core.step(event, self.now_ns)
        self.core.check()
        return lines(self.effects)

    def after(self, ns: int) -> "Plane":
        self.now_ns += ns
        return self

    def tick(self) -> list[str]:
        return self.tell(TimerFired(TimerKey("tick")))

    def register(self, name: str, incarnation: int = 1, **changes: Any) -> list[str]:
        """`view`: changes to its view; `cached`: prefix hashes; all others to its info."""
        view, cached = changes.pop("view", {}), changes.pop("cached", ())
        lost = changes.pop("lost", ())
        info = info_of(name, incarnation, **changes)
        self.infos[info.key] = info
        number = self.numbers.setdefault(info.key, 0)
        shown = view_of(info, **{"observed_at_ns": self.now_ns} | view)
        return self.tell(
            WorkerRegistered(info=info, view=shown, cached=cached, number=number, lost=lost)
        )

    def beat(
        self, name: str, *requests: HeldRequest, incarnation: int = 1, **view: Any
    ) -> list[str]:
        """Its next heartbeat, with these requests. `number`, `cached`, `evicted` as given."""
        info = self.infos[key(name, incarnation)]
        number = view.pop("number", self.numbers[info.key] + 1)
        self.numbers[info.key] = max(number, self.numbers[info.key])
        cached, evicted = view.pop("cached", ()), view.pop("evicted", ())
        values = {"observed_at_ns": self.now_ns, "requests": requests} | view
        shown = view_of(info, **values)
        return self.tell(WorkerViewed(view=shown, number=number, cached=cached, evicted=evicted))

    def beats(self, *names: str) -> None:
        """Heartbeats of workers that hold nothing."""
        for name in names:
            self.beat(name)

    def arrive(self, name: str = "r1", **changes: Any) -> list[str]:
        return self.tell(RequestArrived(request=request_of(name, **changes)))

    def drop(self, name: str = "r1", gateway: str = "g0") -> list[str]:
        return self.tell(RequestDropped(request_id=RequestId(name), gateway_id=GatewayId(gateway)))

    def lose(self, name: str, incarnation: int = 1) -> list[str]:
        return self.tell(WorkerLost(key=key(name, incarnation), reason="it crashed"))

    def order(self) -> MoveOrder:
        """The move in the last step's effects."""
        for effect in self.effects:
            match effect:
                case ToWorker(event=RequestAssigned(handoff=MoveOrder() as order)):
                    return order
                case ToWorker(event=MoveOrdered(order=order)):
                    return order
        raise AssertionError(self.effects)

    def states(self) -> dict[str, str]:
        """Every worker's state."""
        return {str(w.worker_id): str(w.state) for w in self.core.status(self.now_ns).workers}

    def where(self, name: str = "r1") -> str:
        """A request's state and worker, or "gone"."""
        for status in self.core.status(self.now_ns).requests:
            if status.request_id == name:
                return status.state + ("" if status.worker is None else f" at {status.worker}")
        return "gone"
