"""From what a client sent to a `Request` that a worker can run.

Whatever passes here cannot fail for its content later: prompt and output fit
the context, every token is in the vocabulary, every number in its range.
"""

import asyncio
import hashlib
import secrets
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import partial

import grpc

from ....proto import inference_pb2 as pb
from ....proto.blocks import block_hashes
from ....proto.ids import PrefixHash, RequestId
from ....proto.inference_pb2 import GenerateRequest, ResumeRequest
from ....proto.requests import Request, RequestClass, SamplingParams
from .limits import SEED_MAX, field_violations, resume_violations
from .refusals import Refused, Violation, invalid
from .seams import Served

# Longer prompts are tokenized on a thread: 4 000 characters take about 1 ms.
INLINE_CHARS_MAX = 4_000


def draw_seed() -> int:
    """A seed for a request that named none."""
    return secrets.randbelow(SEED_MAX + 1)


def draw_request_id() -> RequestId:
    """An id for a request that named none."""
    return RequestId(f"req-{secrets.token_hex(8)}")


CLASSES: dict[int, RequestClass] = {
    pb.REQUEST_CLASS_UNSPECIFIED: RequestClass.STANDARD,
    pb.REQUEST_CLASS_INTERACTIVE: RequestClass.INTERACTIVE,
    pb.REQUEST_CLASS_STANDARD: RequestClass.STANDARD,
    pb.REQUEST_CLASS_BATCH: RequestClass.BATCH,
}


def digest_of(resume_key: str) -> int:
    """What the cores keep of a client's key; 0 for none."""
    if not resume_key:
        return 0
    digest = hashlib.blake2b(resume_key.encode(), digest_size=8).digest()
    return 1 + int.from_bytes(digest, "little") % SEED_MAX


def unix_s() -> int:
    """The present, as chat templates see it."""
    return int(time.time())


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """A valid request, and what concerns only its text."""

    request: Request
    stops: tuple[str, ...]
    skip_tokens: int  # generated tokens the client already has
    rendered_at_s: int | None  # what the chat template took for the present; None: no chat


class Validator:
    """Checks requests for one model. Raises `Refused` for a bad one."""

    def __init__(
        self,
        served: Served,
        threads: Executor,
        seeds: Callable[[], int] = draw_seed,
        clock_s: Callable[[], int] = unix_s,
    ) -> None:
        self._served = served
        self._threads = threads
        self._seeds = seeds
        self._clock_s = clock_s

    async def check_resume(self, resume: ResumeRequest) -> Ask:
        """The request of a client that comes back."""
        if not resume.HasField("request"):
            message = (
                f"request_id: no gateway keeps the request {resume.request_id!r} for its client; "
                "send it again, in `request`"
            )
            raise Refused(grpc.StatusCode.NOT_FOUND, message)
        violations = resume_violations(resume)
        if violations:
            raise invalid(*violations)
        again = GenerateRequest()
        again.CopyFrom(resume.request)
        again.request_id = resume.request_id
        ask = await self.check(again)
        return replace(ask, request=replace(ask.request, resumes=resume.resumes))

    async def check(self, ask: GenerateRequest) -> Ask:
        """The request as the cores take it."""
        violations = [*self._model(ask), *field_violations(ask, self._served.vocab_size)]
        if violations:
            raise invalid(*violations)
        rendered_at_s = ask.rendered_at_s if ask.HasField("rendered_at_s") else self._clock_s()
        token_ids, hashes = await self._tokenize(ask, rendered_at_s)
        room = self._served.context_tokens_max - len(token_ids)
        if room < 1:
            raise invalid(self._too_long(ask, len(token_ids)))
        return Ask(
            request=self._request(ask, token_ids, hashes, room),
            stops=tuple(ask.stop),
            skip_tokens=ask.skip_tokens or len(ask.emitted_token_ids),
            rendered_at_s=rendered_at_s if ask.WhichOneof("prompt") == "chat" else None,
        )

    def _model(self, ask: GenerateRequest) -> list[Violation]:
        if ask.HasField("model") and ask.model != self._served.name:
            return [Violation("model", f"is {ask.model!r}; served is {self._served.name!r}")]
        return []

    def _too_long(self, ask: GenerateRequest, prompt_tokens: int) -> Violation:
        limit = self._served.context_tokens_max - 1
        return Violation(
            ask.WhichOneof("prompt") or "prompt",
            f"has {prompt_tokens} tokens; at most {limit} leave room to generate"
            f" in a context of {limit + 1}",
        )

    async def _tokenize(
        self, ask: GenerateRequest, rendered_at_s: int
    ) -> tuple[tuple[int, ...], tuple[PrefixHash, ...]]:
        work = partial(self._encode, ask, rendered_at_s)
        if ask.ByteSize() <= INLINE_CHARS_MAX:
            return work()
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    def _encode(
        self, ask: GenerateRequest, rendered_at_s: int
    ) -> tuple[tuple[int, ...], tuple[PrefixHash, ...]]:
        """Tokens and their prefix hashes; runs on any thread."""
        token_ids = tuple(self._token_ids(ask, rendered_at_s))
        if not token_ids:
            raise invalid(Violation(ask.WhichOneof("prompt") or "prompt", "has no tokens"))
        return token_ids, block_hashes(token_ids, self._served.block_tokens)

    def _token_ids(self, ask: GenerateRequest, rendered_at_s: int) -> Sequence[int]:
        match ask.WhichOneof("prompt"):
            case "text":
                return self._served.language.encode(ask.text)
            case "chat":
                messages = [(message.role, message.content) for message in ask.chat.messages]
                try:
                    return self._served.language.encode_chat(messages, rendered_at_s)
                except ValueError as error:
                    raise invalid(Violation("chat", str(error))) from error
            case _:
                return ask.token_ids.token_ids

    def _request(
        self,
        ask: GenerateRequest,
        token_ids: tuple[int, ...],
        hashes: tuple[PrefixHash, ...],
        room: int,
    ) -> Request:
        eos = frozenset[int]() if ask.ignore_eos else self._served.eos_token_ids
        return Request(
            request_id=RequestId(ask.request_id) if ask.request_id else draw_request_id(),
            gateway_id=self._served.gateway_id,
            token_ids=token_ids,
            max_tokens=min(ask.max_tokens, room) if ask.HasField("max_tokens") else room,
            sampling=self._sampling(ask),
            stop_token_ids=eos | frozenset(ask.stop_token_ids),
            emitted=tuple(ask.emitted_token_ids),
            block_hashes=hashes,
            resume_digest=digest_of(ask.resume_key),
            request_class=CLASSES[ask.request_class],
        )

    def _sampling(self, ask: GenerateRequest) -> SamplingParams:
        given = ask.sampling
        return SamplingParams(
            temperature=given.temperature,
            top_k=given.top_k,
            top_p=given.top_p if given.HasField("top_p") else 1.0,
            min_p=given.min_p,
            repetition_penalty=(
                given.repetition_penalty if given.HasField("repetition_penalty") else 1.0
            ),
            presence_penalty=given.presence_penalty,
            frequency_penalty=given.frequency_penalty,
            seed=given.seed if given.HasField("seed") else self._seeds(),
            logprobs=given.logprobs if given.HasField("logprobs") else None,
        )
