"""From Python arguments to a GenerateRequest.

The gateway checks ranges; here only what cannot be put on the wire is refused:
wrong types, negative counts, text that is not Unicode.
"""

import uuid
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias, TypedDict

from ..proto import inference_pb2 as pb
from .endpoints import MESSAGE_BYTES_MAX
from .errors import InvalidRequest, Violation


class Message(TypedDict):
    """One turn of a conversation."""

    role: str  # "system", "user", "assistant", or what else the model's template knows
    content: str


# Raw text, a conversation, or token ids of the model's own vocabulary.
Prompt: TypeAlias = str | Sequence[Message] | Sequence[int]


class Options(TypedDict, total=False):
    """How to generate. What is left out takes the default of proto/inference.proto."""

    max_tokens: int  # left out: what the context has room for
    stop: Sequence[str] | str  # ends before any of these would appear
    stop_token_ids: Sequence[int]
    ignore_eos: bool
    temperature: float  # 0: greedy
    top_k: int
    top_p: float
    min_p: float
    repetition_penalty: float
    presence_penalty: float
    frequency_penalty: float
    seed: int  # left out: drawn, and told in the result
    rendered_at_s: int  # the chat template's present, Unix time; left out: now
    logprobs: int  # how many alternatives to report per token
    model: str
    request_id: str  # left out: drawn
    request_class: str  # "interactive", "standard" (left out) or "batch": who waits goes by it
    timeout_s: float  # for the whole, retries included


CLASSES = {
    "interactive": pb.REQUEST_CLASS_INTERACTIVE,
    "standard": pb.REQUEST_CLASS_STANDARD,
    "batch": pb.REQUEST_CLASS_BATCH,
}
SAMPLING = frozenset(field.name for field in pb.SamplingParams.DESCRIPTOR.fields)


def generate_request(prompt: Prompt, options: Options) -> pb.GenerateRequest:
    """The message for one generation. Raises InvalidRequest, TypeError for unknown options."""
    unknown = sorted(set(options) - set(Options.__annotations__))
    if unknown:
        known = ", ".join(Options.__annotations__)
        raise TypeError(f"unknown option {unknown[0]!r}; the options are {known}")
    ask = pb.GenerateRequest()
    fill(ask, "request_id", options.get("request_id") or f"sdk-{uuid.uuid4().hex}", "request_id")
    _set_prompt(ask, prompt)
    for name, value in options.items():
        if name in SAMPLING:
            fill(ask.sampling, name, value, f"sampling.{name}")
        elif name == "stop" and isinstance(value, str):
            fill(ask, name, [value], name)  # one string is not a list of its letters
        elif name == "request_class":
            _set_class(ask, value)
        elif name not in ("request_id", "timeout_s"):
            fill(ask, name, value, name)
    if ask.ByteSize() > MESSAGE_BYTES_MAX:
        problem = f"has {ask.ByteSize()} bytes; at most {MESSAGE_BYTES_MAX} in one message"
        raise InvalidRequest(f"prompt: {problem}", _at("prompt", problem))
    return ask


def _set_class(ask: pb.GenerateRequest, value: Any) -> None:
    if not isinstance(value, str) or value not in CLASSES:
        problem = f"is {value!r}; one of {', '.join(CLASSES)}"
        raise InvalidRequest(f"request_class: {problem}", _at("request_class", problem))
    ask.request_class = CLASSES[value]


def _set_prompt(ask: pb.GenerateRequest, prompt: Prompt) -> None:
    if isinstance(prompt, str):
        fill(ask, "text", prompt, "text")
        return
    if not isinstance(prompt, Sequence) or isinstance(prompt, bytes | bytearray):
        kind = type(prompt).__name__
        raise InvalidRequest(f"prompt: is {kind}; give text, messages or token ids", _at("prompt"))
    if prompt and isinstance(prompt[0], Mapping):
        ask.chat.SetInParent()
        for index, message in enumerate(prompt):
            _add_message(ask, index, message)
        return
    ask.token_ids.SetInParent()
    fill(ask.token_ids, "token_ids", prompt, "token_ids")


def _add_message(ask: pb.GenerateRequest, index: int, message: Any) -> None:
    field = f"chat.messages[{index}]"
    if not isinstance(message, Mapping) or set(message) != {"role", "content"}:
        text = f"{field}: is {message!r:.60}; a message has role and content, nothing else"
        raise InvalidRequest(text, _at(field))
    added = ask.chat.messages.add()
    fill(added, "role", message["role"], f"{field}.role")
    fill(added, "content", message["content"], f"{field}.content")


def fill(message: Any, name: str, value: Any, field: str) -> None:
    """Sets one field of a message; what protobuf cannot hold is an InvalidRequest."""
    try:
        if isinstance(value, str) or not isinstance(value, Sequence):
            setattr(message, name, value)
        else:
            getattr(message, name).extend(value)
    except (AttributeError, OverflowError, TypeError, ValueError) as error:
        raise InvalidRequest(f"{field}: {error}", _at(field, str(error))) from error


def _at(field: str, description: str = "has the wrong type") -> tuple[Violation, ...]:
    return (Violation(field, description),)
