"""The two halves of a copy, as a pair's thread sees them: begin, post chunks, end."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from .backend import CopyError, Pair, PairBackend, PairError, Pending
from .ending import Ending
from .header import CopyHeader

Payload = Tensor | Callable[[], Tensor]
Into = Callable[[Tensor], None]
# (transfer_bytes, checksum): announce them under the pair's next sequence number.
SendHeader = Callable[[int, int], None]


class Job(Protocol):
    """One half of a copy. Used by the thread of its pair, but for `fail`."""

    def begin(self) -> Tensor:
        """The flat bytes to send or to fill. CopyError spares the pair; all else kills it."""
        ...

    @property
    def chunk_bytes(self) -> int:
        """Size of every chunk but the last."""
        ...

    def post(self, pair: Pair, chunk: Tensor, tag: int) -> Pending:
        """Start a chunk."""
        ...

    def finish(self) -> None:
        """All chunks are through."""
        ...

    def fail(self, reason: str) -> None:
        """It ended before that. Any thread."""
        ...


@dataclass(slots=True, kw_only=True, eq=False)
class Outgoing:
    """The source's half: gather, announce, send."""

    payload: Payload
    send_header: SendHeader
    backend: PairBackend
    chunk_bytes: int
    copy_bytes_max: int
    ending: Ending
    _bytes: int = 0

    def begin(self) -> Tensor:
        """See Job. A payload that cannot be gathered is not announced: the pair stays in step."""
        self.ending.begin()
        staged = self._gather()
        self._bytes = staged.numel()
        if self._bytes > self.copy_bytes_max:
            raise CopyError(f"copy of {self._bytes} exceeds copy_bytes_max ({self.copy_bytes_max})")
        checksum = self.backend.checksum(staged)
        try:
            self.send_header(self._bytes, checksum)
        except Exception as error:
            # Whether the header arrived is unknown, so the sequence is broken.
            raise PairError(f"header not sent: {error}") from error
        return staged

    def post(self, pair: Pair, chunk: Tensor, tag: int) -> Pending:
        """See Job."""
        return pair.send(chunk, tag)

    def finish(self) -> None:
        """See Job."""
        self.ending.succeed(self._bytes)

    def fail(self, reason: str) -> None:
        """See Job."""
        self.ending.fail(reason)

    def _gather(self) -> Tensor:
        try:
            payload = self.payload if isinstance(self.payload, Tensor) else self.payload()
            return self.backend.stage(payload)
        except Exception as error:
            raise CopyError(f"payload not gathered: {error}") from error


@dataclass(slots=True, kw_only=True, eq=False)
class Incoming:
    """The target's half: receive, verify, hand over."""

    header: CopyHeader
    into: Into
    backend: PairBackend
    ending: Ending
    _place: Tensor | None = None

    @property
    def chunk_bytes(self) -> int:
        """From the header: another size than the source's aborts this process (gloo)."""
        return self.header.chunk_bytes

    def begin(self) -> Tensor:
        """See Job."""
        self.ending.begin()
        self._place = self.backend.allocate(self.header.transfer_bytes)
        return self._place

    def post(self, pair: Pair, chunk: Tensor, tag: int) -> Pending:
        """See Job."""
        return pair.recv(chunk, tag)

    def finish(self) -> None:
        """See Job. A wrong checksum costs this copy only: its chunks did come in step."""
        payload, self._place = self._place, None
        assert payload is not None, self.header
        checksum = self.backend.checksum(payload)
        if checksum != self.header.checksum:
            raise CopyError(f"checksum {checksum:016x}, header says {self.header.checksum:016x}")
        try:
            self.into(payload)
        except Exception as error:
            raise CopyError(f"payload not taken: {error}") from error
        self.ending.succeed(self.header.transfer_bytes)

    def fail(self, reason: str) -> None:
        """See Job."""
        self.ending.fail(reason)
