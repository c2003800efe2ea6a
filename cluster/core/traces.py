"""What became of requests: their moves while they run, and all of it for a while after.

Two bounds: requests remembered (the least recently heard of is forgotten first),
and moves of one request (later ones are counted, not kept).
"""

from collections import OrderedDict
from dataclasses import dataclass, field

from ...proto.ids import Epoch, GatewayId, RequestId, WorkerKey
from ...proto.move import MoveReport
from .requests import TrackedRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class LastSeen:
    """A request as it was when the controller let go of it."""

    gateway_id: GatewayId
    epoch: Epoch
    worker: WorkerKey | None
    prompt_tokens: int
    output_tokens: int
    arrived_ns: int


@dataclass(slots=True, kw_only=True)
class Trace:
    """Ended moves, oldest first; `last` once the request has ended."""

    moves: list[MoveReport] = field(default_factory=list)
    left_out: int = 0
    last: LastSeen | None = None


class Traces:
    """By request id."""

    def __init__(self, requests_max: int, moves_max: int) -> None:
        self._requests_max = requests_max
        self._moves_max = moves_max
        self._traces: OrderedDict[RequestId, Trace] = OrderedDict()

    def get(self, request_id: RequestId) -> Trace | None:
        return self._traces.get(request_id)

    def moved(self, report: MoveReport) -> None:
        """A move has ended. Told twice, it counts once."""
        trace = self._of(report.request_id)
        if any(known.move_id == report.move_id for known in trace.moves):
            return
        if len(trace.moves) < self._moves_max:
            trace.moves.append(report)
        else:
            trace.left_out += 1

    def ended(self, tracked: TrackedRequest) -> None:
        """The request has ended; called while its owner is still known."""
        self._of(tracked.request_id).last = LastSeen(
            gateway_id=tracked.gateway_id,
            epoch=tracked.epoch,
            worker=tracked.owner,
            prompt_tokens=tracked.prompt_tokens,
            output_tokens=tracked.output_tokens,
            arrived_ns=tracked.arrived_ns,
        )

    def check(self) -> None:
        """Programmer's errors only: the bounds hold."""
        assert len(self._traces) <= self._requests_max, len(self._traces)
        for request_id, trace in self._traces.items():
            assert len(trace.moves) <= self._moves_max, request_id

    def _of(self, request_id: RequestId) -> Trace:
        trace = self._traces.setdefault(request_id, Trace())
        self._traces.move_to_end(request_id)
        if len(self._traces) > self._requests_max:
            self._traces.popitem(last=False)
        return trace
