"""The requests of a run: greedy and seeded, the same for the same seed."""

import random
from dataclasses import dataclass
from typing import Any

# Ids that are ordinary words in every vocabulary that is served here.
FIRST_TOKEN_ID, LAST_TOKEN_ID = 100, 40_000


@dataclass(frozen=True, kw_only=True)
class Ask:
    """One request. `token_ids` is its prompt."""

    index: int
    token_ids: tuple[int, ...]
    max_tokens: int
    sampled: bool

    @property
    def options(self) -> dict[str, Any]:
        """For the SDK."""
        options: dict[str, Any] = {"max_tokens": self.max_tokens, "ignore_eos": True}
        if self.sampled:
            options |= {"temperature": 0.9, "top_p": 0.9, "top_k": 50, "seed": 1 + self.index}
        return options


@dataclass(frozen=True, kw_only=True)
class Mix:
    """What requests look like: (least, most) tokens."""

    prompt_tokens: tuple[int, int]
    output_tokens: tuple[int, int]


def draw_asks(count: int, mix: Mix, seed: int) -> list[Ask]:
    """Every other one is sampled. Lengths are even on a log scale."""
    generator = random.Random(seed)
    return [_draw(generator, index, mix) for index in range(count)]


def _draw(generator: random.Random, index: int, mix: Mix) -> Ask:
    low, high = mix.prompt_tokens
    tokens = round(low * (high / low) ** generator.random())
    ids = (generator.randint(FIRST_TOKEN_ID, LAST_TOKEN_ID) for _ in range(tokens))
    return Ask(
        index=index,
        token_ids=tuple(ids),
        max_tokens=generator.randint(*mix.output_tokens),
        sampled=index % 2 == 1,
    )
