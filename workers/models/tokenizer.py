"""A model's way between text and tokens. Needs neither torch nor Ray.

Encoding is the `tokenizers` library's; the streams of a gateway are decoded by
`stream_decoder`, which never emits half a character. Thread-safe.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tokenizers

from .errors import ModelFileError, UnsupportedModel
from .gguf_file import read_gguf
from .gguf_spec import end_tokens
from .gguf_tokenizer import LIBRARY_ERROR, build
from .hf_spec import bos_token, end_tokens_of_folder, read_json
from .stream_decoder import StreamDecoder, TokenBytes, byte_level, sentence_piece

__all__ = ["StreamDecoder", "Tokenizer", "load_tokenizer"]


class Tokenizer:
    """Encodes prompts and decodes answers of one model."""

    def __init__(
        self,
        encoder: tokenizers.Tokenizer,
        token_bytes: TokenBytes,
        bos_token_id: int | None,
        eos_token_ids: tuple[int, ...],
    ) -> None:
        self.vocab_size = encoder.get_vocab_size()
        self.bos_token_id = bos_token_id
        self.eos_token_ids = eos_token_ids
        self._encoder = encoder
        self._token_bytes = token_bytes

    def encode(self, text: str) -> list[int]:
        """Tokens of raw text, with the begin-of-sequence token if the model wants one."""
        return list(self._encoder.encode(text).ids)

    def encode_rendered(self, text: str) -> list[int]:
        """Tokens of text from a chat template, which writes special tokens itself."""
        return list(self._encoder.encode(text, add_special_tokens=False).ids)

    def decode(self, token_ids: Sequence[int]) -> str:
        """Text of a whole sequence; special tokens are left out."""
        return str(self._encoder.decode(list(token_ids)))

    def decoder(self) -> StreamDecoder:
        """A decoder for one stream: the text that continues whatever came before."""
        return StreamDecoder(self._token_bytes)

    def token(self, token_id: int | None) -> str:
        """A token as the vocabulary spells it; "" for None or an unknown id."""
        if token_id is None:
            return ""
        return self._encoder.id_to_token(token_id) or ""


def load_tokenizer(path: Path) -> Tokenizer:
    """The tokenizer of a GGUF file or a Hugging Face folder.

    Raises ModelFileError if a file is missing or broken, UnsupportedModel if
    its kind is not known.
    """
    return _of_folder(path) if path.is_dir() else _of_gguf(path)


def _of_gguf(path: Path) -> Tokenizer:
    file = read_gguf(path)
    encoder, token_bytes = build(file)
    bos = file.get("tokenizer.ggml.bos_token_id", int)
    return Tokenizer(encoder, token_bytes, bos, end_tokens(file))


def _of_folder(folder: Path) -> Tokenizer:
    path = folder / "tokenizer.json"
    described = read_json(path)
    try:
        encoder = tokenizers.Tokenizer.from_file(str(path))
    except LIBRARY_ERROR as error:
        raise ModelFileError(path, f"is not a tokenizer: {error}") from error
    config = read_json(folder / "config.json")
    token_bytes = _bytes_of(described, encoder, path)
    return Tokenizer(encoder, token_bytes, bos_token(config), end_tokens_of_folder(folder, config))


def _bytes_of(described: dict[str, Any], encoder: tokenizers.Tokenizer, path: Path) -> TokenBytes:
    decoder = described.get("decoder") or {}
    kinds = {step.get("type") for step in (decoder, *decoder.get("decoders", ()))}
    added = described.get("added_tokens") or ()
    special = frozenset(int(token["id"]) for token in added if token.get("special"))
    literal = {int(token["id"]): str(token["content"]) for token in added}
    if "ByteLevel" in kinds:
        return TokenBytes(encoder.id_to_token, byte_level, special, literal)
    if "ByteFallback" in kinds:
        return TokenBytes(encoder.id_to_token, sentence_piece, special, literal)
    raise UnsupportedModel(
        f"{path}: decoder {json.dumps(decoder)[:80]} is not supported; one with ByteLevel or "
        "ByteFallback is"
    )
