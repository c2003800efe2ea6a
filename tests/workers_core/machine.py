"""A fake engine whose blocks hold real content, so that a wrong copy shows in the tokens.

The KV of a position is a digest of its token and of all KV before it, per
layer. The next token is a digest of (seed, position, all KV of all layers). A
block that was overwritten, freed too early or copied too early changes every
token after it.
"""

from collections.abc import Sequence

from splitweave.proto.batch import Chunk
from splitweave.proto.ids import BlockId
from splitweave.proto.move import Copy
from splitweave.proto.requests import SampledToken
from xxhash import xxh3_64

VOCABULARY = 50_000
Content = list[list[list[bytes]]]  # [block][layer][slot]


def kv_of(layer: int, token_id: int, before: "xxh3_64") -> bytes:
    own = xxh3_64(before.digest())
    own.update(f"{layer},{token_id}".encode())
    return own.digest()


def draw(seed: int, position: int, digests: Sequence[bytes]) -> int:
    drawn = xxh3_64(b"".join(digests))
    drawn.update(f"{seed},{position}".encode())
    return drawn.intdigest() % VOCABULARY


class Machine:
    """The KV memory of one worker and what its engine does to it."""

    def __init__(self, blocks: int, block_tokens: int, layers: int) -> None:
        self.block_tokens = block_tokens
        self.layers = layers
        self.content: Content = [
            [[b"?"] * block_tokens for _ in range(layers)] for _ in range(blocks)
        ]

    def compute(self, chunk: Chunk, layer: int) -> bytes:
        """Stores the chunk's KV of one layer; returns the digest of all KV up to its end."""
        before = xxh3_64()
        for position in range(chunk.start):
            before.update(self._slot(chunk.block_table, position, layer))
        for offset, token_id in enumerate(chunk.token_ids):
            position = chunk.start + offset
            value = kv_of(layer, token_id, before)
            block = chunk.block_table[position // self.block_tokens]
            self.content[block][layer][position % self.block_tokens] = value
            before.update(value)
        return before.digest()

    def sample(self, chunk: Chunk) -> SampledToken | None:
        if chunk.draw is None:
            return None
        assert chunk.draw.position == chunk.end, f"draws {chunk.draw.position} at {chunk.end}"
        digests = [self._digest(chunk, layer) for layer in range(self.layers)]
        token_id = draw(chunk.draw.params.seed, chunk.draw.position, digests)
        return SampledToken(token_id=token_id)

    def read(self, copy: Copy) -> Content:
        return [
            [list(self.content[block][layer]) for layer in range(copy.first_layer, copy.last_layer)]
            for block in copy.source_blocks
        ]

    def write(self, copy: Copy, content: Content) -> None:
        for block, layers in zip(copy.target_blocks, content, strict=True):
            for layer, slots in zip(range(copy.first_layer, copy.last_layer), layers, strict=True):
                self.content[block][layer] = list(slots)

    def _digest(self, chunk: Chunk, layer: int) -> bytes:
        before = xxh3_64()
        for position in range(chunk.end):
            before.update(self._slot(chunk.block_table, position, layer))
        return before.digest()

    def _slot(self, table: Sequence[BlockId], position: int, layer: int) -> bytes:
        return self.content[table[position // self.block_tokens]][layer][
            position % self.block_tokens
        ]


def true_stream(prompt: Sequence[int], seed: int, count: int, layers: int) -> list[int]:
    """What a request's tokens must be, wherever it runs."""
    digests = [xxh3_64() for _ in range(layers)]

    def feed(token_id: int) -> None:
        for layer, before in enumerate(digests):
            before.update(kv_of(layer, token_id, before))

    for token_id in prompt:
        feed(token_id)
    drawn: list[int] = []
    for position in range(len(prompt), len(prompt) + count):
        drawn.append(draw(seed, position, [before.digest() for before in digests]))
        feed(drawn[-1])
    return drawn
