"""Recordings of a live core: every event with its time, for replay."""

from pathlib import Path

from .core_shell import Recorder


def open_recorder(folder: str, name: str) -> Recorder | None:
    """A recorder writing `folder`/`name`.jsonl; None if `folder` is empty."""
    if not folder:
        return None
    from ...proto.record import FileRecorder

    return FileRecorder(Path(folder) / f"{name.replace('/', '-')}.jsonl")
