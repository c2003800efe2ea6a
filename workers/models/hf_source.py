"""Tensors of a Hugging Face folder: one safetensors file, or shards with an index."""

from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from .errors import ModelFileError
from .hf_spec import read_json, spec_of_folder
from .spec import ModelSpec

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"


class HuggingFaceSource:
    """Tensors by name; see `tensor_source.TensorSource`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.spec: ModelSpec = spec_of_folder(path)
        self._file_of = _file_of_tensor(path)

    def files(self) -> Iterator[Path]:
        yield self.path / "config.json"
        yield from sorted(set(self._file_of.values()))

    def find(self, name: str) -> Tensor | None:
        file = self._file_of.get(name)
        if file is None:
            return None
        try:
            with safe_open(str(file), framework="pt") as tensors:
                tensor: Tensor = tensors.get_tensor(name)
                return tensor.to(torch.float32).contiguous()
        except (SafetensorError, OSError) as error:
            raise ModelFileError(file, f"tensor {name}: {error}") from error


def _file_of_tensor(folder: Path) -> dict[str, Path]:
    if (folder / SINGLE).is_file():
        return dict.fromkeys(_names(folder / SINGLE), folder / SINGLE)
    if not (folder / INDEX).is_file():
        raise ModelFileError(folder, f"has neither {SINGLE} nor {INDEX}")
    index = read_json(folder / INDEX).get("weight_map")
    if not isinstance(index, dict):
        raise ModelFileError(folder / INDEX, "has no weight_map")
    files = {folder / str(name) for name in index.values()}
    held = {file: _names(file) for file in sorted(files)}
    for name, file in index.items():
        if name not in held[folder / str(file)]:
            raise ModelFileError(folder / str(file), f"tensor {name} is missing")
    return {str(name): folder / str(file) for name, file in index.items()}


def _names(file: Path) -> frozenset[str]:
    """Opening checks that the header is whole and covers the file exactly."""
    if not file.is_file():
        raise ModelFileError(file, "no such file")
    try:
        with safe_open(str(file), framework="pt") as tensors:
            return frozenset(tensors.keys())
    except (SafetensorError, OSError) as error:
        raise ModelFileError(file, f"truncated or corrupt: {error}") from error
