"""How copies lie on the wire: each is padded and followed by its `done` marker.

A parcel is a few copies announced by one header. Its bytes are cut into
messages of `chunk_bytes`, all but the last full:

    copy 0        pad marker copy 1  pad marker ...
    |----------------|----------------|--------|      messages

A marker holds the checksum of its copy and the copy's number in the pair, so
that bytes that are not the announced ones are noticed. Everything is aligned
to 16 bytes; a marker never straddles two messages.
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

ALIGN_BYTES = 16
MARKER = struct.Struct("<QQ")
assert MARKER.size == ALIGN_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """Bytes [first, last) of a copy's frame, at `at` of the message that carries them."""

    copy: int
    first: int
    last: int
    at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One send and one receive; the `last` of its parcel or not."""

    size_bytes: int
    pieces: tuple[Piece, ...]
    last: bool


def padded(size_bytes: int) -> int:
    """Up to the next multiple of 16."""
    return -(-size_bytes // ALIGN_BYTES) * ALIGN_BYTES


def frame_bytes(size_bytes: int) -> int:
    """A copy's bytes on the wire: padding and marker included."""
    return padded(size_bytes) + MARKER.size


def messages(sizes: Sequence[int], chunk_bytes: int) -> Iterator[Message]:
    """The messages of a parcel whose copies have `sizes`. `chunk_bytes` is a multiple of 16."""
    assert chunk_bytes > 0, chunk_bytes
    assert chunk_bytes % ALIGN_BYTES == 0, chunk_bytes
    left = sum(frame_bytes(size) for size in sizes)
    pieces: list[Piece] = []
    filled = 0
    for copy, size in enumerate(sizes):
        first, end = 0, frame_bytes(size)
        while first < end:
            last = min(end, first + chunk_bytes - filled)
            pieces.append(Piece(copy=copy, first=first, last=last, at=filled))
            filled, left, first = filled + last - first, left - (last - first), last
            if filled == chunk_bytes or not left:
                yield Message(size_bytes=filled, pieces=tuple(pieces), last=not left)
                pieces, filled = [], 0


def marker(checksum: int, number: int, *, whole: bool) -> bytes:
    """The end of a copy; not `whole` if its source could not read it."""
    return MARKER.pack(checksum, number << 1 | whole)


def unmarked(data: bytes, checksum: int, number: int) -> str:
    """Why a copy that ended with marker `data` is not the one that was sent; empty if it is."""
    sent_checksum, word = MARKER.unpack(data)
    if word >> 1 != number:
        return f"marker of copy {word >> 1} where that of copy {number} belongs"
    if not word & 1:
        return "its source could not read it"
    if sent_checksum != checksum:
        return f"checksum {checksum:016x}, its marker says {sent_checksum:016x}"
    return ""
