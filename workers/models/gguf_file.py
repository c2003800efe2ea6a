"""Reads a GGUF file's metadata and tensor table; every length is checked.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, versions 2
and 3, little-endian. The `gguf` package reads it too, but takes 1.6 s where this
takes 0.1 s for a vocabulary of 49 152.
"""

import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from .errors import ModelError, ModelFileError

MAGIC = b"GGUF"
VERSIONS = (2, 3)
ALIGNMENT = 32
DIMENSIONS_MAX = 4

_STRING = 8
_ARRAY = 9
_SCALARS = {
    0: "<u1", 1: "<i1", 2: "<u2", 3: "<i2", 4: "<u4", 5: "<i4", 6: "<f4",
    7: "|b1", 10: "<u8", 11: "<i8", 12: "<f8",
}  # fmt: skip

Value = TypeVar("Value", int, float, bool, str)


@dataclass(frozen=True, slots=True, kw_only=True)
class GgufTensor:
    """Where a tensor lies. `shape` is row-major; `offset` is from the file's start."""

    name: str
    shape: tuple[int, ...]
    type_id: int
    offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GgufFile:
    """A GGUF file's head. `data` is the whole file, mapped read-only."""

    path: Path
    metadata: dict[str, object]
    tensors: dict[str, GgufTensor]
    data: mmap.mmap

    def get(self, key: str, kind: type[Value]) -> Value | None:
        """The value of `key`, or None; ModelError if it has another type."""
        value = self.metadata.get(key)
        if value is None:
            return None
        if kind is float and isinstance(value, int):
            return kind(value)
        if not isinstance(value, kind):
            raise ModelError(f"{self.path}: {key} ({value!r}) is not of type {kind.__name__}")
        return value

    def need(self, key: str, kind: type[Value]) -> Value:
        """The value of `key`; ModelFileError if there is none."""
        value = self.get(key, kind)
        if value is None:
            raise ModelFileError(self.path, f"metadata key {key} is missing")
        return value

    def strings(self, key: str) -> list[str]:
        """An array of strings; ModelFileError if there is none."""
        value = self.metadata.get(key)
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise ModelFileError(self.path, f"metadata key {key} is not an array of strings")
        return value

    def numbers(self, key: str) -> NDArray[np.generic] | None:
        """An array of numbers, or None."""
        value = self.metadata.get(key)
        return value if isinstance(value, np.ndarray) else None


def read_gguf(path: Path) -> GgufFile:
    """Map `path` and read its head. Raises ModelFileError naming what is wrong."""
    try:
        with path.open("rb") as file:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except FileNotFoundError:
        raise ModelFileError(path, "no such file") from None
    except (OSError, ValueError) as error:  # mmap refuses an empty file with ValueError
        raise ModelFileError(path, f"cannot be read: {error}") from error
    try:
        return _read_head(path, data)
    except (_PastTheEnd, struct.error):
        size = len(data)
        raise ModelFileError(path, f"truncated: its head reaches past its {size} bytes") from None
    except UnicodeDecodeError as error:
        raise ModelFileError(path, f"corrupt: a string is not UTF-8 ({error.reason})") from None


class _PastTheEnd(Exception):
    """A length in the file reaches beyond the file."""


class _Cursor:
    """A place in the file that only moves forward, and never past its end."""

    def __init__(self, data: mmap.mmap) -> None:
        self.data = data
        self.at = 0

    def skip(self, count: int) -> int:
        """Move by `count` bytes; where they start."""
        start = self.at
        if count < 0 or count > len(self.data) - start:
            raise _PastTheEnd
        self.at = start + count
        return start

    def u32(self) -> int:
        return int(struct.unpack_from("<I", self.data, self.skip(4))[0])

    def u64(self) -> int:
        return int(struct.unpack_from("<Q", self.data, self.skip(8))[0])

    def string(self) -> str:
        start = self.skip(self.u64())
        return self.data[start : self.at].decode()

    def strings(self, count: int) -> list[str]:
        """Many strings; the loop that a vocabulary's loading time consists of."""
        data, at, found = self.data, self.at, []
        unpack, limit = struct.Struct("<Q").unpack_from, len(self.data)
        for _ in range(count):
            start = at + 8
            at = start + unpack(data, at)[0]
            if at > limit:
                raise _PastTheEnd
            found.append(data[start:at].decode())
        self.at = at
        return found

    def numbers(self, type_id: int, count: int) -> NDArray[np.generic]:
        kind = np.dtype(_SCALARS[type_id])
        start = self.skip(kind.itemsize * count)
        return np.frombuffer(self.data[start : self.at], dtype=kind)

    def value(self, path: Path, type_id: int) -> object:
        if type_id == _STRING:
            return self.string()
        if type_id == _ARRAY:
            return self._array(path)
        if type_id not in _SCALARS:
            raise ModelFileError(path, f"corrupt: unknown metadata type {type_id}")
        return self.numbers(type_id, 1)[0].item()

    def _array(self, path: Path) -> object:
        type_id, count = self.u32(), self.u64()
        if type_id == _STRING:
            return self.strings(count)
        if type_id in _SCALARS:
            return self.numbers(type_id, count)
        raise ModelFileError(path, f"arrays of metadata type {type_id} are not supported")


def _read_head(path: Path, data: mmap.mmap) -> GgufFile:
    if data[:4] != MAGIC:
        raise ModelFileError(path, f"not a GGUF file: it begins with {data[:4]!r}, not {MAGIC!r}")
    cursor = _Cursor(data)
    cursor.skip(4)
    version = cursor.u32()
    if version not in VERSIONS:
        raise ModelFileError(path, f"GGUF version {version} is not one of {VERSIONS}")
    tensor_count, key_count = cursor.u64(), cursor.u64()
    metadata: dict[str, object] = {}
    for _ in range(key_count):
        key = cursor.string()
        metadata[key] = cursor.value(path, cursor.u32())
    table = [_read_entry(path, cursor) for _ in range(tensor_count)]
    step = metadata.get("general.alignment", ALIGNMENT)
    if not isinstance(step, int) or step < 1:
        raise ModelFileError(path, f"general.alignment ({step!r}) is not a positive integer")
    base = -(-cursor.at // step) * step
    tensors = {
        name: GgufTensor(name=name, shape=shape, type_id=type_id, offset=base + offset)
        for name, shape, type_id, offset in table
    }
    return GgufFile(path=path, metadata=metadata, tensors=tensors, data=data)


def _read_entry(path: Path, cursor: _Cursor) -> tuple[str, tuple[int, ...], int, int]:
    name, dimensions = cursor.string(), cursor.u32()
    if dimensions > DIMENSIONS_MAX:
        raise ModelFileError(path, f"corrupt: tensor {name!r} has {dimensions} dimensions")
    shape = tuple(cursor.u64() for _ in range(dimensions))[::-1]
    return name, shape, cursor.u32(), cursor.u64()
