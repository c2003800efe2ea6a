"""What a generation gives back. Frozen values; times in seconds."""

from dataclasses import dataclass, field
from enum import StrEnum

from ..proto import inference_pb2 as pb


class FinishReason(StrEnum):
    """Why a stream ended."""

    STOP = "stop"  # an end-of-sequence token, a stop token or a stop string
    LENGTH = "length"  # max_tokens, or the context is full
    CANCELLED = "cancelled"


class MoveKind(StrEnum):
    """Why KV moved."""

    HANDOFF = "handoff"  # prefill to decode
    MIGRATION = "migration"  # decode to decode, live
    FETCH = "fetch"  # of a cached prefix, to the worker that runs the request


@dataclass(frozen=True, slots=True, kw_only=True)
class Logprobs:
    """Natural-log probabilities at one position, before any filter."""

    logprob: float
    top: tuple[tuple[int, float], ...]  # (token id, logprob), likeliest first


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """One generated token. `text` is what it completed; it may be empty."""

    index: int
    token_id: int
    text: str
    logprobs: Logprobs | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Delta:
    """What arrived together. The last one of a stream may have text and no token."""

    text: str
    tokens: tuple[Token, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens of one request."""

    prompt_tokens: int
    cached_tokens: int  # of the prompt, not computed again
    output_tokens: int
    cached_host_tokens: int = 0  # of the cached ones, back from host memory
    cached_peer_tokens: int = 0  # of the cached ones, fetched from another worker


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """One motion of the request's KV from one worker to another."""

    kind: MoveKind
    source: str
    target: str
    blocks: int
    transfer_bytes: int
    hidden_bytes: int  # of them, sent while the source still computed the request
    seconds: float  # the three below together
    reserve_s: float
    copy_s: float
    handover_s: float
    downtime_s: float
    committed: bool
    reason: str
    hidden_share: float = 0.0
    bytes_per_s: float = 0.0  # while at least one copy was under way
    copies: int = 0  # messages
    repeats: int = 0  # letters said again because no answer came
    pulled: bool = False  # a handoff whose target had no room until the prefill had ended


@dataclass(frozen=True, slots=True, kw_only=True)
class Accounting:
    """Where the request went and what that cost, as the last gateway saw it."""

    workers: tuple[str, ...]
    ttft_s: float
    tpot_s: float
    e2e_s: float
    handoff_bytes: int
    handoff_hidden_share: float
    migrations: int
    moves: tuple[Move, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """A complete answer."""

    request_id: str
    seed: int  # the same request with it (and `rendered_at_s`) yields the same tokens
    rendered_at_s: int | None  # what a chat template took for the present, Unix time
    text: str
    finish_reason: FinishReason
    usage: Usage
    accounting: Accounting
    retries: int  # calls it took beyond the first
    tokens: tuple[Token, ...] = field(repr=False)

    @property
    def token_ids(self) -> tuple[int, ...]:
        """The generated tokens."""
        return tuple(token.token_id for token in self.tokens)


KINDS = {
    pb.MOVE_KIND_HANDOFF: MoveKind.HANDOFF,
    pb.MOVE_KIND_MIGRATION: MoveKind.MIGRATION,
    pb.MOVE_KIND_FETCH: MoveKind.FETCH,
}
REASONS = {
    pb.FINISH_REASON_STOP: FinishReason.STOP,
    pb.FINISH_REASON_LENGTH: FinishReason.LENGTH,
    pb.FINISH_REASON_CANCELLED: FinishReason.CANCELLED,
}


def token(message: pb.Token) -> Token:
    """A token from the wire."""
    logprobs = None
    if message.HasField("logprobs"):
        top = tuple((item.token_id, item.logprob) for item in message.logprobs.top)
        logprobs = Logprobs(logprob=message.logprobs.logprob, top=top)
    return Token(
        index=message.index, token_id=message.token_id, text=message.text, logprobs=logprobs
    )


def move(message: pb.Move) -> Move:
    """A move from the wire."""
    return Move(
        kind=KINDS.get(message.kind, MoveKind.MIGRATION),
        source=message.source,
        target=message.target,
        blocks=message.blocks,
        transfer_bytes=message.bytes,
        hidden_bytes=message.hidden_bytes,
        seconds=message.seconds,
        reserve_s=message.reserve_s,
        copy_s=message.copy_s,
        handover_s=message.handover_s,
        downtime_s=message.downtime_s,
        committed=message.outcome == pb.MOVE_OUTCOME_COMMITTED,
        reason=message.reason,
        hidden_share=message.hidden_share,
        bytes_per_s=message.bytes_per_s,
        copies=message.copies,
        repeats=message.repeats,
        pulled=message.pulled,
    )


def usage(message: pb.Usage) -> Usage:
    """Usage from the wire."""
    return Usage(
        prompt_tokens=message.prompt_tokens,
        cached_tokens=message.cached_tokens,
        output_tokens=message.output_tokens,
        cached_host_tokens=message.cached_host_tokens,
        cached_peer_tokens=message.cached_peer_tokens,
    )


def accounting(message: pb.Accounting) -> Accounting:
    """An account from the wire."""
    return Accounting(
        workers=tuple(message.workers),
        ttft_s=message.ttft_s,
        tpot_s=message.tpot_s,
        e2e_s=message.e2e_s,
        handoff_bytes=message.handoff_bytes,
        handoff_hidden_share=message.handoff_hidden_share,
        migrations=message.migrations,
        moves=tuple(move(item) for item in message.moves),
    )
