"""Reads the CSV files of measured tables: provenance lines, columns, numbers.

    # engine = vllm
    # version = 0.19.0
    prefill_tokens,prefill_context,decodes,decode_context,time_us
    512,0,0,0,18340

Lines that begin with `#` before the header are `key = value` of the provenance.
Everything wrong is refused by file, line and column.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

from .errors import CostError


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """A file: its provenance, and one tuple per row in the order of the asked columns."""

    path: Path
    provenance: dict[str, str]
    numbers: list[tuple[float, ...]]
    texts: list[str]  # the text column, where one was asked


def read_rows(path: Path, columns: Sequence[str], *, text: str | None = None) -> Rows:
    """`columns` as numbers >= 0 and, if asked, one column as text. Raises CostError."""
    lines = _lines(path)
    head = _head(lines)
    provenance = _provenance(path, lines[:head])
    reader = csv.reader(lines[head:])
    header = next(reader, [])
    wanted = [*columns, *([text] if text else [])]
    missing = [name for name in wanted if name not in header]
    if missing:
        raise CostError(f"{path}:{head + 1}: missing column {', '.join(missing)}")
    places = [header.index(name) for name in columns]
    numbers, texts = [], []
    for number, cells in enumerate(reader, start=head + 2):
        if not cells:
            continue
        if len(cells) != len(header):
            raise CostError(f"{path}:{number}: {len(cells)} columns, expected {len(header)}")
        named = zip(columns, (cells[place] for place in places), strict=True)
        numbers.append(tuple(_number(path, number, name, cell) for name, cell in named))
        texts.append(cells[header.index(text)] if text else "")
    if not numbers:
        raise CostError(f"{path}: no rows in it")
    return Rows(path=path, provenance=provenance, numbers=numbers, texts=texts)


def read_provenance(path: Path) -> dict[str, str]:
    """What the lines above the columns say. Raises CostError."""
    lines = _lines(path)
    return _provenance(path, lines[: _head(lines)])


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise CostError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise CostError(f"{path}: invalid UTF-8 at byte {error.start}") from None


def _head(lines: list[str]) -> int:
    """How many lines stand above the columns."""
    return next((n for n, line in enumerate(lines) if not line.startswith("#")), len(lines))


def _provenance(path: Path, head: list[str]) -> dict[str, str]:
    return dict(_pair(path, n, line) for n, line in enumerate(head, start=1))


def _pair(path: Path, number: int, line: str) -> tuple[str, str]:
    key, equals, value = line.lstrip("#").partition("=")
    if not equals:
        raise CostError(f"{path}:{number}: expected `# key = value` above the columns")
    return key.strip(), value.strip()


def _number(path: Path, line: int, name: str, cell: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = -1.0
    if not isfinite(value) or value < 0:
        raise CostError(f"{path}:{line}: {name} is {cell!r}; expected a number >= 0")
    return value
