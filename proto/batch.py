"""One iteration's work: a flattened batch of prefill chunks and decodes."""

from dataclasses import dataclass

from .ids import BlockId, RequestId
from .requests import SamplingParams


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """Sample the token at `position` from the last row of a chunk.

    `history` is prompt + emitted tokens, given only where penalties need it;
    its first `prompt_tokens` entries are the prompt.
    """

    params: SamplingParams
    position: int
    history: tuple[int, ...] = ()
    prompt_tokens: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """`token_ids` of one request to be computed at positions start, start+1, …

    `block_table` covers every position up to the chunk's end. A decode is a
    chunk of one token. `draw` is None for all but the last chunk of a prefill.
    """

    request_id: RequestId
    token_ids: tuple[int, ...]
    start: int
    block_table: tuple[BlockId, ...]
    draw: Draw | None

    @property
    def end(self) -> int:
        return self.start + len(self.token_ids)


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """All chunks of one iteration."""

    iteration: int
    chunks: tuple[Chunk, ...]

    @property
    def tokens(self) -> int:
        return sum(len(chunk.token_ids) for chunk in self.chunks)
