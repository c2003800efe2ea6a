"""A run's journal: one JSON object a line, written as it happens, so a cut run still counts."""

import json
import time
from pathlib import Path
from typing import Any

Line = dict[str, Any]


class Journal:
    """Appends lines, each with its `kind` and `at_s` since the run began."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._file = path.open("w", encoding="utf-8")
        self._began_s = time.monotonic()

    @property
    def now_s(self) -> float:
        """Seconds since the run began."""
        return time.monotonic() - self._began_s

    def write(self, kind: str, **fields: Any) -> None:
        """One line, on disk at once."""
        line = {"kind": kind, "at_s": round(self.now_s, 3), **fields}
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def read_lines(path: Path) -> list[Line]:
    """The lines of a journal; a last one that was cut is left out."""
    lines = []
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            break
    return lines
