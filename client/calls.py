"""The calls with one reply, as data: what to send, how to read the answer."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from ..proto import admin_pb2 as admin
from ..proto import inference_pb2 as inference
from . import results, status
from .ask import fill
from .errors import InvalidRequest, NotFound, SplitweaveError, Violation
from .retry import Retry, RetryPolicy
from .status import ROLE_OF, ROLES, Role

Result = TypeVar("Result")
TIMEOUT_S = 60.0  # of a call with one reply, unless the client has another
ONE_TRY = RetryPolicy(tries_max=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Call(Generic[Result]):
    """One call. `method` is the stub's attribute, `policy` overrides the client's."""

    service: str  # "Inference" or "Admin"
    method: str
    request: Any
    read: Callable[[Any], Result]
    policy: RetryPolicy | None = None
    timeout_s: float | None = TIMEOUT_S


class CallMachine:
    """The tries of one call. A gateway that does not know the request passes it on."""

    def __init__(self, retry: Retry, addresses: int) -> None:
        self._retry = retry
        self._unasked = addresses - 1

    @property
    def retry(self) -> Retry:
        """The tries so far."""
        return self._retry

    def failed(self, error: SplitweaveError, now_s: float) -> float:
        """Seconds to wait before the next try; raises `error` if it is final."""
        if isinstance(error, NotFound) and self._unasked > 0:
            self._unasked -= 1
            self._retry.retries += 1  # the next address
            return 0.0
        return self._retry.failed(error, now_s)


def cancel(request_id: str) -> Call[None]:
    """Ends a request wherever it is."""
    message = _message(inference.CancelRequest(), request_id=request_id)
    return Call(service="Inference", method="Cancel", request=message, read=lambda _: None)


def cluster_status() -> Call[status.ClusterStatus]:
    """Workers, requests and moves."""
    message = admin.StatusRequest()
    return Call(service="Admin", method="Status", request=message, read=status.cluster_status)


def trace(request_id: str) -> Call[status.RequestTrace]:
    """One request and its moves."""
    message = _message(admin.TraceRequest(), request_id=request_id)
    return Call(service="Admin", method="Trace", request=message, read=status.request_trace)


def metrics() -> Call[str]:
    """The controller's counters."""
    return Call(
        service="Admin",
        method="Metrics",
        request=admin.MetricsRequest(),
        read=lambda reply: str(reply.text),
    )


def drain(worker_id: str, deadline_s: float | None) -> Call[int]:
    """Empties a worker; reads how many requests had to leave."""
    message = _message(admin.DrainRequest(), worker_id=worker_id, deadline_s=deadline_s)
    return Call(
        service="Admin",
        method="Drain",
        request=message,
        read=lambda reply: int(reply.requests),
        timeout_s=None,
    )


def migrate(request_id: str, target_worker_id: str | None) -> Call[results.Move]:
    """Moves a running request. Tried once: a second try would move it again."""
    message = _message(
        admin.MigrateRequest(), request_id=request_id, target_worker_id=target_worker_id
    )
    return Call(
        service="Admin",
        method="Migrate",
        request=message,
        read=lambda reply: results.move(reply.move),
        policy=ONE_TRY,
    )


def set_role(worker_id: str, role: Role | str) -> Call[Role]:
    """Gives a worker another role; reads the one before."""
    if role not in list(Role):
        problem = f"is {role!r}; one of {', '.join(Role)}"
        raise InvalidRequest(f"role: {problem}", (Violation("role", problem),))
    message = _message(admin.SetRoleRequest(), worker_id=worker_id, role=ROLES[Role(role)])
    return Call(
        service="Admin",
        method="SetRole",
        request=message,
        read=lambda reply: ROLE_OF.get(reply.previous, Role.MIXED),
    )


def _message(message: Any, **fields: Any) -> Any:
    """`message` with those fields set that are given. Raises InvalidRequest."""
    for name, value in fields.items():
        if value is not None:
            fill(message, name, value, name)
    return message
