"""The asyncio client: a thin shell around the machines. For one event loop."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

from grpc import aio

from ..proto.inference_pb2_grpc import InferenceStub
from . import calls
from .ask import Message, Options, Prompt
from .draining import DrainOptions, DrainProgress, drain_workers
from .endpoints import CHANNEL_OPTIONS
from .errors import Cancelled, SplitweaveError, from_rpc
from .machine import DEFAULT_ADDRESS, GenerationMachine
from .operations import Operations
from .results import Delta, Generation, Move
from .retry import RetryPolicy
from .status import ClusterStatus, RequestTrace, Role
from .sync import STUBS

Result = TypeVar("Result")


class AsyncStream:
    """One generation in progress: iterate over its deltas; `result()` is the whole.

    Nothing is sent before the first delta is asked for. Closing early cancels.
    """

    def __init__(self, machine: GenerationMachine, deltas: AsyncGenerator[Delta, None]) -> None:
        self._machine = machine
        self._deltas = deltas

    @property
    def request_id(self) -> str:
        """The id by which another client may cancel or migrate it."""
        return self._machine.request_id

    async def result(self) -> Generation:
        """The whole answer. Reads what is left of the stream."""
        async for _ in self._deltas:
            pass
        return self._machine.complete()

    async def aclose(self) -> None:
        """Stop here; the request is cancelled if it has not ended."""
        await self._deltas.aclose()

    def __aiter__(self) -> AsyncIterator[Delta]:
        return self

    async def __anext__(self) -> Delta:
        return await anext(self._deltas)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()


class AsyncClient:
    """`Client` for asyncio: the same operations, the same errors."""

    def __init__(
        self,
        addresses: str | Sequence[str] = DEFAULT_ADDRESS,
        *,
        timeout_s: float | None = None,
        retry: RetryPolicy = RetryPolicy(),  # noqa: B008  (frozen)
    ) -> None:
        self._operations = Operations(addresses, timeout_s, retry)
        self._channels: list[aio.Channel] = []  # opened on first use, in the running loop

    def stream(self, prompt: Prompt, **options: Unpack[Options]) -> AsyncStream:
        """Generates from text, messages or token ids, as it comes."""
        machine = self._operations.generation(prompt, options)
        return AsyncStream(machine, self._deltas(machine))

    async def generate(self, prompt: Prompt, **options: Unpack[Options]) -> Generation:
        """Generates from text, messages or token ids, and returns the whole."""
        return await self.stream(prompt, **options).result()

    async def chat(self, messages: Sequence[Message], **options: Unpack[Options]) -> Generation:
        """The assistant's next turn of a conversation."""
        return await self.stream(messages, **options).result()

    async def cancel(self, request_id: str) -> None:
        """Ends a request wherever it is. Raises NotFound if it does not run."""
        await self._run(calls.cancel(request_id))

    async def status(self) -> ClusterStatus:
        """Workers, requests and moves, as the controller sees them now."""
        return await self._run(calls.cluster_status())

    async def trace(self, request_id: str) -> RequestTrace:
        """One request, running or lately ended, and its moves. Raises NotFound."""
        return await self._run(calls.trace(request_id))

    async def metrics(self) -> str:
        """Counters of the cluster, in Prometheus' text format."""
        return await self._run(calls.metrics())

    async def drain(self, worker_id: str, deadline_s: float | None = None) -> int:
        """Empties a worker; how many requests had to leave. Waits until it is empty."""
        return await self._run(calls.drain(worker_id, deadline_s))

    async def drain_workers(self, **options: Unpack[DrainOptions]) -> AsyncIterator[DrainProgress]:
        """Empties workers, and says how far it is until all are; see DrainOptions."""
        call = drain_workers(options)
        machine = self._operations.call(call)
        stub: Any = STUBS[call.service](self._channel(machine))
        timeout_s = self._operations.remaining_s(machine)
        try:
            async for reply in getattr(stub, call.method)(call.request, timeout=timeout_s):
                yield call.read(reply)
        except aio.AioRpcError as failure:
            raise from_rpc(failure) from None
        except asyncio.CancelledError:
            raise self._closed_error() from None

    async def migrate(self, request_id: str, target_worker_id: str | None = None) -> Move:
        """Moves a running request to another worker, by default the policy's choice."""
        return await self._run(calls.migrate(request_id, target_worker_id))

    async def set_role(self, worker_id: str, role: Role | str) -> Role:
        """Gives a worker another role; returns the one before."""
        return await self._run(calls.set_role(worker_id, role))

    async def aclose(self) -> None:
        """Closes the channels; what is in progress ends with Cancelled, as does what follows."""
        self._operations.closed = True
        for channel in self._channels:
            await channel.close(None)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def _channel(self, machine: GenerationMachine | calls.CallMachine) -> aio.Channel:
        self._operations.check_open()
        if not self._channels:
            self._channels = [
                aio.insecure_channel(address, CHANNEL_OPTIONS)
                for address in self._operations.addresses
            ]
        return self._channels[self._operations.address_index(machine)]

    async def _deltas(self, machine: GenerationMachine) -> AsyncGenerator[Delta, None]:
        while machine.result is None:
            try:
                async with aclosing(self._try(machine)) as deltas:
                    async for delta in deltas:
                        yield delta
                error = machine.broken()
            except aio.AioRpcError as failure:
                error = from_rpc(failure)
            except asyncio.CancelledError:
                error = self._closed_error()
            except SplitweaveError as own:
                error = own
            if error is not None:
                await asyncio.sleep(self._operations.wait_s(machine, error))

    async def _try(self, machine: GenerationMachine) -> AsyncGenerator[Delta, None]:
        """One call of Generate or Resume; cancelled if the consumer leaves."""
        stub: Any = InferenceStub(self._channel(machine))
        method, request = machine.call()
        replies = getattr(stub, method)(request, timeout=self._operations.remaining_s(machine))
        try:
            async for reply in replies:
                delta = machine.take(reply)
                if delta is not None:
                    yield delta
        finally:
            replies.cancel()

    async def _run(self, call: calls.Call[Result]) -> Result:
        machine = self._operations.call(call)
        while True:
            stub: Any = STUBS[call.service](self._channel(machine))
            timeout_s = self._operations.remaining_s(machine)
            try:
                reply = await getattr(stub, call.method)(call.request, timeout=timeout_s)
                return call.read(reply)
            except aio.AioRpcError as failure:
                wait_s = self._operations.wait_s(machine, from_rpc(failure))
            except asyncio.CancelledError:
                raise self._closed_error() from None
            await asyncio.sleep(wait_s)

    def _closed_error(self) -> SplitweaveError:
        """What `aclose` means to a call in progress, which grpc ends with CancelledError.

        Re-raises it if it was the task that was cancelled.
        """
        task = asyncio.current_task()
        if not self._operations.closed or (task is not None and task.cancelling()):
            raise  # noqa: PLE0704  (called while it is handled)
        return Cancelled("the client was closed")
