"""What lies in a worker's KV blocks, in checked worlds.

Every (block, layer, slot) holds a tag (see `streams.py`). An iteration reads
its requests' slots and writes new ones; a copy carries slots from one worker to
another. Whatever reads a slot that does not hold its own sequence's tag draws a
wrong token, and the client sees it.
"""

from collections.abc import Callable, Sequence

from ..proto.batch import Batch, Chunk
from ..proto.effects import RestoreBlocks, SpillBlocks
from ..proto.ids import BlockId, RequestId
from ..proto.move import Copy
from ..proto.requests import SampledToken
from .streams import EMPTY, TOKENS, VOCAB, TrueStream, tag_after

Find = Callable[[RequestId], TrueStream]
SPOILED = -1  # stands before the first token of what was computed from wrong KV
Payload = list[list[list[int]]]  # [block][layer][slot]
HostContent = Payload


class BlockContent:
    """The KV memory of one life of a worker."""

    def __init__(self, blocks: int, block_tokens: int, layers: int) -> None:
        self._block_tokens = block_tokens
        self._slots = [[[EMPTY] * block_tokens for _ in range(layers)] for _ in range(blocks)]

    def compute(self, batch: Batch, find: Find) -> tuple[SampledToken | None, ...]:
        """Read and write all of a batch; one token per chunk that draws."""
        return tuple(self._compute_chunk(chunk, find(chunk.request_id)) for chunk in batch.chunks)

    def read(self, copy: Copy) -> Payload:
        """What `copy` takes from its source blocks now."""
        return [
            [list(slots) for slots in self._slots[block][copy.first_layer : copy.last_layer]]
            for block in copy.source_blocks
        ]

    def write(self, copy: Copy, payload: Payload) -> None:
        """Put what was read into the target blocks."""
        for block, layers in zip(copy.target_blocks, payload, strict=True):
            for layer, slots in enumerate(layers, start=copy.first_layer):
                self._slots[block][layer] = list(slots)

    def spill(self, copy: SpillBlocks, kept: HostContent) -> None:
        """Put blocks into host memory."""
        for block, host_block in zip(copy.blocks, copy.host_blocks, strict=True):
            kept[host_block] = [list(slots) for slots in self._slots[block]]

    def restore(self, copy: RestoreBlocks, kept: HostContent) -> None:
        """Put what was spilled into blocks."""
        for block, host_block in zip(copy.blocks, copy.host_blocks, strict=True):
            self._slots[block] = [list(slots) for slots in kept[host_block]]

    def holds(self, table: Sequence[BlockId], tags: Sequence[int], length: int) -> bool:
        """Whether `table` holds exactly `tags[:length]`, in every layer."""
        size = self._block_tokens
        for index in range(0, length, size):
            want = tags[index : min(index + size, length)]
            for slots in self._slots[table[index // size]]:
                if slots[: len(want)] != want:
                    return False
        return True

    def _compute_chunk(self, chunk: Chunk, stream: TrueStream) -> SampledToken | None:
        stream.upto(chunk.end)
        right = (
            self.holds(chunk.block_table, stream.tags, chunk.start)
            and tuple(stream.token_ids[chunk.start : chunk.end]) == chunk.token_ids
        )
        tags = stream.tags[chunk.start : chunk.end] if right else _spoiled(chunk)
        for position, tag in enumerate(tags, start=chunk.start):
            block, slot = divmod(position, self._block_tokens)
            for slots in self._slots[chunk.block_table[block]]:
                slots[slot] = tag
        if chunk.draw is None:
            return None
        stream.upto(chunk.end + 1)
        token_id = stream.token_ids[chunk.end]
        return TOKENS[token_id if right else (token_id + 1) % VOCAB]


def _spoiled(chunk: Chunk) -> list[int]:
    """Tags of no prefix: whoever reads them later is wrong as well."""
    tags: list[int] = []
    tag = SPOILED
    for token_id in chunk.token_ids:
        tag = tag_after(tag, token_id)
        tags.append(tag)
    return tags
