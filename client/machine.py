"""One generation as a state machine without I/O: the logic of every stream.

Both clients drive it the same way: make `call()`, feed each reply to `take`,
each failure to `failed`, until `result` is there. A token enters `_tokens`
once, by its index, whatever is sent again: a stream that was accepted is
resumed, at any gateway, at the token that is missing.
"""

from ..proto import inference_pb2 as pb
from . import results
from .errors import Cancelled, Refused, ServerError, SplitweaveError, Unavailable
from .results import Delta, Generation, Token
from .retry import Retry

DEFAULT_ADDRESS = "127.0.0.1:7070"  # where `splitweave serve` listens


class GenerationMachine:
    """What is known of one generation, and what to send next."""

    def __init__(self, ask: pb.GenerateRequest, retry: Retry) -> None:
        self._ask = ask
        self._retry = retry
        self._accepted: pb.Accepted | None = None  # by the try that is resumed
        self._resumes = 0
        self._tokens: list[Token] = []
        self._text: list[str] = []
        self._error: SplitweaveError | None = None  # the final one
        self.result: Generation | None = None

    @property
    def request_id(self) -> str:
        """The id by which `cancel` finds the generation, retried or not."""
        return self._ask.request_id

    @property
    def retry(self) -> Retry:
        """The tries so far."""
        return self._retry

    def call(self) -> tuple[str, pb.GenerateRequest | pb.ResumeRequest]:
        """The next call, as method and message: the whole request, or what is missing of it."""
        if not self._retry.retries:
            return "Generate", self._ask
        if self._accepted is None and not self._tokens:
            again = pb.GenerateRequest()
            again.CopyFrom(self._ask)
            # An id of its own: the lost try may still run, with another seed.
            again.request_id = f"{self._ask.request_id}:retry-{self._retry.retries}"
            return "Generate", again
        self._resumes += 1
        return "Resume", self._resume()

    def _resume(self) -> pb.ResumeRequest:
        """The request as it was begun, with what came of it: all that a gateway needs."""
        accepted = self._told()
        resume = pb.ResumeRequest(
            request_id=accepted.request_id,
            tokens_received=len(self._tokens),
            resumes=self._resumes,
            request=self._ask,
        )
        request = resume.request
        request.request_id = accepted.request_id
        request.sampling.seed = accepted.seed
        if accepted.HasField("rendered_at_s"):
            request.rendered_at_s = accepted.rendered_at_s
        request.emitted_token_ids.extend(token.token_id for token in self._tokens)
        return resume

    def take(self, reply: pb.GenerateReply) -> Delta | None:
        """What the reply adds to the answer; None if nothing. Raises Unavailable at a gap."""
        if self.result is not None:
            return None  # the answer has ended
        match reply.WhichOneof("event"):
            case "accepted":
                self._accepted = self._accepted or reply.accepted
                return None
            case "tokens":
                return self._add(reply.tokens)
            case "finished":
                return self._finish(reply.finished)
            case _:
                return None  # an event of a newer server

    def complete(self) -> Generation:
        """The result; raises what ended the stream instead, Cancelled if it was closed."""
        if self.result is None:
            raise self._error or Cancelled("the stream was closed before its end")
        return self.result

    def broken(self) -> SplitweaveError | None:
        """The error of a stream that ended by itself; None if it was complete."""
        return None if self.result else Unavailable("the stream ended before its answer did")

    def failed(self, error: SplitweaveError, now_s: float) -> float:
        """Seconds to wait before the next `call()`; raises `error` if it is final.

        A call that fails after the answer is complete changes nothing.
        """
        if self.result is not None:
            return 0.0
        if isinstance(error, Refused) and self._resumes:
            # The service has fewer tokens than we do, and forgets the request: once more,
            # it is recovered from what we have.
            error = Unavailable(error.message)
        try:
            return self._retry.failed(error, now_s)
        except SplitweaveError as final:
            self._error = final
            raise

    def _told(self) -> pb.Accepted:
        """What the service made of the request; it says so before anything else."""
        asked = pb.Accepted(request_id=self._ask.request_id, seed=self._ask.sampling.seed)
        return self._accepted or asked

    def _add(self, message: pb.Tokens) -> Delta | None:
        new = [item for item in message.tokens if item.index >= len(self._tokens)]
        if not new:
            return None
        for index, item in enumerate(new, len(self._tokens)):
            if item.index != index:
                raise Unavailable(f"token {item.index} came, {index} is next")
        self._retry.progressed()
        tokens = tuple(results.token(item) for item in new)
        text = "".join(token.text for token in tokens)
        self._tokens += tokens
        self._text.append(text)
        return Delta(text=text, tokens=tokens)

    def _finish(self, finished: pb.Finished) -> Delta | None:
        reason = results.REASONS.get(finished.finish_reason)
        if reason is None:
            raise ServerError(finished.message or "the request failed at the server")
        self._text.append(finished.text_tail)
        accepted = self._told()
        dated = accepted.HasField("rendered_at_s")
        self.result = Generation(
            request_id=self.request_id,
            seed=accepted.seed,
            rendered_at_s=accepted.rendered_at_s if dated else None,
            text="".join(self._text),
            finish_reason=reason,
            usage=results.usage(finished.usage),
            accounting=results.accounting(finished.accounting),
            retries=self._retry.retries,
            tokens=tuple(self._tokens),
        )
        return Delta(text=finished.text_tail, tokens=()) if finished.text_tail else None
