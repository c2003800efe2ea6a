"""What goes wrong in a run, and when: a plan drawn from the seed beforehand.

A plan is data: printed, it tells the story of a failing seed. Worker names are
drawn as well, so the same seed hurts the same workers.
"""

from dataclasses import dataclass
from random import Random

from ..proto.ids import GatewayId, WorkerId
from ..proto.views import Role
from .clock import to_ns
from .network import PartyName, Trouble
from .scenario import FaultSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Crash:
    """A worker's process dies; a new incarnation comes up `down_ns` later."""

    at_ns: int
    worker_id: WorkerId
    noticed_ns: int
    down_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Freeze:
    """A worker's process stops for a while. Given `killed_ns`, it is killed that long after."""

    at_ns: int
    worker_id: WorkerId
    for_ns: int
    killed_ns: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageTrouble:
    """Messages are lost, doubled, late."""

    at_ns: int
    for_ns: int
    trouble: Trouble


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """A party hears and says nothing."""

    at_ns: int
    for_ns: int
    party: PartyName


@dataclass(frozen=True, slots=True, kw_only=True)
class SlowLink:
    """Copies through a worker's port take `factor` times as long."""

    at_ns: int
    for_ns: int
    worker_id: WorkerId
    factor: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyTrouble:
    """Copies fail, or arrive damaged."""

    at_ns: int
    for_ns: int
    fail: float
    damage: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ControllerRestart:
    """The controller dies, and comes back knowing nothing."""

    at_ns: int
    down_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayCrash:
    """A gateway dies with its streams; it comes back, empty, under the same name."""

    at_ns: int
    gateway_id: GatewayId
    noticed_ns: int
    down_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Migrate:
    """An operator moves some running request; `pick` says which, `target` where to."""

    at_ns: int
    pick: int
    target: WorkerId | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Drain:
    """An operator drains a worker; its pool replaces it once it is empty."""

    at_ns: int
    worker_id: WorkerId


@dataclass(frozen=True, slots=True, kw_only=True)
class SwitchRole:
    """An operator gives a worker another role."""

    at_ns: int
    worker_id: WorkerId
    role: Role


@dataclass(frozen=True, slots=True, kw_only=True)
class HangUp:
    """A client goes away, if its stream is still open."""

    at_ns: int
    index: int


Fault = (
    Crash
    | Freeze
    | MessageTrouble
    | Cut
    | SlowLink
    | CopyTrouble
    | ControllerRestart
    | GatewayCrash
    | Migrate
    | Drain
    | SwitchRole
    | HangUp
)


def draw_plan(
    spec: FaultSpec, seed: int, workers: list[WorkerId], arrivals_ns: list[int]
) -> list[Fault]:
    """Everything that will go wrong, in order of time."""
    dice = _Dice(spec, Random(f"faults {seed}"), workers)
    plan: list[Fault] = []
    plan += [dice.crash() for _ in dice.upto(spec.crashes)]
    plan += [dice.freeze() for _ in dice.upto(spec.freezes)]
    plan += [dice.messages() for _ in dice.upto(spec.message_troubles)]
    plan += [dice.cut() for _ in dice.upto(spec.cuts)]
    plan += [dice.slow_link() for _ in dice.upto(spec.slow_links)]
    plan += [dice.copies() for _ in dice.upto(spec.copy_troubles)]
    plan += [dice.controller() for _ in dice.upto(spec.controller_restarts)]
    plan += [dice.gateway() for _ in dice.upto(spec.gateway_crashes)]
    plan += [dice.migrate() for _ in dice.upto(spec.migrations)]
    plan += [dice.drain() for _ in dice.upto(spec.drains)]
    plan += [dice.role() for _ in dice.upto(spec.role_switches)]
    plan += dice.hang_ups(arrivals_ns)
    return sorted(plan, key=lambda fault: fault.at_ns)


class _Dice:
    def __init__(self, spec: FaultSpec, random: Random, workers: list[WorkerId]) -> None:
        self._spec = spec
        self._random = random
        self._workers = workers

    def upto(self, most: int) -> range:
        return range(self._random.randint(0, most))

    def _at_ns(self) -> int:
        return to_ns(self._random.uniform(0.0, self._spec.until_s))

    def _ns(self, low_s: float, high_s: float) -> int:
        return to_ns(self._random.uniform(low_s, high_s))

    def _worker(self) -> WorkerId:
        return self._random.choice(self._workers)

    def crash(self) -> Crash:
        return Crash(
            at_ns=self._at_ns(), worker_id=self._worker(),
            noticed_ns=self._ns(0.001, 1.0), down_ns=self._ns(0.01, 3.0),
        )  # fmt: skip

    def freeze(self) -> Freeze:
        killed = self._random.random() < 0.5
        return Freeze(
            at_ns=self._at_ns(), worker_id=self._worker(),
            for_ns=self._ns(0.01, self._spec.freeze_s_max),
            killed_ns=self._ns(0.0, 2.0) if killed else None,
        )  # fmt: skip

    def messages(self) -> MessageTrouble:
        spec, chance = self._spec, self._random.random
        trouble = Trouble(
            loss=spec.message_loss * chance(),
            duplicate=spec.message_duplicate * chance(),
            delay_ns_max=to_ns(spec.message_delay_s * chance()),
        )
        return MessageTrouble(at_ns=self._at_ns(), for_ns=self._ns(0.1, 3.0), trouble=trouble)

    def cut(self) -> Cut:
        parties: list[PartyName] = ["controller", "gateway.0", *self._workers]
        party = self._random.choice(parties)
        return Cut(at_ns=self._at_ns(), for_ns=self._ns(0.05, 3.0), party=party)

    def slow_link(self) -> SlowLink:
        return SlowLink(
            at_ns=self._at_ns(), for_ns=self._ns(0.1, 3.0), worker_id=self._worker(),
            factor=10 ** self._random.uniform(1.0, 4.0),
        )  # fmt: skip

    def copies(self) -> CopyTrouble:
        return CopyTrouble(
            at_ns=self._at_ns(), for_ns=self._ns(0.1, 3.0),
            fail=0.5 * self._random.random(), damage=0.5 * self._random.random(),
        )  # fmt: skip

    def controller(self) -> ControllerRestart:
        return ControllerRestart(at_ns=self._at_ns(), down_ns=self._ns(0.01, 3.0))

    def gateway(self) -> GatewayCrash:
        return GatewayCrash(
            at_ns=self._at_ns(), gateway_id=GatewayId("gateway.0"),
            noticed_ns=self._ns(0.001, 1.0), down_ns=self._ns(0.1, 3.0),
        )  # fmt: skip

    def migrate(self) -> Migrate:
        named = self._random.random() < 0.7
        return Migrate(
            at_ns=self._at_ns(), pick=self._random.randrange(1 << 30),
            target=self._worker() if named else None,
        )  # fmt: skip

    def drain(self) -> Drain:
        return Drain(at_ns=self._at_ns(), worker_id=self._worker())

    def role(self) -> SwitchRole:
        return SwitchRole(
            at_ns=self._at_ns(), worker_id=self._worker(), role=self._random.choice(list(Role))
        )

    def hang_ups(self, arrivals_ns: list[int]) -> list[HangUp]:
        return [
            HangUp(at_ns=at_ns + self._ns(0.0, 2.0), index=index)
            for index, at_ns in enumerate(arrivals_ns)
            if self._random.random() < self._spec.cancels
        ]
