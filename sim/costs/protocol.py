"""The seam: what the simulator asks of a cost model."""

from typing import Protocol

from ...proto.batch import Batch
from .work import Work


class CostModel(Protocol):
    """Predicts iterations. The same batch always costs the same."""

    def iteration_ns(self, batch: Batch) -> int:
        """Nanoseconds from the batch's start to its tokens being drawn."""

    def work_ns(self, work: Work) -> int:
        """The same of a batch that was counted already."""

    def describe(self) -> tuple[str, ...]:
        """Where its figures come from, one line each: printed with every result."""
