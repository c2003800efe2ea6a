"""Tokens to text, one at a time, never splitting a character.

A token is bytes, and a character may be spread over several tokens. What is
not yet a whole character waits; bytes that can never become one turn into
U+FFFD. Joined, the pieces are the text that decoding all at once gives.
"""

import codecs
from collections.abc import Callable, Mapping

SPACE = "▁"  # SentencePiece's visible space


def _byte_of_char() -> dict[str, int]:
    """GPT-2's printable stand-ins for the 256 bytes (openai/gpt-2, encoder.py)."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    table = {chr(byte): byte for byte in printable}
    hidden = [byte for byte in range(256) if byte not in printable]
    table.update({chr(256 + index): byte for index, byte in enumerate(hidden)})
    return table


BYTE_OF_CHAR = _byte_of_char()


def byte_level(token: str) -> bytes:
    """The bytes that a byte-level BPE token stands for."""
    try:
        return bytes(BYTE_OF_CHAR[char] for char in token)
    except KeyError:
        return token.encode()


def sentence_piece(token: str) -> bytes:
    """The bytes that a SentencePiece token stands for; <0xNN> is one byte."""
    if len(token) == 6 and token.startswith("<0x") and token.endswith(">"):
        return bytes([int(token[3:5], 16)])
    return token.replace(SPACE, " ").encode()


class TokenBytes:
    """The bytes of every token: of special ones none, of added ones their own text."""

    def __init__(
        self,
        spelling: Callable[[int], str | None],
        convert: Callable[[str], bytes],
        special: frozenset[int],
        literal: Mapping[int, str],
    ) -> None:
        self._spelling = spelling
        self._convert = convert
        self._known = {token_id: text.encode() for token_id, text in literal.items()}
        self._known.update(dict.fromkeys(special, b""))

    def __getitem__(self, token_id: int) -> bytes:
        known = self._known.get(token_id)
        if known is None:
            # Bounded by the vocabulary; ids outside it stand for nothing.
            known = self._convert(self._spelling(token_id) or "")
            self._known[token_id] = known
        return known


class StreamDecoder:
    """One stream's state: the bytes of a character that is not whole yet (at most 3)."""

    def __init__(self, token_bytes: TokenBytes) -> None:
        self._token_bytes = token_bytes
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token_id: int) -> str:
        """The text that became certain with this token; often "", never half a character."""
        return self._decoder.decode(self._token_bytes[token_id])

    def flush(self) -> str:
        """What is left at the end: U+FFFD if a character never became whole."""
        return self._decoder.decode(b"", final=True)
