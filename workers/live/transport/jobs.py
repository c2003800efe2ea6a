"""The two halves of a parcel, as a pair's thread sees them: begin, messages, end."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from ....proto.move import Copy
from .backend import Checksum, Pair, PairError, Pending
from .ending import Ending
from .framing import MARKER, Message, Piece, frame_bytes, marker, messages, padded, unmarked
from .header import ParcelHeader
from .payload import UNFIT, Landing, Payload

# Sends the header of these copies; OSError if it cannot.
SendHeader = Callable[[Sequence["Outgoing"]], ParcelHeader]


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """A message in its place; `number` counts the pair's messages."""

    message: Message
    place: Tensor
    number: int


class Job(Protocol):
    """One half of a parcel. Used by the thread of its pair, but for `fail`."""

    def begin(self) -> None:
        """Before the first message is posted. PairError if it cannot."""
        ...

    def messages(self) -> Iterator[Message]:
        """In the order of their bytes."""
        ...

    def post(self, pair: Pair, slot: Slot) -> Pending:
        """Start a message; a source fills its place first."""
        ...

    def through(self, slot: Slot) -> None:
        """The message has left, or has come. Copies that it completes end here."""
        ...

    def fail(self, reason: str) -> None:
        """Copies that have not ended do so. Any thread."""
        ...


@dataclass(slots=True, kw_only=True, eq=False)
class Outgoing:
    """One copy at its source."""

    copy: Copy
    payload: Payload
    ending: Ending
    checksum: Checksum
    error: str = ""

    @property
    def size_bytes(self) -> int:
        """Of the payload."""
        return self.payload.size_bytes

    def fill(self, piece: Piece, place: Tensor, number: int) -> None:
        """Write bytes [first, last) of the frame. A payload that cannot be gathered is
        marked so: what was announced is sent all the same, and the pair stays in step.
        """
        size = self.size_bytes
        last = min(piece.last, size)
        if piece.first < last:
            self._gather(piece.first, place[: last - piece.first])
        if piece.last > last:
            place[max(0, size - piece.first) : padded(size) - piece.first] = 0
        if piece.last == frame_bytes(size):
            done = marker(self.checksum.digest(), number, whole=not self.error)
            place[-MARKER.size :] = torch.frombuffer(bytearray(done), dtype=torch.uint8)

    def _gather(self, first: int, place: Tensor) -> None:
        if not self.error:
            try:
                self.payload.gather(first, place)
                self.checksum.update(place)
            except UNFIT as error:
                self.error = f"payload not gathered: {error}"

    def end(self) -> None:
        """Its last byte has left."""
        if self.error:
            self.ending.fail(self.error)
        else:
            self.ending.succeed(self.size_bytes)


@dataclass(slots=True, kw_only=True, eq=False)
class OutParcel:
    """The source's half: announce, gather, send."""

    copies: Sequence[Outgoing]
    send_header: SendHeader
    header: ParcelHeader | None = None

    def begin(self) -> None:
        """See Job."""
        for copy in self.copies:
            copy.ending.begin()
        try:
            self.header = self.send_header(self.copies)
        except OSError as error:
            # Whether the header arrived is unknown, so the sequence is broken.
            raise PairError(f"header not sent: {error}") from error

    def messages(self) -> Iterator[Message]:
        """See Job."""
        assert self.header is not None, self
        return cut(self.header)

    def post(self, pair: Pair, slot: Slot) -> Pending:
        """See Job."""
        assert self.header is not None, self
        for piece in slot.message.pieces:
            self.copies[piece.copy].fill(
                piece, part(slot.place, piece), self.header.first_number + piece.copy
            )
        return pair.send(slot.place, slot.number)

    def through(self, slot: Slot) -> None:
        """See Job."""
        for piece in slot.message.pieces:
            copy = self.copies[piece.copy]
            if piece.last == frame_bytes(copy.size_bytes):
                copy.end()

    def fail(self, reason: str) -> None:
        """See Job."""
        for copy in self.copies:
            copy.ending.fail(reason)


@dataclass(slots=True, kw_only=True, eq=False)
class Incoming:
    """One copy at its target. `size_bytes` is the header's; the landing may think otherwise."""

    size_bytes: int
    landing: Landing
    ending: Ending
    checksum: Checksum
    error: str = ""

    def take(self, piece: Piece, place: Tensor, number: int) -> None:
        """Take bytes [first, last) of the frame. What goes wrong costs this copy only: its
        bytes did come in step.
        """
        last = min(piece.last, self.size_bytes)
        if piece.first < last:
            self._scatter(piece.first, place[: last - piece.first])
        if piece.last == frame_bytes(self.size_bytes):
            self._verify(bytes(place[-MARKER.size :].tolist()), number)

    def _scatter(self, first: int, place: Tensor) -> None:
        if self.landing.size_bytes != self.size_bytes:
            self.error = (
                f"{self.size_bytes} bytes were announced for a place of {self.landing.size_bytes}"
            )
        if not self.error:
            try:
                self.checksum.update(place)
                self.landing.scatter(first, place)
            except UNFIT as error:
                self.error = f"payload not taken: {error}"

    def _verify(self, done: bytes, number: int) -> None:
        if error := self.error or unmarked(done, self.checksum.digest(), number):
            self.ending.fail(error)
        else:
            self.ending.succeed(self.size_bytes)


@dataclass(slots=True, kw_only=True, eq=False)
class InParcel:
    """The target's half: receive, scatter, verify."""

    header: ParcelHeader
    copies: Sequence[Incoming] = field(default_factory=tuple)

    def begin(self) -> None:
        """See Job."""
        for copy in self.copies:
            copy.ending.begin()

    def messages(self) -> Iterator[Message]:
        """See Job. Sizes from the header: others than the source's abort this process (gloo)."""
        return cut(self.header)

    def post(self, pair: Pair, slot: Slot) -> Pending:
        """See Job."""
        return pair.recv(slot.place, slot.number)

    def through(self, slot: Slot) -> None:
        """See Job."""
        for piece in slot.message.pieces:
            self.copies[piece.copy].take(
                piece, part(slot.place, piece), self.header.first_number + piece.copy
            )

    def fail(self, reason: str) -> None:
        """See Job."""
        for copy in self.copies:
            copy.ending.fail(reason)


def cut(header: ParcelHeader) -> Iterator[Message]:
    """The messages that a header stands for."""
    return messages([copy.transfer_bytes for copy in header.copies], header.chunk_bytes)


def part(place: Tensor, piece: Piece) -> Tensor:
    """A piece's bytes in its message."""
    return place[piece.at : piece.at + piece.last - piece.first]
