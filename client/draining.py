"""Drains with a report: what to ask for, and how far they are. Frozen values."""

from dataclasses import dataclass
from typing import TypedDict

from ..proto import admin_pb2 as pb
from .ask import fill
from .calls import Call
from .errors import InvalidRequest, Violation

WHICH = ("worker_id", "node", "pool", "all")


class DrainOptions(TypedDict, total=False):
    """What to drain, one of the first four; and how. What is left out is the server's default."""

    worker_id: str
    node: str  # every worker there, as `status` names it
    pool: str
    all: bool  # every worker; only with restart
    deadline_s: float  # for each worker's requests to leave
    restart: bool  # each comes back as a new incarnation; one worker after the other
    recompute: bool  # at the deadline, what is left is computed again elsewhere


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerDrain:
    """One worker on its way out."""

    worker_id: str
    state: str  # waiting, draining, empty, restarting, restarted or failed
    requests: int  # that were there when it began
    left: int  # that are there now
    moved: int
    transfer_bytes: int
    recomputed: int
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainProgress:
    """All that are meant, in the order in which they leave."""

    workers: tuple[WorkerDrain, ...]


def drain_workers(options: DrainOptions) -> Call[DrainProgress]:
    """The call, whose replies are a stream. Raises InvalidRequest, TypeError."""
    unknown = sorted(set(options) - set(DrainOptions.__annotations__))
    if unknown:
        known = ", ".join(DrainOptions.__annotations__)
        raise TypeError(f"unknown option {unknown[0]!r}; the options are {known}")
    given = [name for name in WHICH if options.get(name)]
    if len(given) != 1:
        problem = f"give one of {', '.join(WHICH)}; there is {', '.join(given) or 'none'}"
        raise InvalidRequest(f"drain: {problem}", (Violation("which", problem),))
    message = pb.DrainWorkersRequest()
    for name, value in options.items():
        if name in given or name not in WHICH:
            fill(message, name, value, name)
    return Call(
        service="Admin", method="DrainWorkers", request=message, read=_progress, timeout_s=None
    )


def _progress(message: pb.DrainProgress) -> DrainProgress:
    return DrainProgress(workers=tuple(_worker(item) for item in message.workers))


def _worker(message: pb.WorkerDrain) -> WorkerDrain:
    return WorkerDrain(
        worker_id=message.worker_id,
        state=message.state,
        requests=message.requests,
        left=message.left,
        moved=message.moved,
        transfer_bytes=message.transfer_bytes,
        recomputed=message.recomputed,
        error=message.error,
    )
