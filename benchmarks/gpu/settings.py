"""What a section is told; the defaults are the real run, a test shrinks them."""

from dataclasses import dataclass

MIB = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Settings:
    """`backend` is "nccl" or "gloo", `device` "cuda" or "cpu"; `model` a path, empty: find one.

    `seconds` is how long one timing repeats; `sizes` are the copies that are timed,
    `large_bytes` one that is surely under way when its peer is hurt, `shapes` the caches of
    `block_copies.py`, `slack_s` what the end of a copy may come late. The engines answer
    `prompts` prompts with `output_tokens` tokens.
    """

    device: str = "cuda"
    backend: str = "nccl"
    model: str = ""
    seconds: float = 0.5
    sizes: tuple[int, ...] = (64 << 10, 1 * MIB, 8 * MIB, 64 * MIB)
    total_bytes: int = 512 * MIB
    large_bytes: int = 256 * MIB
    copy_timeout_s: float = 10.0
    slack_s: float = 1.0
    prompts: int = 4
    output_tokens: int = 32
    shapes: tuple[str, ...] = ("SmolLM2-135M", "8B", "70B, one of 8 ranks")
