"""What a worker is constructed with."""

from dataclasses import dataclass

from ...proto.ids import WorkerId
from ...proto.views import Role
from ..core.limits import WorkerLimits
from .nccl_limits import NcclLimits

__all__ = ["NcclLimits", "WorkerLimits", "WorkerSetup"]


@dataclass(frozen=True, kw_only=True)
class WorkerSetup:
    """All a worker needs to start, and to start again."""

    namespace: str
    worker_id: WorkerId
    peers: tuple[WorkerId, ...]  # the other workers there may be
    pool: str
    role: Role
    limits: WorkerLimits
    model_path: str
    context_tokens_max: int
    device: str
    threads: int
    blocks: int
    host_blocks: int
    block_tokens: int
    record: str
    same_host: str = "auto"  # or "network"
    nccl: NcclLimits = NcclLimits()
