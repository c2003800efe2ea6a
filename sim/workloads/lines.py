"""A text file line by line, however long it is; what is wrong with one is told by its number."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from ..errors import TraceError

LINE_BYTES_MAX = 1 << 24  # a million tokens of Mooncake's hash_ids are some 15 KB
BOMS = {
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
    b"\x1f\x8b": "packed by gzip",
    b"PK\x03\x04": "packed by zip",
    b"\x28\xb5\x2f\xfd": "packed by zstd",
}
UTF8_BOM = "\ufeff"


@dataclass(frozen=True, slots=True)
class Line:
    """One line, without its end. `whole` is False where the file ends before the line does."""

    path: Path
    number: int
    text: str
    whole: bool

    def refuse(self, why: str) -> TraceError:
        """The error that names this line."""
        cut = "" if self.whole else " (the file ends within this line: is it whole?)"
        return TraceError(f"{self.path}:{self.number}: {why}{cut}")


def lines(path: Path) -> Iterator[Line]:
    """The lines of `path` that are not blank, one at a time. Raises TraceError."""
    try:
        with path.open("rb") as file:
            yield from _decoded(path, file)
    except OSError as error:
        raise TraceError(f"{path}: {error.strerror or error}") from None


def _decoded(path: Path, file: BinaryIO) -> Iterator[Line]:
    number = 0
    while data := file.readline(LINE_BYTES_MAX):
        number += 1
        text = _text(path, number, data)
        if text and not text.isspace():
            yield Line(path, number, text.strip(), data.endswith(b"\n"))


def _text(path: Path, number: int, data: bytes) -> str:
    if number == 1:
        for mark, what in BOMS.items():
            if data.startswith(mark):
                raise TraceError(f"{path}: is {what}; expected plain UTF-8 text")
    if len(data) >= LINE_BYTES_MAX:
        raise TraceError(f"{path}:{number}: the line is longer than {LINE_BYTES_MAX} bytes")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise TraceError(f"{path}:{number}: invalid UTF-8 at byte {error.start}") from None
    return text.removeprefix(UTF8_BOM) if number == 1 else text


def count_of(line: Line, key: str, value: object, *, least: int = 1) -> int:
    """A number of tokens. Raises TraceError."""
    try:
        count = int(value) if isinstance(value, str) else value
    except ValueError:
        count = None
    if not isinstance(count, int) or isinstance(count, bool) or count < least:
        raise line.refuse(f"{key} is {value!r}; expected a whole number >= {least}")
    return count
