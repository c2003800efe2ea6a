"""Where a model's tensors come from, whatever the file format.

Tensors are asked for by their Hugging Face names and come as float32, row
major, one at a time, so that loading never holds two copies of a model.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from torch import Tensor

from .errors import ModelFileError
from .spec import ModelSpec


class TensorSource(Protocol):
    """The tensors of one model."""

    @property
    def path(self) -> Path: ...

    @property
    def spec(self) -> ModelSpec: ...

    def files(self) -> Iterator[Path]:
        """Every file that the tensors depend on, in a fixed order."""
        ...

    def find(self, name: str) -> Tensor | None:
        """The tensor as float32, or None if the model has none of that name.

        Raises ModelFileError if it is there but truncated or corrupt.
        """
        ...


def need(source: TensorSource, name: str, shape: tuple[int, ...]) -> Tensor:
    """The tensor; ModelFileError if it is missing or has another shape."""
    tensor = source.find(name)
    if tensor is None:
        raise ModelFileError(source.path, f"tensor {name} is missing")
    if tuple(tensor.shape) != shape:
        raise ModelFileError(
            source.path, f"tensor {name} has shape {tuple(tensor.shape)}, expected {shape}"
        )
    return tensor


def open_source(path: Path) -> TensorSource:
    """A GGUF file's or a Hugging Face folder's tensors. Raises ModelError."""
    if path.is_dir():
        from .hf_source import HuggingFaceSource

        return HuggingFaceSource(path)
    from .gguf_source import GgufSource

    return GgufSource(path)
