"""Tensor and expert parallelism: what each GPU does, and what the ranks tell each other.

A replica of `tp` GPUs splits heads, MLPs and the head's rows. With `ep` > 1 the
experts are spread whole over `ep` groups of `tp / ep` GPUs instead of being split
over all. After attention and after the MLP the ranks add their partial sums:

    all-reduce (ring)   2 (n-1)/n x bytes per link, latency     [Patarasuk & Yuan 2009]
    all-to-all          (n-1)/n x bytes per link, twice: to the experts and back
"""

from dataclasses import dataclass

from .errors import CostError


@dataclass(frozen=True, slots=True, kw_only=True)
class Parallel:
    """`tp` GPUs of one replica; `ep` of them own different experts."""

    tp: int = 1
    ep: int = 1

    def __post_init__(self) -> None:
        if self.tp < 1 or self.ep < 1 or self.tp % self.ep:
            raise CostError(f"ep ({self.ep}) must divide tp ({self.tp}), both at least 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Links:
    """Between the GPUs of one replica: reached bytes/s one way, and seconds per message."""

    bytes_per_s: float
    latency_s: float

    def all_reduce_s(self, ranks: int, payload_bytes: float) -> float:
        """A ring all-reduce of `payload_bytes`; small ones go in one shot, one latency."""
        if ranks == 1:
            return 0.0
        ring = 2 * (ranks - 1) / ranks * payload_bytes / self.bytes_per_s
        shot = (ranks - 1) * payload_bytes / self.bytes_per_s
        return self.latency_s + min(shot, ring + (ranks - 2) * self.latency_s / 8)

    def all_to_all_s(self, ranks: int, sent_bytes: float) -> float:
        """Each rank sends `sent_bytes`, spread over all of them, itself included."""
        if ranks == 1:
            return 0.0
        return self.latency_s + (ranks - 1) / ranks * sent_bytes / self.bytes_per_s
