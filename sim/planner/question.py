"""What every fleet of a plan is asked: this model, this load, this SLO."""

from dataclasses import dataclass, replace
from statistics import fmean

from ...proto.views import Role
from ..costs.specs import ModelSpec
from .budgets import Budgets, stall_free
from .machines import WorkerType
from .slo import Slo
from .trace import Load


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """`tokens` per iteration: given for all, or (None) as each role and machine has it best.

    `copies`: parts of one chunk's KV in a handoff, instead of one per layer. Each costs events; one
    of them is not hidden behind the prefill.
    """

    model: ModelSpec
    load: Load
    slo: Slo
    tokens: int | None = None
    seed: int = 1
    copies: int = 4

    @property
    def block_tokens(self) -> int:
        """Tokens of a KV block."""
        return Budgets().block_tokens

    def budgets(self, kind: WorkerType, role: Role) -> Budgets:
        """The limits of such a worker."""
        base = Budgets()
        if self.tokens is not None:
            return base.of_tokens(self.tokens)
        if role is not Role.MIXED:
            return base
        prompt_tokens = fmean(a.prompt_tokens for a in self.load.arrivals)
        return stall_free(base, kind, self.model, self.slo.tpot_s, prompt_tokens)

    def on(self, load: Load) -> "Question":
        """The same of another load."""
        return replace(self, load=load)

    def faster(self, factor: float) -> "Question":
        """The same at another rate."""
        return replace(self, load=self.load.faster(factor))
