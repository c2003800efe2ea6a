"""What a request may ask for, and the checks of its fields."""

import math
import re
from collections.abc import Iterable, Iterator

from ....proto.inference_pb2 import (
    GenerateRequest,
    RequestClass,
    ResumeRequest,
    SamplingParams,
)
from .refusals import Violation

RESUME_KEY_CHARS_MAX = 128
RESUMES_MAX = 2**31 - 1
REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}(:retry-[0-9]{1,6})?")
STOPS_MAX = 16
STOP_CHARS_MAX = 256
STOP_TOKEN_IDS_MAX = 256
MESSAGES_MAX = 4096
LOGPROBS_MAX = 20
TEMPERATURE_MAX = 100.0
PENALTY_MAX = 2.0
SEED_MAX = 2**63 - 1  # seeds are signed 64-bit in tensors
RENDERED_AT_S_MAX = 253_402_300_799  # the end of the year 9999


def field_violations(ask: GenerateRequest, vocab_size: int) -> list[Violation]:
    """Everything wrong with `ask` that shows without tokenizing it."""
    found = [*_identity(ask), *_prompt(ask, vocab_size), *_ending(ask, vocab_size)]
    return [*found, *_resume(ask, vocab_size), *_sampling(ask.sampling)]


def resume_violations(resume: ResumeRequest) -> list[Violation]:
    """Everything in `resume` that contradicts the request in it."""
    ask, received = resume.request, resume.tokens_received
    had = len(ask.emitted_token_ids) or ask.skip_tokens
    found = []
    if ask.HasField("request_id") and ask.request_id != resume.request_id:
        said = f"is {ask.request_id!r}; the stream's is {resume.request_id!r}"
        found.append(Violation("request.request_id", said))
    if received != had:
        said = f"is {received}, but the request comes with {had} of them"
        found.append(Violation("tokens_received", said))
    if ask.HasField("max_tokens") and received > ask.max_tokens:
        said = f"is {received}; max_tokens is {ask.max_tokens}"
        found.append(Violation("tokens_received", said))
    if not ask.sampling.HasField("seed"):
        said = "is missing: a resumed request repeats the one in Accepted"
        found.append(Violation("request.sampling.seed", said))
    if not 1 <= resume.resumes <= RESUMES_MAX:
        found.append(Violation("resumes", f"is {resume.resumes}; 1 for the first, then one more"))
    return found


def _identity(ask: GenerateRequest) -> Iterator[Violation]:
    if ask.HasField("request_id") and not REQUEST_ID.fullmatch(ask.request_id):
        yield Violation("request_id", "must be 1 to 128 characters of [A-Za-z0-9._:-]")
    if ask.request_class not in RequestClass.values():
        limit = f"one of {', '.join(map(str, RequestClass.values()))}"
        yield Violation("request_class", f"is {ask.request_class}; {limit}")
    if len(ask.resume_key) > RESUME_KEY_CHARS_MAX:
        limit = f"at most {RESUME_KEY_CHARS_MAX}"
        yield Violation("resume_key", f"has {len(ask.resume_key)} characters; {limit}")


def _prompt(ask: GenerateRequest, vocab_size: int) -> Iterator[Violation]:
    match ask.WhichOneof("prompt"):
        case None:
            yield Violation("prompt", "is missing: give one of text, chat or token_ids")
        case "text" if not ask.text:
            yield Violation("text", "is empty; a prompt has at least one character")
        case "token_ids" if not ask.token_ids.token_ids:
            yield Violation("token_ids", "is empty; a prompt has at least one token")
        case "token_ids":
            yield from _vocabulary("token_ids", ask.token_ids.token_ids, vocab_size)
        case "chat":
            yield from _chat(ask)
        case _:
            pass


