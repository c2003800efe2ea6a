"""The seam: what the simulator asks of a cost model."""

from typing import Protocol

from ...proto.batch import Batch


class CostModel(Protocol):
    """Predicts iterations. The same batch always costs the same."""

    def iteration_ns(self, batch: Batch) -> int:
        """Nanoseconds from the batch's start to its tokens being drawn."""

    def describe(self) -> tuple[str, ...]:
        """Where its figures come from, one line each: printed with every result."""
