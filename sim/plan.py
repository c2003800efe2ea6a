"""Draws from the seed, beforehand, what goes wrong in a run and when.

Worker names are drawn as well, so the same seed hurts the same workers.
"""

from collections.abc import Sequence
from random import Random

from ..proto.ids import GatewayId, WorkerId
from ..proto.views import Role
from ..workers.core.halves import Half
from .clock import to_ns
from .concerns import OTHER_ASSIGNED
from .coverage import OWN, ROWS
from .faults import (
    ControllerRestart,
    CopyTrouble,
    Crash,
    Cut,
    CutPair,
    Deed,
    Drain,
    Fault,
    Freeze,
    FullMemory,
    GatewayCrash,
    HangUp,
    HostTrouble,
    LateLetter,
    MessageTrouble,
    Migrate,
    SlowLink,
    StageFault,
    StuckTransport,
    SwitchRole,
)
from .network import PartyName, Trouble
from .scenario import FaultSpec

# Every letter about a move, and what else a move's course hangs on.
TROUBLED_KINDS = (
    "LeaseAsked", "LeaseOpened", "LeaseRefused", "HandoverOffered", "MoveCommitted",
    "MoveAborted", "AbortAcked", "MoveOrdered", "MoveEnded", "RequestAssigned",
    "RequestCancelled", "RequestEnded", "RequestDisplaced", "RequestAccepted",
    "RequestDropped", "StreamAcked", "TokensEmitted", "PeerLost", "GatewayLost",
    "WorkerViewed", "WorkerRegistered", "RoleAssigned",
)  # fmt: skip
# What a worker is told about moves; the tables' rows, without those that are no type of event.
LETTERS = tuple(
    dict.fromkeys(
        row for rows in ROWS.values() for row in rows if row not in OWN and row != OTHER_ASSIGNED
    )
)
# Of these hardly any come late by chance: their receiver has forgotten what they speak of.
RARE_LETTERS = ("StreamAcked", "AbortAcked", "MoveAborted")
NOTICED_S = (1.0, 2.0)  # from a worker's death to the controller's word, as measured live
STAGES = tuple(half for half in Half if half is not Half.NONE)


def draw_plan(
    spec: FaultSpec,
    seed: int,
    workers: list[WorkerId],
    arrivals_ns: list[int],
    gateways: Sequence[GatewayId] = (GatewayId("gateway.0"),),
) -> list[Fault]:
    """Everything that will go wrong, in order of time."""
    dice = _Dice(spec, Random(f"faults {seed}"), workers, gateways)
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
    plan += [dice.stage() for _ in dice.upto(spec.stage_faults)]
    plan += [dice.partition() for _ in dice.upto(spec.partitions)]
    plan += [dice.kind_loss() for _ in dice.upto(spec.kind_losses)]
    plan += [dice.full_memory() for _ in dice.upto(spec.full_memories)]
    plan += [dice.stuck() for _ in dice.upto(spec.stuck_transports)]
    plan += [dice.letter() for _ in dice.upto(spec.late_letters)]
    plan += [dice.host() for _ in dice.upto(spec.host_troubles)]
    if spec.mtbf_s:
        plan += _failures(spec, Random(f"failures {seed}"), workers)
    return sorted(plan, key=lambda fault: fault.at_ns)


def _failures(spec: FaultSpec, dice: Random, workers: list[WorkerId]) -> list[Fault]:
    """Each worker fails as a Poisson process does, while it is up."""
    plan: list[Fault] = []
    for worker_id in workers:
        at_s = dice.expovariate(1 / spec.mtbf_s)
        while at_s < spec.until_s:
            noticed_ns = to_ns(dice.uniform(*NOTICED_S))
            plan.append(
                Crash(
                    at_ns=to_ns(at_s), worker_id=worker_id, noticed_ns=noticed_ns,
                    down_ns=to_ns(spec.restart_s),
                )
            )  # fmt: skip
            at_s += spec.restart_s + dice.expovariate(1 / spec.mtbf_s)
    return plan


