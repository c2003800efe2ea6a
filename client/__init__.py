"""The SDK: `Client` and `AsyncClient`. It needs grpcio and protobuf, nothing else.

    from splitweave import Client

    with Client("127.0.0.1:7070") as client:
        print(client.generate("The capital of France is", max_tokens=8).text)
        for delta in client.stream([{"role": "user", "content": "Hi!"}], temperature=0.7):
            print(delta.text, end="", flush=True)

A stream survives the loss of its gateway: it goes on at another address, or at
the same one when it is back, without a token lost or repeated.
"""

from .aio import AsyncClient, AsyncStream
from .ask import Message, Options, Prompt
from .draining import DrainOptions, DrainProgress, WorkerDrain
from .errors import (
    Cancelled,
    DeadlineExceeded,
    Denied,
    InvalidRequest,
    NotFound,
    Overloaded,
    Refused,
    ServerError,
    SplitweaveError,
    Unavailable,
    Violation,
)
from .machine import DEFAULT_ADDRESS
from .results import (
    Accounting,
    Delta,
    FinishReason,
    Generation,
    Logprobs,
    Move,
    MoveKind,
    Token,
    Usage,
)
from .retry import RetryPolicy
from .status import (
    Blocks,
    ClusterStatus,
    Gateway,
    RequestTrace,
    Role,
    RunningMove,
    RunningRequest,
    Worker,
)
from .sync import Client, Stream

__all__ = [
    "DEFAULT_ADDRESS",
    "Accounting",
    "AsyncClient",
    "AsyncStream",
    "Blocks",
    "Cancelled",
    "Client",
    "ClusterStatus",
    "DeadlineExceeded",
    "Delta",
    "Denied",
    "DrainOptions",
    "DrainProgress",
    "FinishReason",
    "Gateway",
    "Generation",
    "InvalidRequest",
    "Logprobs",
    "Message",
    "Move",
    "MoveKind",
    "NotFound",
    "Options",
    "Overloaded",
    "Prompt",
    "Refused",
    "RequestTrace",
    "RetryPolicy",
    "Role",
    "RunningMove",
    "RunningRequest",
    "ServerError",
    "SplitweaveError",
    "Stream",
    "Token",
    "Unavailable",
    "Usage",
    "Violation",
    "Worker",
    "WorkerDrain",
]
