"""Streams whose client has every token, and whose account lacks the report of a move.

A move's source reports it, the last token may come from its target: the two race.
A committed move raises the hop, so the gateway knows how many reports there must
be. It waits for them, `account_ns` at most, before it tells the end of the stream.
"""

from dataclasses import dataclass

from ...proto.ids import RequestId
from ...proto.move import Stage
from ...proto.requests import FinishReason
from .gateway_orders import GatewayOrders
from .limits import GatewayLimits
from .stream import Stream

ACCOUNT = "account"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """A stream that is over but for its account."""

    stream: Stream
    finish: FinishReason
    output_tokens: int


class Settling:
    """At most one per id; each has a timer."""

    def __init__(self, limits: GatewayLimits, orders: GatewayOrders) -> None:
        self._limits = limits
        self._orders = orders
        self._streams: dict[RequestId, Settled] = {}

    def __len__(self) -> int:
        return len(self._streams)

    def __contains__(self, request_id: RequestId) -> bool:
        return request_id in self._streams

    def end(self, settled: Settled, now_ns: int) -> None:
        """The stream ends now, or when its account is complete."""
        stream = settled.stream
        if self._complete(stream):
            self._orders.end(stream, settled.finish, settled.output_tokens)
            return
        self._streams[stream.request_id] = settled
        at_ns = now_ns + self._limits.account_ns
        self._orders.set_timer(ACCOUNT, stream.request_id, at_ns)

    def noted(self, request_id: RequestId) -> Stream | None:
        """The stream that a late report may belong to."""
        settled = self._streams.get(request_id)
        return None if settled is None else settled.stream

    def reported(self, request_id: RequestId) -> None:
        """A report was added to the stream's moves."""
        settled = self._streams.get(request_id)
        if settled is not None and self._complete(settled.stream):
            self._orders.clear_timer(ACCOUNT, request_id)
            self.give_up(request_id)

    def forget(self, request_id: RequestId) -> None:
        """Its client has come back in another call: this one tells no end."""
        if self._streams.pop(request_id, None) is not None:
            self._orders.clear_timer(ACCOUNT, request_id)

    def give_up(self, request_id: RequestId) -> None:
        """It waits no longer: the account says what is known."""
        settled = self._streams.pop(request_id, None)
        if settled is not None:
            self._orders.end(settled.stream, settled.finish, settled.output_tokens)

    def _complete(self, stream: Stream) -> bool:
        """Whether as many commits were reported as its newest attempt has hops."""
        moves = stream.moves.values()
        attempt = stream.newest.attempt
        committed = [m for m in moves if m.outcome is Stage.COMMITTED]
        reported = sum(move.epoch.attempt == attempt for move in committed)
        expected = stream.newest.hop - stream.hops_before
        return reported >= expected or len(moves) >= self._limits.moves_max
