"""What can be wrong with a model, as one tree of exceptions.

    ModelError              (a ValueError: an operator can mend it)
    ├── ModelFileError      a file is missing, truncated or corrupt
    ├── UnsupportedModel    the model is whole, but not one of ours
    └── ChatTemplateError   no template, or the template refuses the messages

Every message names the file or key, the value, and what would be accepted.
"""

from pathlib import Path


class ModelError(ValueError):
    """The model cannot be used as asked."""


class ModelFileError(ModelError):
    """A file of the model is missing, truncated or corrupt."""

    def __init__(self, path: Path, wrong: str) -> None:
        super().__init__(f"{path}: {wrong}")
        self.path = path
        self.wrong = wrong

    def __reduce__(self) -> tuple[type["ModelFileError"], tuple[Path, str]]:
        return type(self), (self.path, self.wrong)


class UnsupportedModel(ModelError):
    """The model is whole, but asks for something that is not implemented."""


class ChatTemplateError(ModelError):
    """There is no chat template, or it refuses these messages."""
