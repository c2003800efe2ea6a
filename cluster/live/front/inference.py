"""The Inference service: one validated stream per call, to its end or the client's."""

import time
from collections.abc import AsyncIterator, Callable

import grpc

from ....proto import inference_pb2 as pb
from ....proto.effects import DeliverTokens, EndStream, FailStream
from ....proto.ids import RequestId
from ....proto.inference_pb2_grpc import InferenceServicer
from ....proto.requests import FinishReason
from .context import Context
from .refusals import Refused, Violation, abort, failed, invalid, unavailable
from .replies import Replies
from .seams import Language, StreamItem, Streams
from .session import Cut, Session
from .validate import Ask, Validator

RETRY_ELSEWHERE = "this gateway is stopping; send the request again"
RETRY_MARK = ":retry-"  # a client appends it, and a number, to the id of a repeated request


class InferenceService(InferenceServicer):
    """Generate and Cancel. A call that ends early takes its request with it."""

    def __init__(
        self,
        validator: Validator,
        language: Language,
        streams: Streams,
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._validator = validator
        self._language = language
        self._streams = streams
        self._clock_ns = clock_ns
        self._sessions: dict[RequestId, Session] = {}
        self._stopping = False

    async def Generate(  # noqa: N802  (the stub's names)
        self, request: pb.GenerateRequest, context: Context
    ) -> AsyncIterator[pb.GenerateReply]:
        try:
            async for reply in self._replies(await self._admit(request), context):
                yield reply
        except Refused as refused:
            await abort(context, refused)

    async def Resume(  # noqa: N802
        self, request: pb.ResumeRequest, context: Context
    ) -> AsyncIterator[pb.GenerateReply]:
        try:
            async for reply in self._replies(await self._admit_again(request), context):
                yield reply
        except Refused as refused:
            await abort(context, refused)

    async def Cancel(  # noqa: N802
        self, request: pb.CancelRequest, context: Context
    ) -> pb.CancelReply:
        sessions = [
            session
            for request_id, session in self._sessions.items()
            if request_id.split(RETRY_MARK)[0] == request.request_id
            or request_id == request.request_id
        ]
        for session in sessions:
            session.cut(Cut.CANCELLED)
        if not sessions:
            message = f"request_id: {request.request_id!r} does not run at this gateway"
            await abort(context, Refused(grpc.StatusCode.NOT_FOUND, message))
        return pb.CancelReply()

    @property
    def streams_open(self) -> int:
        """Calls of Generate that have not ended."""
        return len(self._sessions)

    def refuse_new(self) -> None:
        """From now on new requests are UNAVAILABLE."""
        self._stopping = True

    def cut_all(self) -> None:
        """End every call with UNAVAILABLE: its client resumes elsewhere what runs on."""
        self._streams.leave()
        for session in self._sessions.values():
            session.cut(Cut.STOPPING)

    async def _admit(self, request: pb.GenerateRequest) -> Ask:
        ask = await self._validator.check(request)
        request_id = ask.request.request_id
        if request_id in self._sessions or self._streams.knows(request_id):
            raise invalid(Violation("request_id", f"{request_id!r} runs already"))
        if self._stopping:
            raise unavailable(RETRY_ELSEWHERE)
        return ask

    async def _admit_again(self, resume: pb.ResumeRequest) -> Ask:
        """A client comes back, perhaps before its former call was seen to end."""
        ask = await self._validator.check_resume(resume)
        request = ask.request
        digest = self._streams.resume_digest(request.request_id)
        if digest is not None and digest != request.resume_digest:
            message = f"request_id: {request.request_id!r} belongs to another client"
            raise Refused(grpc.StatusCode.PERMISSION_DENIED, message)
        if self._stopping:
            raise unavailable(RETRY_ELSEWHERE)
        former = self._sessions.get(request.request_id)
        if former is not None:
            if former.resumes >= request.resumes:
                said = f"is {request.resumes}; the open call's is {former.resumes}"
                raise invalid(Violation("resumes", said))
            former.cut(Cut.RESUMED)
        return ask

    async def _replies(self, ask: Ask, context: Context) -> AsyncIterator[pb.GenerateReply]:
        replies = Replies(ask, self._language.decoder())
        done = replies.ended_before()
        if done is not None:
            yield replies.accepted()
            yield replies.ended(done)
            return
        session = self._open(ask, context)
        yield replies.accepted()
        async for reply in self._relay(ask.request.request_id, session, replies):
            yield reply

    def _open(self, ask: Ask, context: Context) -> Session:
        """Starts the stream. It closes with the call, however that ends."""
        request_id = ask.request.request_id
        remaining_s = context.time_remaining()
        deadline_ns = None if remaining_s is None else self._clock_ns() + int(remaining_s * 1e9)
        session = Session(self._streams.open(ask.request, deadline_ns), ask.request.resumes)
        self._sessions[request_id] = session
        context.add_done_callback(lambda _: self._close(request_id, session))  # type: ignore[arg-type]
        return session

    def _close(self, request_id: RequestId, session: Session) -> None:
        session.close()
        if self._sessions.get(request_id) is session:  # else a later call has the stream
            del self._sessions[request_id]

    async def _relay(
        self, request_id: RequestId, session: Session, replies: Replies
    ) -> AsyncIterator[pb.GenerateReply]:
        """Replies until the stream's end; deliveries that wait together share one."""
        while True:
            tokens: list[pb.Token] = []
            last: StreamItem | Cut | None = None
            for item in await session.take():
                if not isinstance(item, DeliverTokens):
                    last = item
                    break
                tokens += self._tokens(request_id, item, replies)
            if tokens:
                yield pb.GenerateReply(tokens=pb.Tokens(tokens=tokens))
            if last is not None:
                yield _last_reply(last, replies)
                return

    def _tokens(
        self, request_id: RequestId, item: DeliverTokens, replies: Replies
    ) -> list[pb.Token]:
        was_stopped = replies.stopped
        tokens = replies.tokens(item)
        if replies.stopped and not was_stopped:
            self._streams.stop_found(request_id, replies.output_tokens)
        return tokens


def _last_reply(item: StreamItem | Cut, replies: Replies) -> pb.GenerateReply:
    """The reply that ends the stream. Raises `Refused` if it ends with an error."""
    match item:
        case EndStream():
            return replies.finished(item)
        case FailStream():
            raise failed(item)
        case Cut.CANCELLED:
            return replies.ended(FinishReason.CANCELLED)
        case Cut.RESUMED:
            raise unavailable("the stream was resumed by a later call")
        case Cut.STOPPING:
            raise unavailable(RETRY_ELSEWHERE)
        case _:
            raise unavailable("the gateway lost this stream; send the request again")
