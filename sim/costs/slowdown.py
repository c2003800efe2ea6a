"""How much longer an iteration takes while other workers of its machine compute.

They share caches, memory and perhaps cores, and so slow each other. A measured table says
by how much, above its columns; `splitweave profile --beside N` measures it:

    # slowdown prefill = 1.31 beside 1 prefill, 1.12 beside 1 decode
    # slowdown decode = 1.18 beside 1 prefill, 1.24 beside 1 decode

or, for all of it, `# slowdown = 1.25 beside 1`. Each neighbour that computes adds its share:
an iteration that takes s times as long beside N takes 1 + k (s - 1) / N beside k of them.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from itertools import product
from pathlib import Path

from .errors import CostError
from .rows import read_provenance
from .work import Work

FACTOR = re.compile(r"(\d+(?:\.\d+)?) beside (\d+)(?: (prefill|decode))?")


class Kind(Enum):
    """What an iteration asks of a machine. One with any prefill in it is a prefill."""

    PREFILL = "prefill"
    DECODE = "decode"


@dataclass(frozen=True, slots=True, kw_only=True)
class Slowdown:
    """What one neighbour adds to an iteration's time, by (own kind, the neighbour's kind)."""

    added: Mapping[tuple[Kind, Kind], float] = field(default_factory=dict)

    def factor(self, kind: Kind, beside: Iterable[Kind]) -> float:
        """How many times as long an iteration takes while those compute."""
        return 1.0 + sum(self.added.get((kind, other), 0.0) for other in beside)

    def describe(self) -> str:
        """One line for the report."""
        ways = [f"{kind.value} {self._beside(kind)}" for kind in Kind]
        return "slowdown beside one more worker: " + "; ".join(ways)

    def _beside(self, kind: Kind) -> str:
        said = (f"{self.factor(kind, (other,)):.3g} ({other.value})" for other in Kind)
        return ", ".join(said)


def kind_of(work: Work) -> Kind:
    """Which kind an iteration of that work is."""
    return Kind.PREFILL if work.prefills else Kind.DECODE


def given_slowdown(factor: float) -> Slowdown:
    """The same for every kind, per neighbour."""
    return Slowdown(added=dict.fromkeys(product(Kind, Kind), factor - 1))


def read_slowdown(path: Path) -> Slowdown | None:
    """What the table at `path` says above its columns; None if nothing. Raises CostError."""
    provenance = read_provenance(path)
    added: dict[tuple[Kind, Kind], float] = {}
    for kind in Kind:
        for key in ("slowdown", f"slowdown {kind.value}"):
            if key in provenance:
                for other, extra in _parsed(path, key, provenance[key]):
                    added[kind, other] = extra
    return Slowdown(added=added) if added else None


def _parsed(path: Path, key: str, text: str) -> list[tuple[Kind, float]]:
    """(the neighbours' kind, what each of them adds)."""
    found: list[tuple[Kind, float]] = []
    for part in text.split(","):
        match = FACTOR.fullmatch(part.strip())
        if match is None or float(match[1]) < 1 or not int(match[2]):
            raise CostError(
                f"{path}: {key} is {text!r}; expected `FACTOR beside N` or `FACTOR beside N "
                "prefill, FACTOR beside N decode`, factors >= 1"
            )
        kinds = tuple(Kind) if match[3] is None else (Kind(match[3]),)
        found += [(kind, (float(match[1]) - 1) / int(match[2])) for kind in kinds]
    return found
