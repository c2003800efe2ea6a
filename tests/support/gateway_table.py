"""A GatewayCore on a table: facts in, its orders as short lines of text out."""

from typing import Any

from control_plane import key, lines, order_of, report_of, request_of
from splitweave.cluster.core.gateway import GatewayCore
from splitweave.cluster.core.limits import GatewayLimits
from splitweave.proto.effects import EndStream
from splitweave.proto.gateway_events import (
    GenerateAsked,
    MoveReported,
    RejectCode,
    RequestAccepted,
    RequestDisplaced,
    RequestRejected,
    TokenChunk,
    TokensEmitted,
)
from splitweave.proto.ids import Epoch, GatewayId, RequestId
from splitweave.proto.move import MoveKind
from splitweave.proto.requests import FinishReason, SampledToken
from splitweave.proto.timers import ClearTimer, SetTimer, TimerFired, TimerKey


class Front:
    """A GatewayCore; keeps its timers, and fires them as time goes by."""

    def __init__(self, **limits: Any) -> None:
        self.core = GatewayCore(GatewayId("g0"), GatewayLimits(**limits))
        self.now_ns = 0
        self.effects: list[Any] = []
        self.history: list[Any] = []  # the effects of all steps
        self.timers: dict[TimerKey, int] = {}

    def tell(self, event: Any) -> list[str]:
        """One fact, now; the orders but timers."""
        self.effects = self.core.step(event, self.now_ns)
        self.history += self.effects
        self.core.check()
        for effect in self.effects:
            if isinstance(effect, SetTimer):
                self.timers[effect.key] = effect.at_ns
            elif isinstance(effect, ClearTimer):
                self.timers.pop(effect.key, None)
        return lines(self.effects)

    def wait(self, ns: int) -> list[str]:
        """Let time go by; what the timers ordered meanwhile."""
        until_ns, said = self.now_ns + ns, []
        while self.timers and min(self.timers.values()) <= until_ns:
            due = min(self.timers, key=lambda timer: (self.timers[timer], timer))
            self.now_ns = self.timers.pop(due)
            said += self.tell(TimerFired(due))
        self.now_ns = until_ns
        return said

    def chunk(
        self,
        first: int,
        *tokens: int,
        worker: str = "d0",
        epoch: Epoch | None = None,
        finish: FinishReason | None = None,
        name: str = "r1",
    ) -> list[str]:
        """Tokens from a worker."""
        chunk = TokenChunk(
            request_id=RequestId(name),
            epoch=epoch or Epoch(0),
            first_index=first,
            tokens=tuple(SampledToken(token_id=token) for token in tokens),
            finish=finish,
            cached_tokens=32,
        )
        return self.tell(TokensEmitted(worker=key(worker), chunks=(chunk,)))

    def accepted(self, worker: str | None = "p0", **changes: Any) -> list[str]:
        values: dict[str, Any] = {
            "request_id": RequestId("r1"),
            "epoch": Epoch(0),
            "worker": None if worker is None else key(worker),
        }
        return self.tell(RequestAccepted(**values | changes))


R1 = RequestId("r1")
DROP = "controller: drop r1"


def asked(front: Front, *, deadline_ns: int | None = None, **request: Any) -> list[str]:
    event = GenerateAsked(request=request_of("r1", **request), deadline_ns=deadline_ns)
    return front.tell(event)


def opened(
    deadline_ns: int | None = None, request: dict[str, Any] | None = None, **limits: Any
) -> Front:
    """A stream that the controller has accepted, at p0."""
    front = Front(**limits)
    asked(front, deadline_ns=deadline_ns, **(request or {}))
    front.accepted()
    return front


def displaced(front: Front, epoch: Epoch | None = None) -> list[str]:
    return front.tell(RequestDisplaced(request_id=R1, epoch=epoch or Epoch(0), reason="it died"))


def rejected(front: Front, retry_after_ns: int | None = None, **changes: Any) -> list[str]:
    values: dict[str, Any] = {
        "request_id": R1,
        "epoch": Epoch(0),
        "code": RejectCode.RESOURCE_EXHAUSTED,
        "message": "full",
        "retry_after_ns": retry_after_ns,
    }
    return front.tell(RequestRejected(**values | changes))


def account(front: Front) -> Any:
    end = front.effects[-1]
    assert isinstance(end, EndStream)
    return end.account


def moved(front: Front, source: str, target: str, **report: Any) -> None:
    order = order_of("r1", source, target, MoveKind.HANDOFF, move_id=f"{source}>{target}")
    front.tell(MoveReported(report=report_of(order, **report)))
