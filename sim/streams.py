"""What every request must yield: the truth that checked worlds compare with.

A token is a pure function of the sampling seed and the content of everything
before it. The content of a prefix is a *tag*: the running hash of its tokens.
A slot of KV holds the tag of the prefix that ends there, so KV that belongs to
another sequence, or to nobody, is told apart at once.
"""

from ..proto.requests import Request, SampledToken

VOCAB = 1 << 12
TOKENS = tuple(SampledToken(token_id=token_id) for token_id in range(VOCAB))
STEP, SPREAD = 31, 7919  # of quick tokens: from position to position, from seed to seed
TURNS = SPREAD * pow(STEP, -1, VOCAB)  # positions from one seed's tokens to the next one's
_RING = [TOKENS[index * STEP % VOCAB] for index in range(2 * VOCAB)]
DRAW = 0xD4A3  # sets a token apart from a tag of the same content
EMPTY = 0  # the tag of a slot that was never written


def tag_after(tag: int, token_id: int) -> int:
    """The tag of a prefix and one more token. Never EMPTY."""
    return hash((tag, token_id)) | 1


def draw(seed: int, tag: int) -> int:
    """The token that follows the prefix `tag`."""
    return hash((seed, tag, DRAW)) % VOCAB


def quick_token(seed: int, position: int) -> SampledToken:
    """The token at a position where nobody follows the content."""
    return TOKENS[(seed * SPREAD + position * STEP) % VOCAB]


def quick_tokens(seed: int, position: int, count: int) -> list[SampledToken]:
    """`quick_token` at `count` positions in a row."""
    start = (seed * TURNS + position) % VOCAB
    return _RING[start : start + count] if start + count <= len(_RING) else _turn(start, count)


def _turn(start: int, count: int) -> list[SampledToken]:
    return [_RING[(start + index) % VOCAB] for index in range(count)]


class TrueStream:
    """One request's prompt and output, made as far as someone asks.

    `tags[i]` is the tag of positions 0..i. Output goes on for ever: `max_tokens`
    and stop tokens are the cores' business.
    """

    def __init__(self, request: Request) -> None:
        self.seed = request.sampling.seed
        self.prompt_tokens = len(request.token_ids)
        self.token_ids = list(request.token_ids)
        self.tags: list[int] = []
        self._grow_tags()

    def upto(self, length: int) -> None:
        """Make `token_ids` and `tags` at least `length` long."""
        while len(self.token_ids) < length:
            self.token_ids.append(draw(self.seed, self.tags[-1]))
            self._grow_tags()

    def output(self, index: int) -> int:
        """Output token number `index`."""
        self.upto(self.prompt_tokens + index + 1)
        return self.token_ids[self.prompt_tokens + index]

    def _grow_tags(self) -> None:
        tag = self.tags[-1] if self.tags else EMPTY
        for token_id in self.token_ids[len(self.tags) :]:
            tag = tag_after(tag, token_id)
            self.tags.append(tag)
