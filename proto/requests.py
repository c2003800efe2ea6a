"""What a client asks for, after validation and tokenization."""

from dataclasses import dataclass
from enum import StrEnum

from .ids import Epoch, GatewayId, PrefixHash, RequestId


class FinishReason(StrEnum):
    """Why a stream ended."""

    STOP = "stop"  # an end-of-sequence token, a stop token or a stop string
    LENGTH = "length"  # max_tokens, or the context is full
    CANCELLED = "cancelled"
    ERROR = "error"


class RequestClass(StrEnum):
    """How urgent a request is: who waits for a worker goes by class first, then by arrival."""

    INTERACTIVE = "interactive"
    STANDARD = "standard"
    BATCH = "batch"


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParams:
    """How the next token is drawn: a pure function of (seed, position, logits).

    temperature 0 is greedy. top_k 0 and top_p 1 switch the filter off.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    seed: int = 0
    logprobs: int | None = None  # how many alternatives to report; None: none at all

    @property
    def needs_history(self) -> bool:
        """Whether earlier tokens change the next one other than through the model."""
        return (
            self.repetition_penalty != 1.0
            or self.presence_penalty != 0.0
            or self.frequency_penalty != 0.0
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One generation. `token_ids` is the prompt; `emitted` what clients already have.

    A request that lost its worker comes back with `emitted` filled in and a
    higher `epoch.attempt`: its next token is number len(emitted).
    """

    request_id: RequestId
    gateway_id: GatewayId
    token_ids: tuple[int, ...]
    max_tokens: int
    sampling: SamplingParams = SamplingParams()
    stop_token_ids: frozenset[int] = frozenset()
    emitted: tuple[int, ...] = ()
    epoch: Epoch = Epoch(0)
    arrived_ns: int = 0  # at the controller, on its clock; workers order by it
    # Prefix hashes of the prompt's full blocks, chained and salted by tenant.
    block_hashes: tuple[PrefixHash, ...] = ()
    # How often its client has come back for the stream: the latest call has the most.
    resumes: int = 0
    # Digest of the key that a client must show who comes back; 0: none was given.
    resume_digest: int = 0
    request_class: RequestClass = RequestClass.STANDARD
    # What was left until the client's deadline when this was sent; None: no deadline.
    remaining_ns: int | None = None

    @property
    def prompt_tokens(self) -> int:
        return len(self.token_ids)

    @property
    def known_tokens(self) -> int:
        """Tokens whose KV must exist before the next one can be sampled."""
        return len(self.token_ids) + len(self.emitted)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenLogprobs:
    """Natural-log probabilities at one position, before the filters are applied."""

    token: float
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SampledToken:
    """One token drawn for one request in one iteration."""

    token_id: int
    logprobs: TokenLogprobs | None = None
