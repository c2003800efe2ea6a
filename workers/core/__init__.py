"""The pure worker: batching, blocks, prefix cache, a worker's half of every KV move."""

from .core import WorkerCore
from .limits import LimitError, WorkerLimits

__all__ = ["LimitError", "WorkerCore", "WorkerLimits"]
