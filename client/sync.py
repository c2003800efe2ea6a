"""The blocking client: a thin shell around the machines. Thread-safe."""

import time
from collections.abc import Generator, Iterator, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

import grpc

from ..proto.admin_pb2_grpc import AdminStub
from ..proto.inference_pb2_grpc import InferenceStub
from . import calls
from .ask import Message, Options, Prompt
from .draining import DrainOptions, DrainProgress, drain_workers
from .endpoints import CHANNEL_OPTIONS
from .errors import SplitweaveError, from_rpc
from .machine import DEFAULT_ADDRESS, GenerationMachine
from .operations import Operations
from .results import Delta, Generation, Move
from .retry import RetryPolicy
from .status import ClusterStatus, RequestTrace, Role

Result = TypeVar("Result")
STUBS: dict[str, Any] = {"Inference": InferenceStub, "Admin": AdminStub}


class Stream:
    """One generation in progress: iterate over its deltas; `result` is there at the end.

    Nothing is sent before the first `next`. Closing early cancels the request.
    """

    def __init__(self, machine: GenerationMachine, deltas: Generator[Delta, None, None]) -> None:
        self._machine = machine
        self._deltas = deltas

    @property
    def request_id(self) -> str:
        """The id by which another client may cancel or migrate it."""
        return self._machine.request_id

    @property
    def result(self) -> Generation:
        """The whole answer. Reads what is left of the stream."""
        for _ in self._deltas:
            pass
        return self._machine.complete()

    def close(self) -> None:
        """Stop here; the request is cancelled if it has not ended."""
        self._deltas.close()

    def __iter__(self) -> Iterator[Delta]:
        return self

    def __next__(self) -> Delta:
        return next(self._deltas)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class Client:
    """A client of one cluster, reached at one or more gateways.

    `timeout_s` bounds every operation, retries included, unless the operation
    has its own. All methods raise the errors of `splitweave.client.errors`.
    """

    def __init__(
        self,
        addresses: str | Sequence[str] = DEFAULT_ADDRESS,
        *,
        timeout_s: float | None = None,
        retry: RetryPolicy = RetryPolicy(),  # noqa: B008  (frozen)
    ) -> None:
        self._operations = Operations(addresses, timeout_s, retry)
        self._channels = [
            grpc.insecure_channel(address, CHANNEL_OPTIONS)
            for address in self._operations.addresses
        ]
        # Made once: a stub made on a closed channel ends the process (grpcio 1.85).
        self._stubs = [
            {service: stub(channel) for service, stub in STUBS.items()}
            for channel in self._channels
        ]

    def stream(self, prompt: Prompt, **options: Unpack[Options]) -> Stream:
        """Generates from text, messages or token ids, as it comes."""
        machine = self._operations.generation(prompt, options)
        return Stream(machine, self._deltas(machine))

    def generate(self, prompt: Prompt, **options: Unpack[Options]) -> Generation:
        """Generates from text, messages or token ids, and returns the whole."""
        return self.stream(prompt, **options).result

    def chat(self, messages: Sequence[Message], **options: Unpack[Options]) -> Generation:
        """The assistant's next turn of a conversation."""
        return self.stream(messages, **options).result

    def cancel(self, request_id: str) -> None:
        """Ends a request wherever it is. Raises NotFound if it does not run."""
        self._run(calls.cancel(request_id))

    def status(self) -> ClusterStatus:
        """Workers, requests and moves, as the controller sees them now."""
        return self._run(calls.cluster_status())

    def trace(self, request_id: str) -> RequestTrace:
        """One request, running or lately ended, and its moves. Raises NotFound."""
        return self._run(calls.trace(request_id))

    def metrics(self) -> str:
        """Counters of the cluster, in Prometheus' text format."""
        return self._run(calls.metrics())

    def drain(self, worker_id: str, deadline_s: float | None = None) -> int:
        """Empties a worker; how many requests had to leave. Waits until it is empty."""
        return self._run(calls.drain(worker_id, deadline_s))

    def drain_workers(self, **options: Unpack[DrainOptions]) -> Iterator[DrainProgress]:
        """Empties workers, and says how far it is until all are; see DrainOptions."""
        call = drain_workers(options)
        machine = self._operations.call(call)
        try:
            for reply in self._begin(machine, (call.service, call.method), call.request):
                yield call.read(reply)
        except grpc.RpcError as failure:
            raise from_rpc(failure) from None

    def migrate(self, request_id: str, target_worker_id: str | None = None) -> Move:
        """Moves a running request to another worker, by default the policy's choice."""
        return self._run(calls.migrate(request_id, target_worker_id))

    def set_role(self, worker_id: str, role: Role | str) -> Role:
        """Gives a worker another role; returns the one before."""
        return self._run(calls.set_role(worker_id, role))

    def close(self) -> None:
        """Closes the channels; what is in progress ends with Cancelled, as does what follows."""
        self._operations.closed = True
        for channel in self._channels:
            channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _begin(
        self, machine: GenerationMachine | calls.CallMachine, rpc: tuple[str, str], request: Any
    ) -> Any:
        """Calls `rpc` (service, method) at the machine's next address."""
        self._operations.check_open()
        service, method = rpc
        stub = self._stubs[self._operations.address_index(machine)][service]
        try:
            return getattr(stub, method)(request, timeout=self._operations.remaining_s(machine))
        except ValueError:
            self._operations.check_open()  # closed meanwhile, by another thread
            raise

    def _deltas(self, machine: GenerationMachine) -> Generator[Delta, None, None]:
        while machine.result is None:
            try:
                yield from self._try(machine)
                error = machine.broken()
            except grpc.RpcError as failure:
                error = from_rpc(failure)
            except SplitweaveError as own:
                error = own
            if error is not None:
                time.sleep(self._operations.wait_s(machine, error))

    def _try(self, machine: GenerationMachine) -> Generator[Delta, None, None]:
        """One call of Generate or Resume; cancelled if the consumer leaves."""
        method, request = machine.call()
        replies = self._begin(machine, ("Inference", method), request)
        try:
            for reply in replies:
                delta = machine.take(reply)
                if delta is not None:
                    yield delta
        finally:
            replies.cancel()

    def _run(self, call: calls.Call[Result]) -> Result:
        machine = self._operations.call(call)
        while True:
            try:
                return call.read(self._begin(machine, (call.service, call.method), call.request))
            except grpc.RpcError as failure:
                wait_s = self._operations.wait_s(machine, from_rpc(failure))
            time.sleep(wait_s)
