"""Payloads and landings that are one tensor, as tests use them."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


class FlatPayload:
    """Bytes of a tensor, or of what `make` gives when its turn comes."""

    def __init__(self, tensor: Tensor | None = None, make: Any = None, size: int = 0) -> None:
        self._tensor = None if tensor is None else flat(tensor)
        self._make: Callable[[], Tensor] = make
        self.size_bytes = size if self._tensor is None else self._tensor.numel()

    def gather(self, start: int, into: Tensor) -> None:
        if self._tensor is None:
            self._tensor = flat(self._make())
        into.copy_(self._tensor[start : start + into.numel()])


class FlatLanding:
    """Collects the bytes; `before` is called with each piece and may raise."""

    def __init__(self, size: int, before: Callable[[Tensor], Any] = lambda piece: None) -> None:
        self.tensor = torch.zeros(min(size, 1 << 30), dtype=torch.uint8)
        self.size_bytes = size
        self._before = before

    def scatter(self, start: int, piece: Tensor) -> None:
        self._before(piece)
        self.tensor[start : start + piece.numel()] = piece


def flat(tensor: Tensor) -> Tensor:
    return tensor.contiguous().reshape(-1).view(torch.uint8)
