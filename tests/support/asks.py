"""Sixteen requests of mixed lengths, greedy and seeded: the same in every test."""

import random
from dataclasses import dataclass, field
from typing import Any

WORDS = (
    *("river", "stone", "lantern", "winter", "garden", "music", "bridge", "copper", "letter"),
    *("harbour", "window", "silver", "morning", "engine", "paper", "forest", "candle", "island"),
)


@dataclass(frozen=True)
class Ask:
    """One request as prompt and options of the SDK."""

    prompt: str
    options: dict[str, Any] = field(default_factory=dict)


def sixteen(seed: int = 5) -> list[Ask]:
    """Prompts of 5 to 400 words, outputs of 32 to 48 tokens; every other one is sampled."""
    generator = random.Random(seed)
    asks = []
    for index in range(16):
        words = generator.choice((5, 20, 60, 150, 400))
        prompt = " ".join(generator.choices(WORDS, k=words))
        options: dict[str, Any] = {"max_tokens": generator.randint(32, 48), "ignore_eos": True}
        if index % 2:
            options |= {"temperature": 0.9, "top_p": 0.9, "top_k": 50, "seed": index}
        if index % 4 == 3:
            options |= {"repetition_penalty": 1.1, "presence_penalty": 0.2}
        asks.append(Ask(f"Write about: {prompt}.", options))
    return asks


def growing(seed: int = 6) -> list[Ask]:
    """Eight prompts of 70 words whose outputs are as long; every other one is sampled."""
    generator = random.Random(seed)
    asks = []
    for index in range(8):
        options: dict[str, Any] = {"max_tokens": 96, "ignore_eos": True}
        if index % 2:
            options |= {"temperature": 0.9, "seed": index}
        asks.append(Ask(f"Write about: {' '.join(generator.choices(WORDS, k=70))}.", options))
    return asks
