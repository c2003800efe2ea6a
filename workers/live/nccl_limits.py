"""Every bound of the NCCL backend, by name."""

from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True, kw_only=True)
class NcclLimits:
    """Bounds of one process's NCCL pairs.

    pairs_max           communicators at once, both directions together; each takes
                        50-100 MB of GPU memory
    ctas_max            blocks of threads (so channels) of one communicator; copies need
                        few, and what they take the model's kernels do not have
    group_max           operations of one launch; more than 256 have hung
    queue_len_max       operations that wait for the dispatcher
    open_stuck_s        a communicator that does not open in that time never will
    linger_s            an idle pair that is closed keeps its communicator so long: what has
                        left this GPU may still be on its way, and an abort would lose it
    abort_stuck_s       an abort that does not return in that time never will: the worker
                        must start again
    """

    pairs_max: int = 16
    ctas_max: int = 4
    group_max: int = 64
    queue_len_max: int = 4096
    open_stuck_s: float = 30.0
    linger_s: float = 0.5
    abort_stuck_s: float = 10.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value <= 0:
                raise ValueError(f"{field.name} ({value}) must be above 0")
        if self.pairs_max < 2:
            raise ValueError(f"pairs_max ({self.pairs_max}) is below 2, one for each direction")
        if self.group_max > 64:
            raise ValueError(f"group_max ({self.group_max}) exceeds 64")

    @property
    def pairs_per_direction(self) -> int:
        """What the transport may keep open to send, and again to receive."""
        return self.pairs_max // 2
