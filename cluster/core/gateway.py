"""A gateway's core: every open stream, delivered once and in order, whatever fails.

It holds prompt, parameters and emitted tokens, so a request outlives its worker
and the controller. An open stream always has a timer: it ends, or it is asked
after, started again, and at last failed.
"""

from ...proto.effects import GatewayEffect
from ...proto.gateway_events import (
    ClientGone,
    GatewayEvent,
    GenerateAsked,
    MoveReported,
    RejectCode,
    RequestAccepted,
    RequestDisplaced,
    RequestRejected,
    ResumeRefused,
    StopFound,
    TokenChunk,
    TokensEmitted,
)
from ...proto.ids import Epoch, GatewayId, RequestId, WorkerKey
from ...proto.requests import FinishReason
from ...proto.timers import TimerFired, TimerKey
from ...proto.views import Phase
from .gateway_orders import GatewayOrders
from .limits import GatewayLimits
from .settling import ACCOUNT, Settled, Settling
from .stream import Stream

SUBMIT, STALL, DEADLINE = "submit", "stall", "deadline"


class GatewayCore:
    """`step(event, now_ns) -> effects`. Never raises for what the world can cause."""

    def __init__(self, gateway_id: GatewayId, limits: GatewayLimits) -> None:
        self._limits = limits
        self._orders = GatewayOrders(gateway_id)
        self._streams: dict[RequestId, Stream] = {}
        self._settling = Settling(limits, self._orders)
        self._ended: dict[RequestId, int] = {}  # to the last attempt, bounded, oldest first
        self._born_ns: int | None = None  # its first step

    def __len__(self) -> int:
        return len(self._streams) + len(self._settling)

    def knows(self, request_id: RequestId) -> bool:
        """Whether a stream of that id is open: a front refuses to open another."""
        return request_id in self._streams or request_id in self._settling

    def stream_state(self, request_id: RequestId) -> str:
        """Where a stream stands: unknown, ended, submitting, streaming or waiting."""
        stream = self._streams.get(request_id)
        if stream is None:
            return "ended" if request_id in self._ended else "unknown"
        if stream.submitting:
            return "submitting"
        return "streaming" if stream.tokens else "waiting"

    def resume_digest(self, request_id: RequestId) -> int | None:
        """What a client must show who takes the open stream of that id over; None: none is open."""
        stream = self._streams.get(request_id) or self._settling.noted(request_id)
        return None if stream is None else stream.request.resume_digest

    def step(self, event: GatewayEvent, now_ns: int) -> list[GatewayEffect]:  # noqa: C901
        """Take one fact; the orders that follow from it, in order."""
        self._orders.out = []
        if self._born_ns is None:
            self._born_ns = now_ns
        match event:
            case TokensEmitted():
                for chunk in event.chunks:
                    self._take_chunk(event.worker, chunk, now_ns)
            case GenerateAsked():
                self._open(event, now_ns)
            case RequestAccepted():
                self._accepted(event, now_ns)
            case ResumeRefused():
                self._resume_refused(event)
            case MoveReported():
                self._note_move(event)
            case ClientGone():
                self._settling.give_up(event.request_id)
                self._cancel(event.request_id)
            case StopFound():
                self._finish(event.request_id, FinishReason.STOP, event.output_tokens, now_ns)
            case RequestDisplaced():
                self._displaced(event, now_ns)
            case RequestRejected():
                self._rejected(event, now_ns)
            case TimerFired():
                self._timer(event.key, now_ns)
        return self._orders.out

    def check(self) -> None:
        """Assert what must hold between any two steps."""
        assert len(self._streams) <= self._limits.streams_max
        assert len(self._ended) <= self._limits.ended_max
        for request_id, stream in self._streams.items():
            assert stream.request_id == request_id, request_id
            assert stream.attempts <= self._limits.attempts_max, request_id
            stream.check()

    # A stream begins.

    def _open(self, event: GenerateAsked, now_ns: int) -> None:
        request, limits = event.request, self._limits
        request_id = request.request_id
        if request_id in self._streams:
            self._resume_here(self._streams[request_id], event, now_ns)
            return
        if request.resumes:
            self._settling.forget(request_id)  # its call is not the one that listens now
        self._settling.give_up(request_id)
        if len(self._streams) >= limits.streams_max:
            message = f"{len(self._streams)} streams are open (streams_max {limits.streams_max})"
            self._orders.fail(
                request_id, RejectCode.RESOURCE_EXHAUSTED, message, limits.retry_after_ns
            )
            return
        if event.deadline_ns is not None and event.deadline_ns <= now_ns:
            self._orders.fail(
                request_id, RejectCode.DEADLINE_EXCEEDED, "the deadline is over", None
            )
            return
        # An id used again starts above all epochs of its old life; a stream that is resumed
        # goes on in whichever attempt runs, which the controller names.
        ended = self._ended.pop(request_id, -1)
        attempt = (
            request.epoch.attempt if request.resumes else max(request.epoch.attempt, ended + 1)
        )
        stream = Stream(
            request=request,
            newest=Epoch(attempt),
            first_attempt=attempt,
            arrived_ns=now_ns,
            progress_ns=now_ns,
            deadline_ns=event.deadline_ns,
            next_index=len(request.emitted),
        )
        self._streams[request_id] = stream
        if event.deadline_ns is not None:
            self._orders.set_timer(DEADLINE, request_id, event.deadline_ns)
        self._orders.set_timer(STALL, request_id, now_ns + limits.stall_ns)
        finish = stream.finish()
        if finish is not None:
            self._finish(request_id, finish, stream.next_index, now_ns)
        else:
            self._submit(stream, now_ns)

    def _resume_here(self, stream: Stream, event: GenerateAsked, now_ns: int) -> None:
        """The client is back before its old call was seen to end: the new one has the stream."""
        request = event.request
        if request.resumes <= stream.request.resumes:
            return  # the running one goes on; fronts ask `knows` first
        # It may have more than was sent here: from another gateway. The worker judges.
        stream.resume(request, event.deadline_ns)
        if event.deadline_ns is None:
            self._orders.clear_timer(DEADLINE, stream.request_id)
        else:
            self._orders.set_timer(DEADLINE, stream.request_id, event.deadline_ns)
        self._submit(stream, now_ns)

    def _resume_refused(self, event: ResumeRefused) -> None:
        stream, sent = self._streams.get(event.request_id), event.output_tokens
        if stream is not None and stream.next_index > sent and not stream.tokens:
            self._disagree(stream, f"only {sent} tokens were sent")

    def _disagree(self, stream: Stream, but: str) -> None:
        """Client and service disagree about the stream: it ends everywhere."""
        message = f"tokens_received: is {len(stream.request.emitted)}, but {but}"
        self._fail(stream, RejectCode.FAILED_PRECONDITION, message, None)

    def _submit(self, stream: Stream, now_ns: int) -> None:
        stream.submitting = True
        stream.submits += 1
        self._orders.ask(stream, now_ns)
        self._orders.set_timer(SUBMIT, stream.request_id, now_ns + self._limits.submit_ns)

    # Tokens.

    def _take_chunk(self, worker: WorkerKey, chunk: TokenChunk, now_ns: int) -> None:
        stream = self._streams.get(chunk.request_id)
        if stream is None:
            if not self._may_come_back(chunk.request_id, now_ns):
                self._orders.stop_worker(worker, chunk.request_id, chunk.epoch)
            return
        if not stream.hear(worker, chunk.epoch):
            return
        if chunk.first_index > stream.next_index:
            self._ask_again(stream, now_ns)
            return
        if (index := stream.disputed(chunk.first_index, chunk.tokens)) is not None:
            self._disagree(stream, f"token {index} of the stream is another")
            return
        if stream.submitting:
            stream.submitting = False
            self._orders.clear_timer(SUBMIT, chunk.request_id)
        new = stream.take(chunk.first_index, chunk.tokens)
        if new:
            if not stream.tokens:
                stream.note_cached(chunk)
            self._orders.deliver(stream, new, worker)
            stream.add(new, worker, now_ns)
        if chunk.finish is not None:
            self._complete(stream, chunk.finish, now_ns)

    def _may_come_back(self, request_id: RequestId, now_ns: int) -> bool:
        """Whether it may be a stream of this gateway's former life, whose client is on its way."""
        assert self._born_ns is not None
        young = now_ns - self._born_ns < self._limits.resume_grace_ns
        return young and request_id not in self._ended

    def _ask_again(self, stream: Stream, now_ns: int) -> None:
        """Tokens are missing. Asked at most once per `resend_ns`."""
        asked_ns = stream.asked_ns
        if asked_ns is not None and now_ns - asked_ns < self._limits.resend_ns:
            return
        stream.asked_ns = now_ns
        self._orders.ask_resend(stream)

    # What the controller says.

    def _accepted(self, event: RequestAccepted, now_ns: int) -> None:
        stream = self._streams.get(event.request_id)
        if stream is None:
            if not self._may_come_back(event.request_id, now_ns):
                self._orders.drop(event.request_id)
            return
        if event.epoch.attempt < stream.newest.attempt:
            return
        stream.see(event.epoch)  # above its own if the id ran elsewhere before
        if stream.submitting:
            stream.submitting = False
            self._orders.clear_timer(SUBMIT, event.request_id)
        stream.submits = 0
        if event.worker is not None and event.epoch == stream.newest:
            stream.worker = event.worker
        # Waiting, here or there, is no stall; a decode without tokens is one.
        if event.worker is None or event.phase in (Phase.WAITING, Phase.PREFILL):
            stream.progress_ns, stream.stalls = now_ns, 0

    def _rejected(self, event: RequestRejected, now_ns: int) -> None:
        stream = self._streams.get(event.request_id)
        if stream is None or event.epoch.attempt < stream.newest.attempt:
            return
        began = stream.attempts > 1 or stream.tokens or stream.request.emitted
        again = event.retry_after_ns if began else None
        if again is not None and stream.submits < self._limits.submits_max:
            # It was admitted once, so a full queue is waited out.
            stream.submitting = True
            self._orders.set_timer(SUBMIT, event.request_id, now_ns + again)
            return
        self._fail(stream, event.code, event.message, event.retry_after_ns)

    def _displaced(self, event: RequestDisplaced, now_ns: int) -> None:
        stream = self._streams.get(event.request_id)
        if stream is None:
            if not self._may_come_back(event.request_id, now_ns):
                self._orders.drop(event.request_id)
        elif event.epoch >= stream.newest:
            self._start_again(stream, event.epoch.attempt, event.reason, now_ns)

    def _note_move(self, event: MoveReported) -> None:
        report = event.report
        open_stream = self._streams.get(report.request_id)
        stream = open_stream or self._settling.noted(report.request_id)
        if stream is not None and len(stream.moves) < self._limits.moves_max:
            stream.moves.setdefault(report.move_id, report)
            self._settling.reported(report.request_id)

    # Timers.

    def _timer(self, key: TimerKey, now_ns: int) -> None:
        if key.kind == ACCOUNT:
            self._settling.give_up(RequestId(key.subject))
        stream = self._streams.get(RequestId(key.subject))
        if stream is None:
            return
        if key.kind == STALL:
            self._stalled(stream, now_ns)
        elif key.kind == DEADLINE:
            message = f"the deadline is over after {stream.next_index} tokens"
            self._fail(stream, RejectCode.DEADLINE_EXCEEDED, message, None)
        elif stream.submitting:
            self._unanswered(stream, now_ns)

    def _unanswered(self, stream: Stream, now_ns: int) -> None:
        limit = self._limits.submits_max
        if stream.submits >= limit:
            message = f"submitted {stream.submits} times without being placed (submits_max {limit})"
            self._fail(stream, RejectCode.UNAVAILABLE, message, self._limits.retry_after_ns)
        else:
            self._submit(stream, now_ns)

    def _stalled(self, stream: Stream, now_ns: int) -> None:
        limits = self._limits
        due_ns = stream.progress_ns + limits.stall_ns
        if due_ns > now_ns:  # there was progress since the timer was set
            self._orders.set_timer(STALL, stream.request_id, due_ns)
            return
        self._orders.set_timer(STALL, stream.request_id, now_ns + limits.stall_ns)
        if stream.submitting:
            return  # its submissions are counted
        stream.stalls += 1
        if stream.stalls <= limits.stalls_max:
            self._orders.ask(stream, now_ns)
            self._orders.ask_resend(stream)
            return
        self._orders.cancel_at_worker(stream)
        reason = f"no progress for {stream.stalls} times stall_ns ({limits.stall_ns} ns)"
        self._start_again(stream, stream.newest.attempt, reason, now_ns)

    def _start_again(self, stream: Stream, lost_attempt: int, reason: str, now_ns: int) -> None:
        """Submit the rest of the request at the next attempt."""
        finish = stream.finish()
        if finish is not None:  # only the word of its end was lost
            self._complete(stream, finish, now_ns)
            return
        limit = self._limits.attempts_max
        if stream.attempts >= limit:
            message = f"started {stream.attempts} times (attempts_max {limit}); last: {reason}"
            self._fail(stream, RejectCode.UNAVAILABLE, message, None)
            return
        stream.raise_attempt(max(stream.newest.attempt, lost_attempt) + 1)
        stream.progress_ns = now_ns
        self._submit(stream, now_ns)

    # Ends.

    def _complete(self, stream: Stream, finish: FinishReason, now_ns: int) -> None:
        """The client has every token."""
        self._orders.ack(stream)
        self._end(stream, finish, stream.next_index, now_ns)

    def _finish(
        self, request_id: RequestId, finish: FinishReason, output_tokens: int, now_ns: int
    ) -> None:
        """The stream has all it needs, wherever the request may be."""
        stream = self._streams.get(request_id)
        if stream is not None:
            self._orders.cancel_at_worker(stream)
            self._end(stream, finish, output_tokens, now_ns)

    def _end(self, stream: Stream, finish: FinishReason, output_tokens: int, now_ns: int) -> None:
        self._close(stream)
        settled = Settled(stream=stream, finish=finish, output_tokens=output_tokens)
        self._settling.end(settled, now_ns)

    def _cancel(self, request_id: RequestId) -> None:
        """Nobody wants the rest, nor its account."""
        stream = self._streams.get(request_id)
        if stream is not None:
            self._orders.cancel_at_worker(stream)
            self._close(stream)
            self._orders.end(stream, FinishReason.CANCELLED, stream.next_index)

    def _fail(
        self, stream: Stream, code: RejectCode, message: str, retry_after_ns: int | None
    ) -> None:
        self._orders.cancel_at_worker(stream)
        self._close(stream)
        self._orders.fail(stream.request_id, code, message, retry_after_ns)

    def _close(self, stream: Stream) -> None:
        request_id = stream.request_id
        del self._streams[request_id]
        self._ended[request_id] = stream.newest.attempt
        if len(self._ended) > self._limits.ended_max:
            del self._ended[next(iter(self._ended))]
        self._orders.clear_timer(STALL, request_id)
        if stream.submitting:
            self._orders.clear_timer(SUBMIT, request_id)
        if stream.deadline_ns is not None:
            self._orders.clear_timer(DEADLINE, request_id)
        self._orders.drop(request_id)
