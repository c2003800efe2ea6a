"""A fleet: one pool of mixed workers, or one that prefills beside one that decodes."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from ...proto.views import Role
from .machines import WorkerType
from .slo import Unit


@dataclass(frozen=True, slots=True)
class Shape:
    """Fleets that differ only in how many workers each pool has."""

    roles: tuple[Role, ...]
    types: tuple[WorkerType, ...]

    @property
    def disaggregated(self) -> bool:
        return len(self.roles) > 1

    @property
    def name(self) -> str:
        pools = zip(self.roles, self.types, strict=True)
        return " + ".join(f"{role} {kind.name}" for role, kind in pools)

    def costs(self, unit: Unit) -> tuple[float, ...]:
        """Of one worker of each pool."""
        return tuple(kind.cost(unit) for kind in self.types)


@dataclass(frozen=True, slots=True)
class Fleet:
    """So many workers of each pool of a shape; a pool may have lost all of them."""

    shape: Shape
    counts: tuple[int, ...]

    @property
    def name(self) -> str:
        """`4 prefill H100-TP4 + 6 decode A100-80G-TP4`: unique in a plan."""
        pools = zip(self.counts, self.shape.roles, self.shape.types, strict=True)
        return " + ".join(f"{count} {role} {kind.name}" for count, role, kind in pools)

    @property
    def gpus(self) -> int:
        pools = zip(self.counts, self.shape.types, strict=True)
        return sum(count * kind.gpus for count, kind in pools)

    @property
    def dollars_per_hour(self) -> float:
        return self.cost(Unit.DOLLARS)

    @property
    def watts(self) -> float:
        """The GPUs' power limits added up."""
        return self.cost(Unit.WATTS)

    def cost(self, unit: Unit) -> float:
        costs = self.shape.costs(unit)
        return sum(count * cost for count, cost in zip(self.counts, costs, strict=True))

    def without_one(self, pool: int) -> "Fleet":
        """One worker of that pool fewer."""
        counts = [count - (index == pool) for index, count in enumerate(self.counts)]
        return Fleet(self.shape, tuple(counts))


def shapes_of(types: Sequence[WorkerType], roles: Sequence[Role] = tuple(Role)) -> list[Shape]:
    """Mixed pools of each type, and every pair of a prefill and a decode pool."""
    found: list[Shape] = []
    if Role.MIXED in roles:
        found += [Shape((Role.MIXED,), (kind,)) for kind in types]
    if Role.PREFILL in roles and Role.DECODE in roles:
        found += [Shape((Role.PREFILL, Role.DECODE), pair) for pair in product(types, types)]
    return found
