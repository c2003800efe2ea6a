"""The text of one stream: detokenized, cut before the first stop string.

The text released with token i depends on tokens 0..i only, so it is the same
however tokens were batched, and a stream that is resumed elsewhere continues
to the character. The stop that ends a text is the one that completes first;
of those that complete together, the longest.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from .seams import Decoder


class StopMatcher:
    """Releases text that cannot be part of a stop string any more."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""
        self.found = False

    def push(self, text: str) -> str:
        """What may be shown now. Empty once a stop string was found."""
        if self.found:
            return ""
        buffer = self._held + text
        start = self._match(buffer)
        if start is not None:
            self.found, self._held = True, ""
            return buffer[:start]
        keep = self._undecided(buffer)
        self._held = buffer[len(buffer) - keep :]
        return buffer[: len(buffer) - keep]

    def flush(self) -> str:
        """What was held back, at the end of the stream."""
        held, self._held = self._held, ""
        return held

    def _match(self, buffer: str) -> int | None:
        """Where the first stop string to complete begins."""
        starts = ((buffer.find(stop), stop) for stop in self._stops)
        hits = [(start + len(stop), start) for start, stop in starts if start >= 0]
        return min(hits)[1] if hits else None

    def _undecided(self, buffer: str) -> int:
        """Length of the longest end of `buffer` that begins a stop string."""
        longest = max(map(len, self._stops), default=1) - 1
        for length in range(min(longest, len(buffer)), 0, -1):
            tail = buffer[len(buffer) - length :]
            if any(stop.startswith(tail) for stop in self._stops):
                return length
        return 0


@dataclass(frozen=True, slots=True)
class Piece:
    """Text that one token released, and whether a stop string ends the stream here."""

    text: str
    stopped: bool


class TextStream:
    """Tokens in, text out. Tokens in `hidden` (end of sequence, stop tokens) have no text."""

    def __init__(self, decoder: Decoder, stops: Sequence[str], hidden: frozenset[int]) -> None:
        self._decoder = decoder
        self._matcher = StopMatcher(stops)
        self._hidden = hidden

    def push(self, token_id: int) -> Piece:
        """The text released with this token."""
        raw = "" if token_id in self._hidden else self._decoder.push(token_id)
        return Piece(self._matcher.push(raw), self._matcher.found)

    def finish(self) -> str:
        """The text that belongs after the last token."""
        return self._matcher.push(self._decoder.flush()) + self._matcher.flush()
