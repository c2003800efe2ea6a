"""The clients of a world: what each asked for, what it got, and when.

Also the judge of the one promise that clients see: every token of the stream
once, in order, and the right one, however often its request moved or died.

A stream that has ended leaves a row in `records`. The stream itself is kept where
someone may still ask for it (checked worlds, and those with faults); elsewhere only
the first `ENDED_KEPT_MAX`, so that memory does not grow with the length of a trace.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from operator import sub
from random import Random

from ..proto.batch import Batch
from ..proto.effects import DeliverTokens, EndStream, FailStream, StreamAccount
from ..proto.gateway_events import RejectCode
from ..proto.ids import GatewayId, RequestId
from ..proto.requests import FinishReason, Request, RequestClass
from .errors import InvariantBroken
from .results.ended import Stages, ending_of, row_of
from .results.records import UNKNOWN, Ending, Records
from .scenario import ClassSpec
from .streams import TrueStream, quick_token

Answered = Callable[["Stream", tuple[int, ...] | None], None]
ENDED_KEPT_MAX = 1_000
TRIES_MAX = 12  # of the SDK in a row, for a stream that the server cannot go on with


@dataclass(slots=True, kw_only=True)
class Stream:
    """One client's request. Times are the gateway's, ns."""

    request_id: RequestId
    gateway_id: GatewayId
    prompt_tokens: int
    max_tokens: int
    stop_token_ids: frozenset[int]
    asked_ns: int
    deadline_ns: int | None
    truth: TrueStream | None
    request: Request | None  # until the end
    request_class: RequestClass = RequestClass.STANDARD
    stages: Stages = field(default_factory=Stages)
    tokens: int = 0
    first_ns: int | None = None
    last_ns: int | None = None
    gaps_ns: list[int] = field(default_factory=list)  # between deliveries
    together: int = 0  # tokens that came with the one before: no gap between them
    failures: int = 0  # in a row, without a new token
    hung_up: bool = False
    resumes: int = 0  # how often its client went to another gateway, or came back
    finish: FinishReason | None = None
    account: StreamAccount | None = None
    error: RejectCode | None = None
    message: str = ""
    answer: list[int] | None = None  # kept of a session's requests: the next turn repeats it

    @property
    def ended(self) -> bool:
        return self.finish is not None or self.error is not None


def class_of(spec: ClassSpec, seed: int, index: int) -> RequestClass:
    """The class of request number `index`: the same in every run of the seed."""
    draw = Random(f"class {seed} {index}").random()
    if draw < spec.interactive:
        return RequestClass.INTERACTIVE
    return RequestClass.BATCH if draw < spec.interactive + spec.batch else RequestClass.STANDARD


class Clients:
    """Everybody who has asked for something, and of the ended all or `ended_max`."""

    def __init__(
        self, *, checked: bool, context_tokens_max: int, ended_max: int | None = None
    ) -> None:
        self.streams: dict[RequestId, Stream] = {}
        self.latency_ns = 0  # from a token's draw to its client, where that is all
        self._due: dict[RequestId, list[int]] = {}
        self.records = Records()
        self.asked = 0
        self.open = 0
        self.cut_short = ""  # of the first stream that failed after its first token
        self.ask_again: Callable[[Stream], None] | None = None  # given: it tries elsewhere
        self.answered: Answered | None = None  # given: told of every end of a kept answer
        self._checked = checked
        self._ended_max = ended_max
        self._context_tokens_max = context_tokens_max

    def ask(self, request: Request, now_ns: int, deadline_ns: int | None = None) -> Stream:
        """A client sends `request`, and wants it to have ended at `deadline_ns`."""
        stream = Stream(
            request_id=request.request_id,
            gateway_id=request.gateway_id,
            prompt_tokens=request.prompt_tokens,
            max_tokens=min(request.max_tokens, self._context_tokens_max - request.prompt_tokens),
            stop_token_ids=request.stop_token_ids,
            asked_ns=now_ns,
            deadline_ns=deadline_ns,
            truth=TrueStream(request) if self._checked else None,
            request=request,
            request_class=request.request_class,
        )
        self.streams[request.request_id] = stream
        self.asked += 1
        self.open += 1
        return stream

    def resume(self, request_id: RequestId, gateway_id: GatewayId) -> Request | None:
        """What a client sends, again if need be: with all tokens it has. None if it is gone."""
        stream = self.streams.get(request_id)
        if stream is None or stream.ended or stream.request is None:
            return None
        if stream.hung_up:
            self._open_stream(request_id).finish = FinishReason.CANCELLED
            self._close(stream)
            return None
        emitted = tuple(self._had(stream, index) for index in range(stream.tokens))
        return replace(
            stream.request, gateway_id=gateway_id, emitted=emitted, resumes=stream.resumes
        )

    def _had(self, stream: Stream, index: int) -> int:
        if stream.truth is not None:
            return stream.truth.output(index)
        assert stream.request is not None
        position = stream.prompt_tokens + index
        return quick_token(stream.request.sampling.seed, position).token_id

    def keep_answer(self, request_id: RequestId) -> None:
        """Keep what is answered, and tell `answered` at the end: prompt and answer, or None."""
        self.streams[request_id].answer = []

    def listens(self, request_id: RequestId, gateway_id: GatewayId) -> bool:
        """Whether the client is at that gateway: else nobody hears what it says."""
        stream = self.streams.get(request_id)
        return stream is None or stream.gateway_id == gateway_id

    def truth(self, request_id: RequestId) -> TrueStream:
        """The true stream of a request of a checked world."""
        truth = self.streams[request_id].truth
        assert truth is not None, f"{request_id}: the world is not checked"
        return truth

    def hang_up(self, request_id: RequestId) -> bool:
        """The client goes; False if its stream had ended or nobody knows it."""
        stream = self.streams.get(request_id)
        if stream is None or stream.ended or stream.hung_up:
            return False
        stream.hung_up = True
        return True

    def placed(self, request_id: RequestId, now_ns: int) -> None:
        """The controller sends a request to a worker."""
        stream = self.streams.get(request_id)
        if stream is not None and stream.first_ns is None:
            stream.stages.place(now_ns)

    def computing(self, batch: Batch, begins_ns: int, ends_ns: int) -> None:
        """An engine runs an iteration. Prefills come last in a batch: only they are looked at."""
        for chunk in reversed(batch.chunks):
            stream = self.streams.get(chunk.request_id)
            if stream is None or stream.stages.computed_ns != UNKNOWN:
                if len(chunk.token_ids) == 1:
                    return
            else:
                stream.stages.compute(begins_ns, ends_ns, draws=chunk.draw is not None)

    def deliver(self, effect: DeliverTokens, now_ns: int) -> None:
        """Tokens reach a client. Raises InvariantBroken."""
        stream = self.streams.get(effect.request_id)
        if stream is None or stream.ended:
            raise InvariantBroken(f"{effect.request_id}: tokens after the end of the stream")
        if effect.first_index != stream.tokens:
            raise InvariantBroken(
                f"{effect.request_id}: token {effect.first_index} delivered by {effect.worker}, "
                f"token {stream.tokens} was next"
            )
        if stream.truth is not None:
            _compare(stream, stream.truth, effect)
        stream.failures = 0
        count = len(effect.tokens)
        if self._due:
            self._deliver_late(stream, count)
        else:
            if stream.last_ns is None:
                stream.first_ns = now_ns
            else:
                stream.gaps_ns.append(now_ns - stream.last_ns)
            stream.together += count - 1
            stream.last_ns = now_ns
        stream.tokens += count
        if stream.answer is not None:
            stream.answer.extend(token.token_id for token in effect.tokens)

    def drew(self, request_id: RequestId, ends_ns: list[int]) -> None:
        """A worker drew a token at each of these times. In a world that says so of any
        token it says so of all: they count from then, whenever they are delivered.
        """
        due = self._due.get(request_id)
        if due is None:
            self._due[request_id] = ends_ns[:]
        else:
            due += ends_ns

    def tokens_by(self, stream: Stream, now_ns: int) -> int:
        """How many tokens a stream has, those included that are delivered later than due."""
        due = self._due.get(stream.request_id, ())
        return stream.tokens + sum(at_ns + self.latency_ns <= now_ns for at_ns in due)

    def _deliver_late(self, stream: Stream, count: int) -> None:
        due = self._due[stream.request_id]
        now, self._due[stream.request_id] = due[:count], due[count:]
        first_ns = now[0] + self.latency_ns
        if stream.last_ns is None:
            stream.first_ns = first_ns
        else:
            stream.gaps_ns.append(first_ns - stream.last_ns)
        stream.gaps_ns.extend(map(sub, now[1:], now))
        stream.last_ns = now[-1] + self.latency_ns

    def end(self, effect: EndStream) -> None:
        """A stream is complete. Raises InvariantBroken if it is not."""
        stream = self._open_stream(effect.request_id)
        stream.finish = effect.finish
        stream.account = effect.account
        if effect.finish is FinishReason.CANCELLED:
            if not stream.hung_up:
                raise InvariantBroken(f"{stream.request_id}: cancelled, but its client did not go")
        elif stream.tokens != (want := _length(stream)):
            raise InvariantBroken(
                f"{stream.request_id}: ended with {effect.finish} after {stream.tokens} tokens, "
                f"expected {want}"
            )
        self._close(stream)

    def fail(self, effect: FailStream) -> None:
        """A stream ends with an error, or its client asks again, as the SDK does."""
        if self.ask_again is not None and effect.code is RejectCode.UNAVAILABLE:
            stream = self.streams[effect.request_id]
            if stream.failures < TRIES_MAX and not (stream.ended or stream.hung_up):
                stream.failures += 1
                self.ask_again(stream)
                return
        stream = self._open_stream(effect.request_id)
        stream.error = effect.code
        stream.message = effect.message
        late = stream.deadline_ns is not None and effect.code is RejectCode.DEADLINE_EXCEEDED
        if stream.tokens and not late and not self.cut_short:
            self.cut_short = (
                f"{stream.request_id} failed after {stream.tokens} tokens: "
                f"{stream.error} {stream.message}"
            )
        self._close(stream)

    def _open_stream(self, request_id: RequestId) -> Stream:
        stream = self.streams.get(request_id)
        if stream is None or stream.ended:
            raise InvariantBroken(f"{request_id}: its stream ended twice")
        return stream

    def _close(self, stream: Stream) -> None:
        """It has ended: its row is written, and whoever waits for its answer is told."""
        self.open -= 1
        self._due.pop(stream.request_id, None)
        request, stream.request = stream.request, None
        ending = ending_of(stream)
        if stream.answer is not None and self.answered is not None and request is not None:
            whole = stream.finish not in (None, FinishReason.CANCELLED)
            self.answered(stream, request.token_ids + tuple(stream.answer) if whole else None)
            stream.answer = None
        records = self.records
        if stream.account is not None:
            records.note_moves(stream.account)
        if ending is Ending.COMPLETED:
            records.gaps.add(stream.gaps_ns, stream.together)
        records.add(stream.request_id, row_of(stream, ending, records))
        if self._ended_max is not None and len(self.streams) - self.open > self._ended_max:
            del self.streams[stream.request_id]


def _compare(stream: Stream, truth: TrueStream, effect: DeliverTokens) -> None:
    for index, token in enumerate(effect.tokens, start=effect.first_index):
        if token.token_id != truth.output(index):
            raise InvariantBroken(
                f"{stream.request_id}: output token {index} from {effect.worker} is "
                f"{token.token_id}, the right one is {truth.output(index)}"
            )


def _length(stream: Stream) -> int:
    """How many tokens the whole output has: `max_tokens`, or up to a stop token."""
    if stream.truth is None or not stream.stop_token_ids:
        return stream.max_tokens
    for index in range(stream.max_tokens):
        if stream.truth.output(index) in stream.stop_token_ids:
            return index + 1
    return stream.max_tokens
