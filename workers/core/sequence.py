"""One request on this worker: its tokens, its blocks, and how far it is computed.

    token_ids   p p p p p p p p o o o        prompt, then output
                [ computed )[remaining)      KV exists for `computed` positions
    blocks      [....][....][....]           the block table, covers at least `computed`

The next token can be drawn once all `known` tokens are computed, so a decoding
request has exactly one remaining token.
"""

from collections.abc import Iterable

from ...proto.batch import Draw
from ...proto.blocks import chain, root
from ...proto.gateway_events import TokenChunk
from ...proto.ids import BlockId, Epoch, MoveId, PrefixHash
from ...proto.requests import FinishReason, Request, SampledToken
from ...proto.views import HeldRequest, Phase


class Sequence:
    """State of one request; `Holdings` moves it between phases, nobody else."""

    __slots__ = (
        "arriving",
        "block_tokens",
        "blocks",
        "cached_tokens",
        "computed",
        "drawn",
        "epoch",
        "gone",
        "hashes",
        "host_tokens",
        "in_flight",
        "last_chunk",
        "move_id",
        "order",
        "outputs",
        "peer_tokens",
        "phase",
        "request",
        "resends",
        "restored",
        "token_ids",
        "told",
    )

    def __init__(
        self, request: Request, outputs: Iterable[SampledToken], epoch: Epoch, block_tokens: int
    ) -> None:
        self.request = request
        self.epoch = epoch
        self.block_tokens = block_tokens
        self.outputs = list(outputs)
        self.token_ids = [*request.token_ids, *(token.token_id for token in self.outputs)]
        self.phase = Phase.WAITING
        self.blocks: tuple[BlockId, ...] = ()
        self.computed = 0
        self.cached_tokens: int | None = None  # None until first admitted
        self.arriving: str = ""  # the copy that brings cached blocks; it waits for its end
        self.restored = False  # host memory was asked since it was last admitted
        self.host_tokens = 0  # of its prefix, back from host memory
        self.peer_tokens = 0  # of its prefix, fetched from a peer
        self.drawn = 0  # tokens drawn on this worker
        self.told = len(self.outputs)  # of its outputs, sent to its gateway
        self.in_flight = False
        self.gone = False  # dropped; if in flight, its blocks wait for the iteration's end
        self.move_id: MoveId | None = None  # the move it is the source of
        self.last_chunk: TokenChunk | None = None  # once finished: repeated until acknowledged
        self.resends = 0
        self.order = (request.arrived_ns, 0)
        given = len(request.block_hashes) == len(request.token_ids) // block_tokens
        self.hashes: list[PrefixHash] = list(request.block_hashes) if given else []
        self._extend_hashes()

    @property
    def known(self) -> int:
        return len(self.token_ids)

    @property
    def remaining(self) -> int:
        return len(self.token_ids) - self.computed

    def blocks_for(self, tokens: int) -> int:
        """Blocks that hold `tokens` positions."""
        return -(-tokens // self.block_tokens)

    def append(self, token: SampledToken) -> None:
        """Takes the token drawn after the last known one."""
        self.outputs.append(token)
        self.token_ids.append(token.token_id)
        self.drawn += 1
        if len(self.token_ids) % self.block_tokens == 0:
            self._extend_hashes()

    def extend(self, tokens: list[SampledToken]) -> None:
        """Takes what several draws in a row gave, as `append` would one after the other."""
        self.outputs += tokens
        self.token_ids += [token.token_id for token in tokens]
        self.drawn += len(tokens)
        if len(self.token_ids) // self.block_tokens > len(self.hashes):
            self._extend_hashes()

    def draws_left(self, context_tokens_max: int) -> int:
        """Draws until the last one, stop tokens aside; at least 1 while it runs."""
        return min(
            self.request.max_tokens - len(self.outputs), context_tokens_max - len(self.token_ids)
        )

    def draw(self) -> Draw:
        """The order to sample the token after all known ones."""
        sampling = self.request.sampling
        if sampling.needs_history:
            history = tuple(self.token_ids)
            prompt_tokens = self.request.prompt_tokens
            return Draw(
                params=sampling,
                position=len(history),
                history=history,
                prompt_tokens=prompt_tokens,
            )
        return Draw(params=sampling, position=len(self.token_ids))

    def finish_reason(self, context_tokens_max: int) -> FinishReason | None:
        """Why no further token may be drawn, if so."""
        request = self.request
        if self.outputs and self.outputs[-1].token_id in request.stop_token_ids:
            return FinishReason.STOP
        if len(self.outputs) >= request.max_tokens or self.known >= context_tokens_max:
            return FinishReason.LENGTH
        return None

    def held(self) -> HeldRequest:
        """What a view says of it."""
        return HeldRequest(
            request_id=self.request.request_id,
            gateway_id=self.request.gateway_id,
            epoch=self.epoch,
            phase=self.phase,
            known_tokens=self.known,
            output_tokens=len(self.outputs),
            resume_digest=self.request.resume_digest,
            move_id=self.move_id,
        )

    def _extend_hashes(self) -> None:
        size = self.block_tokens
        parent = self.hashes[-1] if self.hashes else root()
        for start in range(len(self.hashes) * size, self.known - size + 1, size):
            parent = chain(parent, self.token_ids[start : start + size])
            self.hashes.append(parent)
