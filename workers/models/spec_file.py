"""Finds a model's spec, whichever way it is stored. Needs neither torch nor Ray."""

from pathlib import Path

from .gguf_file import read_gguf
from .gguf_spec import spec_of_gguf
from .hf_spec import spec_of_folder
from .spec import ModelSpec


def read_spec(path: Path) -> ModelSpec:
    """The spec of a GGUF file or a Hugging Face folder.

    Raises ModelFileError if a file is missing or broken, UnsupportedModel if the
    model is none of ours.
    """
    return spec_of_folder(path) if path.is_dir() else spec_of_gguf(read_gguf(path))