class _Dice:
    def __init__(
        self,
        spec: FaultSpec,
        random: Random,
        workers: list[WorkerId],
        gateways: Sequence[GatewayId],
    ) -> None:
        self._gateways = gateways
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
        parties: list[PartyName] = ["controller", *self._gateways, *self._workers]
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
            told_late_ns_max=self._random.choice((0, self._ns(0.0, 0.3), self._ns(0.0, 3.0))),
        )  # fmt: skip

    def stuck(self) -> StuckTransport:
        return StuckTransport(at_ns=self._at_ns(), worker_id=self._worker())

    def host(self) -> HostTrouble:
        return HostTrouble(
            at_ns=self._at_ns(), for_ns=self._ns(0.1, 3.0), worker_id=self._worker(),
            fail=self._random.choice((0.3, 1.0)),
        )  # fmt: skip

    def stage(self) -> StageFault:
        half = self._random.choice(STAGES)
        kind = self._random.random()
        letter = Deed.ECHO if kind < 0.5 else Deed.STRAY_ACK
        deed = letter if kind < 0.65 else self._random.choice(list(Deed))
        return StageFault(
            at_ns=self._at_ns(), half=half, deed=deed, pick=self._random.randrange(1 << 30),
            peer=self._random.random() < 0.5,
            delay_ns=self._random.choice((0, self._ns(0.0, 0.02), self._ns(0.0, 0.5))),
            for_ns=self._ns(0.01, 3.0),
            noticed_ns=self._random.choice((1, self._ns(0.0, 0.01), self._ns(0.001, 1.0))),
        )  # fmt: skip

    def letter(self) -> LateLetter:
        kinds = RARE_LETTERS if self._random.random() < 0.3 else LETTERS
        return LateLetter(
            at_ns=self._at_ns(), for_ns=self._ns(0.0, 3.0), kind=self._random.choice(kinds),
            changes=self._random.randint(1, 5), letters=self._random.choice((1, 2, 8)),
        )  # fmt: skip

    def partition(self) -> CutPair:
        between_workers = self._random.random() < 0.5
        parties: list[PartyName] = ["controller", *self._gateways, *self._workers]
        chosen = self._workers if between_workers and len(self._workers) > 1 else parties
        source, target = self._random.sample(chosen, 2)
        return CutPair(
            at_ns=self._at_ns(), for_ns=self._ns(0.05, 3.0), source=source, target=target,
            copies=self._random.random() < 0.5,
        )  # fmt: skip

    def kind_loss(self) -> MessageTrouble:
        trouble = Trouble(
            loss=self._random.choice((0.0, 0.5, 1.0)),
            duplicate=self._random.choice((0.0, 0.5, 1.0)),
            delay_ns_max=self._random.choice((0, self._ns(0.0, 0.1), self._ns(0.0, 3.0))),
            kinds=tuple(self._random.sample(TROUBLED_KINDS, self._random.randint(1, 3))),
        )
        return MessageTrouble(at_ns=self._at_ns(), for_ns=self._ns(0.1, 3.0), trouble=trouble)

    def full_memory(self) -> FullMemory:
        return FullMemory(
            at_ns=self._at_ns(), for_ns=self._ns(0.1, 3.0), worker_id=self._worker(),
            share=self._random.choice((0.5, 0.9, 1.0)),
        )  # fmt: skip

    def controller(self) -> ControllerRestart:
        return ControllerRestart(at_ns=self._at_ns(), down_ns=self._ns(0.01, 3.0))

    def gateway(self) -> GatewayCrash:
        return GatewayCrash(
            at_ns=self._at_ns(), gateway_id=self._random.choice(self._gateways),
            noticed_ns=self._ns(0.001, 1.0), down_ns=self._ns(0.1, 3.0),
        )  # fmt: skip

    def migrate(self) -> Migrate:
        named = self._random.random() < 0.7
        return Migrate(
            at_ns=self._at_ns(), pick=self._random.randrange(1 << 30),
            target=self._worker() if named else None, again_ns=to_ns(self._spec.migrate_again_s),
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
