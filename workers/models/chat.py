"""A model's chat template: messages to the text that the model continues.

Templates come with models, so they are foreign code: they run in jinja2's
immutable sandbox. Needs neither torch nor Ray. The dialect is the one that
Hugging Face documents (chat templating): loop controls, `raise_exception`,
`strftime_now`, `tojson` without HTML escapes, `generation` blocks.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, Template, TemplateError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from .errors import ChatTemplateError, ModelFileError
from .gguf_file import read_gguf
from .hf_spec import read_json
from .tokenizer import Tokenizer

Message = Mapping[str, Any]

# What foreign template code can raise in the sandbox.
FAILURES = (
    TemplateError, TypeError, ValueError, LookupError, AttributeError, ArithmeticError,
    RecursionError,
)  # fmt: skip
_GGUF_KEYS = ("tokenizer.chat_template", "tokenizer.chat_template.default")


class ChatTemplate:
    """One model's template. `source` None: the model has none. Thread-safe."""

    def __init__(self, source: str | None, bos_token: str = "", eos_token: str = "") -> None:
        self._special = {"bos_token": bos_token, "eos_token": eos_token}
        self._template = None if source is None else _compile(source)

    def render(self, messages: Sequence[Message], now: datetime) -> str:
        """The text up to where the model's answer begins.

        Messages are mappings with `role` and `content`. `now` is what the
        template sees as the present. Raises ChatTemplateError with a reason for
        a person if there is no template or it refuses the messages.
        """
        if self._template is None:
            raise ChatTemplateError("the model has no chat template: send text or token ids")
        try:
            return self._template.render(
                messages=[dict(message) for message in messages],
                add_generation_prompt=True,
                raise_exception=_raise,
                strftime_now=now.strftime,
                **self._special,
            )
        except ChatTemplateError:
            raise
        except FAILURES as error:
            raise ChatTemplateError(f"the model's chat template failed: {error}") from error


def load_chat_template(path: Path, tokenizer: Tokenizer) -> ChatTemplate:
    """The template of a GGUF file or a Hugging Face folder, which may have none.

    Raises ModelFileError if a file is broken, ChatTemplateError if the template is.
    """
    source = _of_folder(path) if path.is_dir() else _of_gguf(path)
    ends = tokenizer.eos_token_ids
    return ChatTemplate(
        source,
        bos_token=tokenizer.token(tokenizer.bos_token_id),
        eos_token=tokenizer.token(ends[0] if ends else None),
    )


def _of_gguf(path: Path) -> str | None:
    file = read_gguf(path)
    found = (file.get(key, str) for key in _GGUF_KEYS)
    return next((source for source in found if source), None)


def _of_folder(folder: Path) -> str | None:
    """chat_template.jinja if there is one, else tokenizer_config.json's."""
    own, config = folder / "chat_template.jinja", folder / "tokenizer_config.json"
    if own.is_file():
        try:
            return own.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ModelFileError(own, f"cannot be read: {error}") from error
    given = read_json(config).get("chat_template") if config.is_file() else None
    if isinstance(given, list):  # several, by name
        named = {entry.get("name"): entry.get("template") for entry in given}
        given = named.get("default")
    if given is not None and not isinstance(given, str):
        raise ModelFileError(config, f"chat_template is {type(given).__name__}, not text")
    return given


def _compile(source: str) -> Template:
    try:
        return _environment().from_string(source)
    except TemplateError as error:
        raise ChatTemplateError(f"the model's chat template is broken: {error}") from error


def _raise(reason: str) -> None:
    raise ChatTemplateError(f"the model's chat template refuses the messages: {reason}")


def _to_json(value: object, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


class _Generation(Extension):
    """`{% generation %}` marks what a model wrote, for training; here it is nothing."""

    tags = {"generation"}  # noqa: RUF012 (jinja2's interface)

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _environment() -> Environment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    return environment
