"""A request's life on this worker: assigned, run, finished, acknowledged, or dropped.

Output goes to gateways as numbered chunks, one message per step and gateway. A
finished request keeps its output until its gateway has it, or resends_max
repeats went unanswered.
"""

from dataclasses import replace

from ...proto.cluster_events import RequestEnded
from ...proto.gateway_events import ResumeRefused, TokenChunk, TokensEmitted
from ...proto.ids import Epoch, GatewayId, RequestId, WorkerKey
from ...proto.requests import FinishReason, SampledToken
from ...proto.timers import TimerKey
from ...proto.views import Phase
from ...proto.worker_events import ListenerChanged, RequestAssigned
from .holdings import Holdings
from .limits import WorkerLimits
from .memory import EndedMoves
from .moves_source import SourceMoves
from .outbox import Outbox
from .sequence import Sequence

TIMER = "resend"


class Requests:
    """All requests by their events; `Holdings` has the tables."""

    def __init__(
        self,
        limits: WorkerLimits,
        key: WorkerKey,
        holdings: Holdings,
        sources: SourceMoves,
        ended: EndedMoves,
        out: Outbox,
    ) -> None:
        self.holdings = holdings
        self.ended = ended
        self._limits = limits
        self._key = key
        self._sources = sources
        self._out = out
        self._chunks: dict[GatewayId, list[TokenChunk]] = {}

    def assign(self, event: RequestAssigned, sequence: Sequence, now_ns: int) -> None:
        """Takes a request that is new, or of a newer attempt than the one held."""
        request, handoff = event.request, event.handoff
        if handoff is not None and (
            handoff.move_id in self.ended or self._sources.knows(handoff.move_id)
        ):
            return  # a double of an assignment that was, or is being, carried out
        held = self.holdings.held.get(request.request_id)
        if held is not None:
            if held.epoch.attempt >= request.epoch.attempt:
                return
            self.drop(held, "replaced by a newer attempt", now_ns)
        if len(self.holdings.waiting) >= self._limits.queue_len_max:
            self._tell_ended(sequence, f"{self._limits.queue_len_max} requests wait already")
            return
        self.holdings.enqueue(sequence)
        if handoff is not None and handoff.target != self._key:
            self._sources.expect(sequence, handoff)

    def cancel(self, request_id: RequestId, epoch: Epoch | None, now_ns: int) -> None:
        """Forgets the request if its epoch is not newer than `epoch`."""
        sequence = self.holdings.held.get(request_id)
        if sequence is not None and (epoch is None or sequence.epoch <= epoch):
            self._end(sequence, "cancelled", now_ns)

    def heeds(self, request_id: RequestId, gateway_id: GatewayId | None) -> bool:
        """Whether that gateway may end the request: it listens, or it is not one (None)."""
        sequence = self.holdings.held.get(request_id)
        return gateway_id is None or sequence is None or sequence.request.gateway_id == gateway_id

    def listen(self, event: ListenerChanged) -> None:
        """Another gateway listens: it gets all that its client has not.

        The client may be ahead of a request that runs again: whoever ran it first had sent
        more. What is drawn from now on shows the gateway whether that is so.
        """
        sequence = self.holdings.held.get(event.request_id)
        if sequence is None:
            return  # the controller finds out by the next view
        drawn = len(sequence.outputs)
        if event.from_index > drawn and sequence.phase is Phase.FINISHED:
            refused = ResumeRefused(request_id=event.request_id, output_tokens=drawn)
            self._out.to_gateway(event.gateway_id, refused)
            return
        sequence.request = replace(sequence.request, gateway_id=event.gateway_id)
        sequence.resends = 0
        self.resend(event.request_id, event.from_index)

    def acked(self, request_id: RequestId, now_ns: int) -> None:
        """The gateway has the whole stream."""
        sequence = self.holdings.held.get(request_id)
        if sequence is not None:
            self._end(sequence, "the stream has ended", now_ns)

    def gateway_lost(self, gateway_id: GatewayId, now_ns: int) -> None:
        """Nobody listens to these requests."""
        for sequence in list(self.holdings.held.values()):
            if sequence.request.gateway_id == gateway_id:
                self._end(sequence, f"gateway {gateway_id} is gone", now_ns)

    def drop(self, sequence: Sequence, reason: str, now_ns: int) -> None:
        """Forgets the request, its move included, and tells nobody else."""
        self._sources.leave(sequence, reason, now_ns)
        self.holdings.remove(sequence)
        if sequence.last_chunk is not None:
            self._out.clear_timer(TimerKey(TIMER, sequence.request.request_id))

    def finish(self, sequence: Sequence, reason: FinishReason, now_ns: int) -> None:
        """No further token: the last chunk is sent, now and until it is acknowledged."""
        self._finish(sequence, reason, now_ns)

    def drew(
        self, sequence: Sequence, token: SampledToken, context_tokens_max: int, now_ns: int
    ) -> None:
        """One more token, for the gateway; perhaps the last."""
        self.holdings.drew(sequence, token)
        reason = sequence.finish_reason(context_tokens_max)
        if reason is None:
            self.tell(sequence)
        else:
            self._finish(sequence, reason, now_ns)

    def drew_several(self, sequence: Sequence, context_tokens_max: int, now_ns: int) -> None:
        """Tokens have been drawn in one jump: they are told with the last one, or by `tell`."""
        reason = sequence.finish_reason(context_tokens_max)
        if reason is not None:
            self._finish(sequence, reason, now_ns)

    def tell(self, sequence: Sequence) -> None:
        """Sends the gateway the tokens that it was not sent yet."""
        if sequence.told < len(sequence.outputs):
            self._send(sequence, _news(sequence, None))

    def resend(self, request_id: RequestId, from_index: int) -> None:
        """The gateway misses tokens: all from `from_index` on, and the end if it is known."""
        sequence = self.holdings.held.get(request_id)
        if sequence is None or not 0 <= from_index <= len(sequence.outputs):
            return
        last = sequence.last_chunk
        tokens = tuple(sequence.outputs[from_index:])
        if tokens or last is not None:
            finish = None if last is None else last.finish
            sequence.told = len(sequence.outputs)
            self._send(sequence, _chunk(sequence, from_index, tokens, finish))

    def tick(self, request_id: RequestId, now_ns: int) -> None:
        """A finished request has not been acknowledged."""
        sequence = self.holdings.finished.get(request_id)
        if sequence is None or sequence.last_chunk is None:
            return
        if sequence.resends >= self._limits.resends_max:
            self.drop(sequence, "never acknowledged", now_ns)
            return
        sequence.resends += 1
        self._send(sequence, sequence.last_chunk)
        self._out.set_timer(TimerKey(TIMER, request_id), now_ns + self._limits.resend_ns)

    def flush(self) -> None:
        """Sends what the step produced, one message per gateway."""
        if self._chunks:
            chunks, self._chunks = self._chunks, {}
            for gateway_id, listed in chunks.items():
                emitted = TokensEmitted(worker=self._key, chunks=tuple(listed))
                self._out.to_gateway(gateway_id, emitted)

    def check(self) -> None:
        """Integrity: every finished request has its last chunk, and nobody else."""
        for request_id, sequence in self.holdings.held.items():
            finished = sequence.phase is Phase.FINISHED
            assert finished == (sequence.last_chunk is not None), f"{request_id}: last chunk"
        assert not self._chunks, "chunks were not sent"

    def _finish(self, sequence: Sequence, reason: FinishReason, now_ns: int) -> None:
        chunk = _news(sequence, reason)
        self._send(sequence, chunk)
        self._sources.leave(sequence, "finished", now_ns)
        self.holdings.finish(sequence)
        sequence.last_chunk = chunk
        self._tell_ended(sequence)
        key = TimerKey(TIMER, sequence.request.request_id)
        self._out.set_timer(key, now_ns + self._limits.resend_ns)
        if len(self.holdings.finished) > self._limits.finished_max:
            self.drop(next(iter(self.holdings.finished.values())), "too many finished", now_ns)

    def _end(self, sequence: Sequence, reason: str, now_ns: int) -> None:
        finished = sequence.phase is Phase.FINISHED
        self.drop(sequence, reason, now_ns)
        if not finished:
            self._tell_ended(sequence)

    def _tell_ended(self, sequence: Sequence, refused: str = "") -> None:
        self._out.to_controller(
            RequestEnded(
                request_id=sequence.request.request_id,
                epoch=sequence.epoch,
                worker=self._key,
                refused=refused,
            )
        )

    def _send(self, sequence: Sequence, chunk: TokenChunk) -> None:
        self._chunks.setdefault(sequence.request.gateway_id, []).append(chunk)


def _news(sequence: Sequence, finish: FinishReason | None) -> TokenChunk:
    """All that the gateway was not sent."""
    told, sequence.told = sequence.told, len(sequence.outputs)
    return _chunk(sequence, told, tuple(sequence.outputs[told:]), finish)


def _chunk(
    sequence: Sequence,
    first_index: int,
    tokens: tuple[SampledToken, ...],
    finish: FinishReason | None,
) -> TokenChunk:
    return TokenChunk(
        request_id=sequence.request.request_id,
        epoch=sequence.epoch,
        first_index=first_index,
        tokens=tokens,
        finish=finish,
        cached_tokens=sequence.cached_tokens or 0,
        cached_host_tokens=sequence.host_tokens,
        cached_peer_tokens=sequence.peer_tokens,
    )
