"""Dequantized, packed weights in a file that every process maps.

    header  64 bytes: magic, version, place and hash of the table, file length
    tensors each aligned to 64 bytes
    table   JSON: name, shape, type and place of every tensor

A file is written under a temporary name, synced, and then renamed into place;
its header is written last. So a name that exists is whole, whoever wrote it and
whatever crashed meanwhile, and concurrent writers replace it by equal bytes.
What nevertheless fails the checks is written anew.
"""

import json
import logging
import os
import struct
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor
from xxhash import xxh3_64_intdigest

from ...kernels.seam import PackedWeight
from .decoder_weights import Weight

log = logging.getLogger(__name__)

MAGIC = b"SPLWEAVE"
VERSION = 1
ALIGNMENT = 64
_HEADER = struct.Struct("<8sQQQQQ")  # magic, version, table at, table bytes, table hash, length
_TYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16,
          "int8": torch.int8, "uint8": torch.uint8, "int32": torch.int32}  # fmt: skip


def cache_folder() -> Path:
    """`splitweave` in the user's cache folder (XDG_CACHE_HOME, else ~/.cache)."""
    given = os.environ.get("XDG_CACHE_HOME", "")
    base = Path(given) if given.startswith("/") else Path.home() / ".cache"
    return base / "splitweave"


def store(path: Path, weights: Iterable[tuple[str, Weight]]) -> None:
    """Write `weights` to `path`, whole or not at all. Raises OSError (no space, …)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            _write(file, weights)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    finally:
        Path(temporary).unlink(missing_ok=True)
    _sync_folder(path.parent)


def load(path: Path) -> dict[str, Weight] | None:
    """The weights, mapped copy-on-write: processes share the memory, none can
    change the file. None if there is no whole file of this version.
    """
    try:
        with path.open("rb") as file:
            table = _read_table(file)
        if table is None:
            log.warning("weights cache file=%s state=broken action=rewrite", path)
            return None
        mapped = np.memmap(path, dtype=np.uint8, mode="c")
    except FileNotFoundError:
        return None
    except OSError as error:
        log.warning("weights cache file=%s error=%s", path, error)
        return None
    return {entry["name"]: _view(mapped, entry) for entry in table}


def _write(file: BinaryIO, weights: Iterable[tuple[str, Weight]]) -> None:
    file.write(bytes(_HEADER.size))
    table = []
    for name, weight in weights:
        packed = isinstance(weight, PackedWeight)
        tensor = (weight.data if isinstance(weight, PackedWeight) else weight).contiguous()
        at = _align(file)
        file.write(tensor.view(torch.uint8).numpy().data)
        entry: dict[str, Any] = {"name": name, "at": at, "shape": list(tensor.shape)}
        entry["type"] = str(tensor.dtype).removeprefix("torch.")
        if packed:
            assert isinstance(weight, PackedWeight)
            entry["packed"] = [weight.in_features, weight.out_features]
        table.append(entry)
    encoded = json.dumps(table).encode()
    at = _align(file)
    file.write(encoded)
    length = file.tell()
    file.seek(0)
    digest = xxh3_64_intdigest(encoded)
    file.write(_HEADER.pack(MAGIC, VERSION, at, len(encoded), digest, length))


def _align(file: BinaryIO) -> int:
    at = file.tell()
    padding = -at % ALIGNMENT
    file.write(bytes(padding))
    return at + padding


def _read_table(file: BinaryIO) -> list[dict[str, Any]] | None:
    header = file.read(_HEADER.size)
    if len(header) < _HEADER.size:
        return None
    magic, version, at, size, digest, length = _HEADER.unpack(header)
    if magic != MAGIC or version != VERSION or os.fstat(file.fileno()).st_size != length:
        return None
    file.seek(at)
    encoded = file.read(size)
    if xxh3_64_intdigest(encoded) != digest:
        return None
    table: list[dict[str, Any]] = json.loads(encoded)
    return table


def _view(mapped: Any, entry: dict[str, Any]) -> Weight:
    dtype = _TYPES[entry["type"]]
    shape = tuple(entry["shape"])
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    raw = torch.from_numpy(np.asarray(mapped[entry["at"] : entry["at"] + size]))
    tensor: Tensor = raw.view(dtype).view(shape)
    if "packed" not in entry:
        return tensor
    in_features, out_features = entry["packed"]
    return PackedWeight(data=tensor, in_features=in_features, out_features=out_features)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
