"""What is done to a cluster, by a plan that its seed repeats."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

FREEZE_S = 10.0


class Kind(StrEnum):
    """What can be done."""

    KILL_WORKER = "kill -9 worker"
    FREEZE_WORKER = f"SIGSTOP worker {FREEZE_S:g} s"
    KILL_CONTROLLER = "kill -9 controller"
    KILL_GATEWAY = "kill -9 gateway"
    CUT_PAIR = "cut a KV pair"


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One thing to do, `at_s` after the load began. `pick` chooses among those it can hit."""

    at_s: float
    kind: Kind
    pick: int


@dataclass(kw_only=True)
class Recovery:
    """One fault and what followed, in seconds after it; None: it was not seen.

    `touched`: the requests that were there. `at_s` is on the monotonic clock.
    """

    fault: Fault
    target: str
    at_s: float
    touched: list[str] = field(default_factory=list)
    noticed_s: float | None = None
    back_s: float | None = None


def draw_plan(kinds: Sequence[Kind], every_s: float, seed: int) -> Iterator[Fault]:
    """One fault every `every_s`, for ever; each kind once before any comes again."""
    generator = random.Random(seed)
    bag: list[Kind] = []
    at_s = 0.0
    while True:
        at_s += every_s
        if not bag:
            bag = generator.sample(kinds, len(kinds))
        yield Fault(at_s=at_s, kind=bag.pop(), pick=generator.randrange(1 << 30))
