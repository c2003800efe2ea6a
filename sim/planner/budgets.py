"""The limits under which a fleet's workers work.

Where prefill has workers of its own, its iterations may be long. A mixed worker's are as
long as the TPOT bound allows: the largest budget of which a full iteration, `BESIDE`
decodes in it, keeps within the bound (stall-free, as Sarathi-Serve calls it).
"""

from dataclasses import dataclass, replace

from ...proto.toml_file import ConfigError
from ..costs.build import power_model
from ..costs.specs import ModelSpec
from ..costs.work import Prefill, Work
from .machines import WorkerType

TOKENS = (2048, 1024, 512, 256, 128)
BESIDE = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Budgets:
    """A worker's limits, as in `[budgets]` of a cluster.toml, and the router's."""

    block_tokens: int = 16
    batched_tokens_max: int = 2048
    prefill_chunk_tokens: int = 2048
    sequences_max: int = 1024
    in_place_tokens_max: int = 32  # prompts this short may be prefilled where they decode

    def __post_init__(self) -> None:
        for name in ("block_tokens", "batched_tokens_max", "sequences_max"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} ({getattr(self, name)}) must be at least 1")
        for name in ("prefill_chunk_tokens", "sequences_max"):
            if getattr(self, name) > self.batched_tokens_max:
                raise ConfigError(
                    f"{name} ({getattr(self, name)}) exceeds batched_tokens_max "
                    f"({self.batched_tokens_max})"
                )

    def of_tokens(self, tokens: int) -> "Budgets":
        """The same with `tokens` per iteration."""
        places = min(self.sequences_max, tokens)
        return replace(
            self, batched_tokens_max=tokens, prefill_chunk_tokens=tokens, sequences_max=places
        )


def stall_free(
    base: Budgets, kind: WorkerType, model: ModelSpec, tpot_s: float, prompt_tokens: float
) -> Budgets:
    """What a mixed worker of that type keeps the TPOT bound with, or the smallest there is."""
    costs, power = kind.costs(model), power_model(kind.spec)
    for tokens in TOKENS:
        prefill = Prefill(tokens - BESIDE, round(prompt_tokens / 2))
        work = Work((prefill,), BESIDE, round(BESIDE * prompt_tokens), draws=BESIDE + 1)
        longer = 1.0 if power is None else power.lengthening(work)
        if costs.parts(work).total_s * longer <= tpot_s:
            return base.of_tokens(tokens)
    return base.of_tokens(TOKENS[-1])
