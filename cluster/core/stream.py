"""One open stream at a gateway: what the client has, and who may add to it.

Only the newest epoch speaks. Nothing is held back: a chunk is delivered if its
first missing token is in it, and asked for again if an earlier one is missing.
"""

from dataclasses import dataclass, field, replace

from ...proto.effects import StreamAccount
from ...proto.gateway_events import TokenChunk
from ...proto.ids import Epoch, RequestId, WorkerKey
from ...proto.move import MoveKind, MoveReport, Stage
from ...proto.requests import FinishReason, Request, SampledToken


@dataclass(slots=True, kw_only=True)
class Stream:
    """`request` is as the client sent it; `tokens` are those delivered here since."""

    request: Request
    newest: Epoch  # the newest epoch seen; its attempt is the stream's
    first_attempt: int
    arrived_ns: int
    progress_ns: int  # last time that anything said it is on its way
    deadline_ns: int | None = None
    next_index: int = 0  # of the first token the client does not have
    tokens: list[int] = field(default_factory=list)
    worker: WorkerKey | None = None  # last heard from, or where the controller put it
    workers: list[WorkerKey] = field(default_factory=list)
    moves: dict[str, MoveReport] = field(default_factory=dict)
    # (from, to, gap) at each change of the worker between two tokens.
    gaps: list[tuple[WorkerKey, WorkerKey, int]] = field(default_factory=list)
    cached_tokens: int = 0
    cached_host_tokens: int = 0
    cached_peer_tokens: int = 0
    first_token_ns: int | None = None
    last_token_ns: int | None = None
    submits: int = 0  # in a row, without an answer
    stalls: int = 0  # in a row, without progress
    submitting: bool = True  # its submit timer runs
    hops_before: int = 0  # of the newest attempt, at the gateway that it was resumed from
    asked_ns: int | None = None  # when missing tokens were last asked for

    @property
    def request_id(self) -> RequestId:
        return self.request.request_id

    @property
    def attempts(self) -> int:
        return self.newest.attempt - self.first_attempt + 1

    def resubmission(self, now_ns: int) -> Request:
        """The request with all that the client has, at the newest epoch, and the time it has."""
        emitted = (*self.request.emitted, *self.tokens)
        left_ns = None if self.deadline_ns is None else max(0, self.deadline_ns - now_ns)
        return replace(self.request, emitted=emitted, epoch=self.newest, remaining_ns=left_ns)

    def resume(self, request: Request, deadline_ns: int | None) -> None:
        """Its client asks anew, with what it has: perhaps less than was delivered."""
        self.request, self.deadline_ns = request, deadline_ns
        self.tokens.clear()
        self.next_index = len(request.emitted)
        self.first_token_ns = self.last_token_ns = None
        self.asked_ns = None

    def finish(self) -> FinishReason | None:
        """Why nothing is left to generate, if the client has it all."""
        emitted = self.tokens or self.request.emitted
        if emitted and emitted[-1] in self.request.stop_token_ids:
            return FinishReason.STOP
        if self.next_index >= self.request.max_tokens:
            return FinishReason.LENGTH
        return None

    def hear(self, worker: WorkerKey, epoch: Epoch) -> bool:
        """Whether `worker` may speak for the stream, which it does from now on."""
        if epoch != self.newest:
            if epoch < self.newest:
                return False
            self.see(epoch)
        self.worker = worker
        return True

    def see(self, epoch: Epoch) -> None:
        """Someone speaks at `epoch`. An attempt that was raised elsewhere is not one of ours."""
        if epoch > self.newest:
            if self.request.resumes and not self.tokens:
                self.hops_before = epoch.hop
            elif epoch.attempt > self.newest.attempt:
                self.hops_before = 0
            self.first_attempt += epoch.attempt - self.newest.attempt
            self.newest = epoch
            self.asked_ns = None

    def raise_attempt(self, attempt: int) -> None:
        """Begin one more attempt: nobody speaks for the stream but those who run it."""
        self.first_attempt += attempt - self.newest.attempt - 1
        self.newest = Epoch(attempt)
        self.hops_before = 0
        self.worker = self.asked_ns = None
        self.submits = self.stalls = 0

    def disputed(self, first_index: int, tokens: tuple[SampledToken, ...]) -> int | None:
        """The first of these tokens that is not what its client says it is; None: none."""
        had = self.request.emitted[first_index:]
        for index, (theirs, token) in enumerate(zip(had, tokens, strict=False), first_index):
            if theirs != token.token_id:
                return index
        return None

    def take(self, first_index: int, tokens: tuple[SampledToken, ...]) -> tuple[SampledToken, ...]:
        """The part that the client does not have; empty if all is old, or a gap precedes it."""
        skip = self.next_index - first_index
        return tokens[skip:] if 0 <= skip < len(tokens) else ()

    def add(self, new: tuple[SampledToken, ...], worker: WorkerKey, now_ns: int) -> None:
        """The client gets these, which `worker` sent."""
        if not self.workers:
            self.workers.append(worker)
        elif self.workers[-1] != worker:
            if self.last_token_ns is not None:
                self.gaps.append((self.workers[-1], worker, now_ns - self.last_token_ns))
            self.workers.append(worker)
        self.tokens.extend([token.token_id for token in new])
        self.next_index += len(new)
        if self.first_token_ns is None:
            self.first_token_ns = now_ns
        self.last_token_ns = self.progress_ns = now_ns
        self.stalls = self.submits = 0
        self.asked_ns = None

    def note_cached(self, chunk: TokenChunk) -> None:
        """What the first worker had of the prompt, and where it had it from."""
        self.cached_tokens = chunk.cached_tokens
        self.cached_host_tokens = chunk.cached_host_tokens
        self.cached_peer_tokens = chunk.cached_peer_tokens

    def account(self, output_tokens: int) -> StreamAccount:
        """What became of the stream."""
        moves = tuple(self.moves.values())
        return StreamAccount(
            workers=tuple(self.workers),
            moves=moves,
            downtimes_ns=self._downtimes(moves),
            prompt_tokens=self.request.prompt_tokens,
            cached_tokens=self.cached_tokens,
            output_tokens=output_tokens,
            attempts=self.attempts,
            arrived_ns=self.arrived_ns,
            first_token_ns=self.first_token_ns,
            last_token_ns=self.last_token_ns,
            cached_host_tokens=self.cached_host_tokens,
            cached_peer_tokens=self.cached_peer_tokens,
        )

    def _downtimes(self, moves: tuple[MoveReport, ...]) -> tuple[int, ...]:
        """Per committed move its gap; 0 if the target sent no token that the client needed."""
        left = list(self.gaps)
        downtimes = []
        for move in moves:
            if move.outcome is not Stage.COMMITTED:
                continue
            between = (move.source, move.target)
            fetch = move.kind is MoveKind.FETCH  # no request moved
            gap = None if fetch else next((g for g in left if g[:2] == between), None)
            if gap is not None:
                left.remove(gap)
            downtimes.append(0 if gap is None else gap[2])
        return tuple(downtimes)

    def check(self) -> None:
        """Programmer's errors only."""
        assert self.next_index == len(self.request.emitted) + len(self.tokens), self.request_id
        assert self.newest.attempt >= self.first_attempt, self.newest
        assert (self.first_token_ns is None) == (not self.tokens), self.request_id
