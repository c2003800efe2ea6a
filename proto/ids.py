"""Names of things. `(worker_id, incarnation)` names one life of a worker."""

from dataclasses import dataclass
from typing import NewType

WorkerId = NewType("WorkerId", str)
GatewayId = NewType("GatewayId", str)
RequestId = NewType("RequestId", str)
MoveId = NewType("MoveId", str)
Incarnation = NewType("Incarnation", int)
BlockId = NewType("BlockId", int)
HostBlockId = NewType("HostBlockId", int)
HostCopyId = NewType("HostCopyId", str)
PrefixHash = NewType("PrefixHash", int)


@dataclass(frozen=True, slots=True, order=True)
class WorkerKey:
    """One life of a worker. A restart keeps `worker_id` and raises `incarnation`."""

    worker_id: WorkerId
    incarnation: Incarnation

    def __hash__(self) -> int:
        # Keys are looked up all the time, and a string knows its hash.
        return hash(self.worker_id) + self.incarnation

    def covers(self, other: "WorkerKey") -> bool:
        """Whether `other` is this life of the worker or an earlier one."""
        return self.worker_id == other.worker_id and self.incarnation >= other.incarnation

    def __str__(self) -> str:
        return f"{self.worker_id}#{self.incarnation}"


@dataclass(frozen=True, slots=True, order=True)
class Epoch:
    """Who may speak for a request: the attempt, then the moves committed in it.

    Everything a worker says of a request carries its epoch; a gateway drops
    whatever is older than the newest it has seen.
    """

    attempt: int
    hop: int = 0
