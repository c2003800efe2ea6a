"""The model as the gateway needs it: its words and its limits, without torch."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from ...workers.models.chat import ChatTemplate, load_chat_template
from ...workers.models.spec_file import read_spec
from ...workers.models.tokenizer import StreamDecoder, Tokenizer, load_tokenizer
from .front.seams import Served
from .gateway_setup import GatewaySetup


class ModelLanguage:
    """One model's way between text and tokens. Thread-safe."""

    def __init__(self, tokenizer: Tokenizer, template: ChatTemplate) -> None:
        self._tokenizer = tokenizer
        self._template = template

    def encode(self, text: str) -> Sequence[int]:
        """The tokens of raw text."""
        return self._tokenizer.encode(text)

    def encode_chat(self, messages: Sequence[tuple[str, str]], rendered_at_s: int) -> Sequence[int]:
        """The tokens of (role, content) messages; raises ChatTemplateError, a ValueError."""
        given = [{"role": role, "content": content} for role, content in messages]
        text = self._template.render(given, datetime.fromtimestamp(rendered_at_s, UTC))
        return self._tokenizer.encode_rendered(text)

    def decoder(self) -> StreamDecoder:
        """A decoder for one stream's output."""
        return self._tokenizer.decoder()


def served_model(setup: GatewaySetup) -> Served:
    """Reads tokenizer, template and limits. Raises ModelError."""
    path = Path(setup.model_path)
    spec = read_spec(path)
    tokenizer = load_tokenizer(path)
    template = load_chat_template(path, tokenizer)
    limit = setup.context_tokens_max or spec.context_tokens
    return Served(
        gateway_id=setup.gateway_id,
        name=setup.model_name,
        context_tokens_max=min(limit, spec.context_tokens),
        vocab_size=spec.vocab,
        block_tokens=setup.block_tokens,
        eos_token_ids=frozenset(tokenizer.eos_token_ids),
        language=ModelLanguage(tokenizer, template),
    )
