"""What every core of a world was told and did, as digests or on disk.

Two runs are the same run if the digests of all their cores are equal. A core
is one life of a party: `worker/w0#2`, `controller#1`, `gateway/g0`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from xxhash import xxh3_128

from ..proto.record import Digest, FileRecorder


class Transcript:
    """Digests per core; with `folder`, a recording per core as well."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._digests: dict[str, Digest] = {}
        self._files: dict[str, FileRecorder] = {}

    def record(self, core: str, now_ns: int, event: Any, effects: Sequence[Any]) -> None:
        """Take one step of `core` in."""
        self._digests.setdefault(core, Digest()).record(now_ns, event, effects)
        if self._folder is not None:
            if core not in self._files:
                name = core.replace("/", "-") + ".jsonl"
                self._files[core] = FileRecorder(self._folder / name)
            self._files[core].record(now_ns, event, effects)

    def digests(self) -> dict[str, str]:
        """Per core, in order of first step."""
        return {core: digest.hexdigest() for core, digest in self._digests.items()}

    def steps(self) -> dict[str, int]:
        """Steps taken, per core."""
        return {core: digest.steps for core, digest in self._digests.items()}

    def digest(self) -> str:
        """One digest of the whole world; the order in which cores came up is no part of it."""
        whole = xxh3_128()
        for core in sorted(self._digests):
            whole.update(f"{core} {self._digests[core].hexdigest()}\n".encode())
        return whole.hexdigest()

    def close(self) -> None:
        """Close every recording."""
        for file in self._files.values():
            file.close()
