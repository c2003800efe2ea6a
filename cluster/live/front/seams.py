"""What the front needs from the gateway it is embedded in, and nothing else."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from ....proto.cluster_events import AfterDrain, AtDeadline
from ....proto.effects import AnswerAsk, DeliverTokens, EndStream, FailStream
from ....proto.ids import GatewayId, Incarnation, RequestId, WorkerId
from ....proto.requests import Request
from ....proto.views import Role

if TYPE_CHECKING:
    from ...core.status import ClusterStatus, RequestTrace

StreamItem = DeliverTokens | EndStream | FailStream


class Streams(Protocol):
    """The live shell around a GatewayCore."""

    def knows(self, request_id: RequestId) -> bool:
        """Whether a stream of that id is open."""
        ...

    def resume_digest(self, request_id: RequestId) -> int | None:
        """What a client must show who takes the open stream of that id over."""
        ...

    def open(self, request: Request, deadline_ns: int | None) -> AsyncIterator[StreamItem]:
        """The stream's items in order; its last is EndStream or FailStream.

        An iterator closed or cancelled before that cancels the request everywhere.
        A request with more `resumes` than the open stream of its id has takes it over:
        the former iterator ends nothing any more. `deadline_ns` is on the monotonic clock.
        """
        ...

    def leave(self) -> None:
        """The gateway ends: from now on a closed iterator cancels nothing, clients resume."""
        ...

    def stop_found(self, request_id: RequestId, output_tokens: int) -> None:
        """The text met a stop string after that many tokens: EndStream follows."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainWish:
    """How a worker is drained; see `DrainAsked`."""

    life: Incarnation | None = None
    beside: tuple[WorkerId, ...] = ()
    at_deadline: AtDeadline = AtDeadline.KEEP
    then: AfterDrain = AfterDrain.RETIRE


PLAIN_DRAIN = DrainWish()


class Operator(Protocol):
    """Asks to the controller. Each raises ConnectionError if it is away."""

    async def status(self) -> "ClusterStatus": ...

    async def trace(self, request_id: RequestId) -> "RequestTrace | None": ...

    async def metrics(self) -> str: ...

    async def drain(
        self, worker_id: WorkerId, deadline_s: float, wish: DrainWish = PLAIN_DRAIN
    ) -> AnswerAsk: ...

    async def migrate(self, request_id: RequestId, target: WorkerId | None) -> AnswerAsk: ...

    async def set_role(self, worker_id: WorkerId, role: Role) -> AnswerAsk: ...


class Decoder(Protocol):
    """Turns the tokens of one stream into text, never splitting a character."""

    def push(self, token_id: int) -> str:
        """The text that became certain with this token."""
        ...

    def flush(self) -> str:
        """What is left at the end of the stream."""
        ...


class Language(Protocol):
    """One model's way between text and tokens. Thread-safe."""

    def encode(self, text: str) -> Sequence[int]:
        """The tokens of raw text."""
        ...

    def encode_chat(self, messages: Sequence[tuple[str, str]], rendered_at_s: int) -> Sequence[int]:
        """The tokens of (role, content) messages, ready for the answer.

        `rendered_at_s` is what the template sees as the present, Unix time.
        Raises ValueError, with a reason for a person, if the model has no chat
        template or its template refuses them.
        """
        ...

    def decoder(self) -> Decoder:
        """A decoder for one stream's output."""
        ...


@dataclass(frozen=True, kw_only=True)
class Served:
    """The model behind the front."""

    gateway_id: GatewayId
    name: str
    context_tokens_max: int
    vocab_size: int
    block_tokens: int
    eos_token_ids: frozenset[int]
    language: Language
