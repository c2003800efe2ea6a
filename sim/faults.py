"""What can go wrong in a run, as data: printed, a plan tells the story of a failing seed.

`plan.py` draws it, `inject.py` makes it happen.
"""

from dataclasses import dataclass
from enum import StrEnum

from ..proto.ids import GatewayId, WorkerId
from ..proto.views import Role
from ..workers.core.halves import Half
from .network import PartyName, Trouble


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
    """Copies fail, arrive damaged, or have left long before their source is told."""

    at_ns: int
    for_ns: int
    fail: float
    damage: float
    told_late_ns_max: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class HostTrouble:
    """A worker's copies to host memory and back fail, with this probability."""

    at_ns: int
    for_ns: int
    worker_id: WorkerId
    fail: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StuckTransport:
    """A worker finds that a call of its KV transport never returns."""

    at_ns: int
    worker_id: WorkerId


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
    """An operator moves some running request; `pick` says which, `target` where to.

    While none runs it is tried again every `again_ns`, or with 0 asked for nobody.
    """

    at_ns: int
    pick: int
    target: WorkerId | None
    again_ns: int = 0


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


@dataclass(frozen=True, slots=True, kw_only=True)
class CutPair:
    """`target` does not hear `source`; with `copies`, those do not arrive either."""

    at_ns: int
    for_ns: int
    source: PartyName
    target: PartyName
    copies: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class FullMemory:
    """Others hold `share` of a worker's free blocks for a while."""

    at_ns: int
    for_ns: int
    worker_id: WorkerId
    share: float


class Deed(StrEnum):
    """What a stage fault does."""

    CRASH = "crash"
    FREEZE = "freeze"
    CUT = "cut"  # the other side does not hear it
    HANG_UP = "hang up"  # the client of the request
    GATEWAY = "gateway"  # the request's gateway crashes
    CONTROLLER = "controller"  # it restarts
    ECHO = "echo"  # an earlier message to it comes again
    STRAY_ACK = "stray ack"  # a gateway that does not know the stream says that it has ended
    FILL = "fill"  # others take nearly all its free blocks


@dataclass(frozen=True, slots=True, kw_only=True)
class StageFault:
    """From `at_ns` on: the first worker whose half of a move comes to `half` is hurt.

    Or with `peer` the other side, `delay_ns` after.
    """

    at_ns: int
    half: Half
    deed: Deed
    peer: bool
    delay_ns: int
    for_ns: int
    noticed_ns: int
    pick: int  # which message, for an echo


@dataclass(frozen=True, slots=True, kw_only=True)
class LateLetter:
    """From `at_ns` on: the next `letters` letters of a kind to workers come late.

    Each when halves of the moves that it is about have changed `changes` times, `for_ns`
    late at most.
    """

    at_ns: int
    for_ns: int
    kind: str
    changes: int
    letters: int


Fault = (
    Crash
    | Freeze
    | MessageTrouble
    | Cut
    | SlowLink
    | CopyTrouble
    | HostTrouble
    | StuckTransport
    | ControllerRestart
    | GatewayCrash
    | Migrate
    | Drain
    | SwitchRole
    | HangUp
    | CutPair
    | FullMemory
    | StageFault
    | LateLetter
)