def _chat(ask: GenerateRequest) -> Iterator[Violation]:
    messages = ask.chat.messages
    if not messages:
        yield Violation("chat.messages", "is empty; a conversation has at least one message")
    if len(messages) > MESSAGES_MAX:
        yield Violation("chat.messages", f"has {len(messages)}; at most {MESSAGES_MAX}")
    for index, message in enumerate(messages[:MESSAGES_MAX]):
        if not message.role:
            yield Violation(f"chat.messages[{index}].role", "is empty")


def _ending(ask: GenerateRequest, vocab_size: int) -> Iterator[Violation]:
    if ask.HasField("max_tokens") and ask.max_tokens < 1:
        yield Violation("max_tokens", "is 0; at least 1")
    if len(ask.stop) > STOPS_MAX:
        yield Violation("stop", f"has {len(ask.stop)} strings; at most {STOPS_MAX}")
    for index, stop in enumerate(ask.stop[:STOPS_MAX]):
        if not 1 <= len(stop) <= STOP_CHARS_MAX:
            limit = f"1 to {STOP_CHARS_MAX} characters"
            yield Violation(f"stop[{index}]", f"has {len(stop)} characters; {limit}")
    if len(ask.stop_token_ids) > STOP_TOKEN_IDS_MAX:
        counts = f"has {len(ask.stop_token_ids)}; at most {STOP_TOKEN_IDS_MAX}"
        yield Violation("stop_token_ids", counts)
    yield from _vocabulary("stop_token_ids", ask.stop_token_ids, vocab_size)


def _resume(ask: GenerateRequest, vocab_size: int) -> Iterator[Violation]:
    if ask.skip_tokens and ask.emitted_token_ids:
        yield Violation("skip_tokens", "cannot be given together with emitted_token_ids")
    if (ask.skip_tokens or ask.emitted_token_ids) and not ask.sampling.HasField("seed"):
        yield Violation("sampling.seed", "is missing: a resumed request repeats its seed")
    if ask.rendered_at_s > RENDERED_AT_S_MAX:
        yield Violation("rendered_at_s", f"is {ask.rendered_at_s}; at most {RENDERED_AT_S_MAX}")
    yield from _vocabulary("emitted_token_ids", ask.emitted_token_ids, vocab_size)


def _vocabulary(field: str, token_ids: Iterable[int], vocab_size: int) -> Iterator[Violation]:
    """The first id that the model does not have."""
    for index, token_id in enumerate(token_ids):
        if token_id >= vocab_size:
            limit = f"the vocabulary has {vocab_size} tokens"
            yield Violation(f"{field}[{index}]", f"is {token_id}; {limit}")
            return


def _sampling(params: SamplingParams) -> Iterator[Violation]:
    top_p = params.top_p if params.HasField("top_p") else 1.0
    repetition = params.repetition_penalty if params.HasField("repetition_penalty") else 1.0
    rules = (
        ("temperature", params.temperature, 0.0, TEMPERATURE_MAX),
        ("min_p", params.min_p, 0.0, 1.0),
        ("presence_penalty", params.presence_penalty, -PENALTY_MAX, PENALTY_MAX),
        ("frequency_penalty", params.frequency_penalty, -PENALTY_MAX, PENALTY_MAX),
    )
    for name, value, low, high in rules:
        if not low <= value <= high:  # also false for NaN
            yield Violation(f"sampling.{name}", f"is {value:g}; {low:g} to {high:g}")
    if not 0.0 < top_p <= 1.0:
        yield Violation("sampling.top_p", f"is {top_p:g}; above 0, at most 1")
    if not (repetition > 0.0 and math.isfinite(repetition)):
        yield Violation("sampling.repetition_penalty", f"is {repetition:g}; above 0 and finite")
    if params.logprobs > LOGPROBS_MAX:
        yield Violation("sampling.logprobs", f"is {params.logprobs}; at most {LOGPROBS_MAX}")
    if params.seed > SEED_MAX:
        yield Violation("sampling.seed", f"is {params.seed}; at most {SEED_MAX}")
