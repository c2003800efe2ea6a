"""Recordings of a core: what went in, when, and a digest of what came out.

One JSON line per step: {"now_ns": …, "event": …, "effects": "<digest>"}. A
recording replayed through a fresh core of the same construction gives the same
effects, whoever drove it first: the live shell or the simulator.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TextIO

from xxhash import xxh3_128

from .codec import CodecError, decode, encode

_text = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode


class Core(Protocol):
    """Any of the three cores."""

    def step(self, event: Any, now_ns: int) -> Sequence[Any]: ...


class RecordingError(ValueError):
    """A recording that cannot be read: file, line, reason."""


class ReplayDiffers(AssertionError):
    """A replayed core did not do what the recording says."""


class Step(NamedTuple):
    """One line of a recording."""

    now_ns: int
    event: Any
    effects: str  # digest of the effects


class Digest:
    """The running digest of one core's steps."""

    def __init__(self) -> None:
        self._hash = xxh3_128()
        self.steps = 0

    def record(self, now_ns: int, event: Any, effects: Sequence[Any]) -> None:
        """Take one step in."""
        self.steps += 1
        step = [now_ns, encode(event), [encode(effect) for effect in effects]]
        self._hash.update(_text(step).encode())

    def hexdigest(self) -> str:
        return self._hash.hexdigest()


class FileRecorder:
    """Writes the steps of one core to `path`; flushed line by line."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file: TextIO = path.open("w", encoding="utf-8", buffering=1)

    def record(self, now_ns: int, event: Any, effects: Sequence[Any]) -> None:
        """Write one step."""
        step = {"now_ns": now_ns, "event": encode(event), "effects": effects_digest(effects)}
        self._file.write(_text(step) + "\n")

    def close(self) -> None:
        self._file.close()


def effects_digest(effects: Sequence[Any]) -> str:
    """A short digest of one step's effects."""
    return xxh3_128(_text([encode(effect) for effect in effects]).encode()).hexdigest()


def read_steps(path: Path) -> Iterator[Step]:
    """The steps of a recording; a last line cut short by a crash is left out."""
    with path.open("rb") as file:  # bytes: a cut may fall inside a character
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                return
            try:
                step = _step(json.loads(line.decode()))
            except ValueError as error:  # not UTF-8, not JSON, none of our words
                raise RecordingError(f"{path}:{number}: {error}") from None
            yield step


def _step(row: Any) -> Step:
    if not isinstance(row, dict) or row.keys() != {"now_ns", "event", "effects"}:
        raise CodecError(f"expected an object with now_ns, event and effects, got {str(row)[:80]}")
    now_ns, effects = row["now_ns"], row["effects"]
    if type(now_ns) is not int or type(effects) is not str:
        raise CodecError(f"now_ns is {now_ns!r:.40}, effects {effects!r:.40}; an int and a text")
    return Step(now_ns, decode(row["event"]), effects)


def replay(path: Path, core: Core) -> str:
    """Step a fresh `core` through a recording; the digest of the whole.

    Raises ReplayDiffers at the first step whose effects are not the recorded
    ones, and RecordingError.
    """
    digest = Digest()
    for number, step in enumerate(read_steps(path), start=1):
        effects = core.step(step.event, step.now_ns)
        if effects_digest(effects) != step.effects:
            raise ReplayDiffers(
                f"{path}:{number}: other effects than recorded for {step.event!r}: {effects!r}"
            )
        digest.record(step.now_ns, step.event, effects)
    return digest.hexdigest()
