"""Who works: alive, suspect, draining, dead; and the fence around the dead.

    alive -> suspect (silent for suspect_after_ns) -> alive (heard again)
    alive, suspect -> dead (silent for dead_after_ns, its process seen dead, or a
                            higher incarnation has registered)

Dead is for ever: a later word of that incarnation, or of an older one, is
dropped. `standing` is the one place that decides it.
"""

from dataclasses import dataclass
from enum import StrEnum

from ...proto.cluster_events import AfterDrain, WorkerRegistered, WorkerViewed
from ...proto.ids import WorkerId, WorkerKey
from ...proto.views import Role, WorkerInfo, WorkerView
from ..policy.placement import Candidate
from .bookings import Booking
from .limits import ClusterLimits


class WorkerState(StrEnum):
    """How a worker stands, as operators see it."""

    STARTING = "starting"  # expected, and not registered yet
    ALIVE = "alive"
    DRAINING = "draining"
    SUSPECT = "suspect"
    DEAD = "dead"
    RETIRED = "retired"  # drained, or given up: not started again


class Standing(StrEnum):
    """Whether a message's sender may be listened to."""

    CURRENT = "current"
    FENCED = "fenced"
    UNKNOWN = "unknown"  # never registered here: a new one, or we are


@dataclass(slots=True, kw_only=True)
class WorkerRecord:
    """One life of a worker, as its messages told."""

    info: WorkerInfo
    view: WorkerView
    role: Role  # what the controller wants; `view.role` may lag
    draining: bool  # likewise
    heard_ns: int
    born_ns: int  # when it registered here first
    number: int  # of the last heartbeat
    suspect: bool = False
    dead: bool = False
    wants_registration: bool = False  # changes were lost; ask until it registers
    ends: AfterDrain | None = None  # it is to end, and what then
    deaths_told_ns: int | None = None
    seen: tuple[Booking, Candidate] | None = None  # what a policy saw last, with its bookings

    @property
    def key(self) -> WorkerKey:
        return self.info.key

    @property
    def placeable(self) -> bool:
        """Whether it may get new work."""
        return not (self.draining or self.suspect or self.dead)

    @property
    def prefills(self) -> bool:
        return self.role is not Role.DECODE

    @property
    def decodes(self) -> bool:
        return self.role is not Role.PREFILL

    @property
    def state(self) -> WorkerState:
        if self.ends is AfterDrain.RETIRE:
            return WorkerState.RETIRED
        if self.dead:
            return WorkerState.DEAD
        if self.suspect:
            return WorkerState.SUSPECT
        return WorkerState.DRAINING if self.draining else WorkerState.ALIVE


class Membership:
    """All workers, one record per worker id: its newest life."""

    def __init__(self, limits: ClusterLimits) -> None:
        self._limits = limits
        self._records: dict[WorkerId, WorkerRecord] = {}
        self._deaths: dict[WorkerKey, None] = {}  # bounded, oldest first
        # Dead lives that never registered here: others told of them. All are in `_deaths`.
        self._fences: dict[WorkerId, WorkerKey] = {}

    def standing(self, key: WorkerKey) -> Standing:
        """The fence: what a word from `key` is worth."""
        fence = self._fences.get(key.worker_id)
        if fence is not None and key.incarnation <= fence.incarnation:
            return Standing.FENCED
        record = self._records.get(key.worker_id)
        if record is None or key.incarnation > record.key.incarnation:
            return Standing.UNKNOWN
        return Standing.FENCED if key != record.key or record.dead else Standing.CURRENT

    def current(self, key: WorkerKey) -> WorkerRecord | None:
        """The record of that very incarnation, if it is not dead."""
        record = self._records.get(key.worker_id)
        return record if record is not None and record.key == key and not record.dead else None

    def get(self, worker_id: WorkerId) -> WorkerRecord | None:
        """The newest life of a worker, dead or not."""
        return self._records.get(worker_id)

    def all(self) -> list[WorkerRecord]:
        """Every record, dead ones included, by id."""
        return [self._records[worker_id] for worker_id in sorted(self._records)]

    def living(self) -> list[WorkerRecord]:
        """All that are not dead, in the order they first came."""
        return [record for record in self._records.values() if not record.dead]

    def placeable(self) -> list[WorkerRecord]:
        """All that may get new work, in the order they first came."""
        records = self._records.values()  # `WorkerRecord.placeable`, without a call for each
        return [r for r in records if not (r.draining or r.suspect or r.dead)]

    def deaths(self) -> list[WorkerKey]:
        """Dead incarnations, oldest first."""
        return list(self._deaths)

    def add(self, event: WorkerRegistered, now_ns: int) -> WorkerRecord | None:
        """A new life registers; its older one must be buried. None if there is no room.

        A worker never seen before may have served an earlier controller: its view
        tells the role and whether it was draining.
        """
        worker_id = event.info.key.worker_id
        older = self._records.get(worker_id)
        if older is None and len(self._records) >= self._limits.workers_max:
            return None
        assert older is None or older.dead, older
        record = WorkerRecord(
            info=event.info,
            view=event.view,
            role=event.view.role if older is None else older.role,
            draining=event.view.draining and older is None,
            heard_ns=now_ns,
            born_ns=now_ns,
            number=event.number,
        )
        self._records[worker_id] = record
        return record

    def refresh(self, record: WorkerRecord, event: WorkerRegistered, now_ns: int) -> bool:
        """It registers again. False if a later view overtook this.

        What had changed in its prefix cache is then lost: it must register once more.
        """
        _hear(record, now_ns)
        record.wants_registration = event.view.observed_at_ns < record.view.observed_at_ns
        if not record.wants_registration:
            record.info, record.view, record.number = event.info, event.view, event.number
        return not record.wants_registration

    def take_view(self, record: WorkerRecord, event: WorkerViewed, now_ns: int) -> bool:
        """A heartbeat. False if it is doubled or was overtaken by a newer one."""
        if event.number <= record.number:
            return False
        _hear(record, now_ns)
        if event.number != record.number + 1:
            record.wants_registration = True
        record.view, record.number = event.view, event.number
        return True

    def bury(self, record: WorkerRecord) -> None:
        """That incarnation is dead from now on."""
        record.dead = True
        self._note_death(record.key)

    def fence(self, key: WorkerKey) -> None:
        """A life that is not known here is over: nothing of it, or before it, counts."""
        assert self.current(key) is None, key
        former = self._fences.get(key.worker_id)
        if former is not None:
            self._deaths.pop(former, None)
        self._fences[key.worker_id] = key
        self._note_death(key)

    def _note_death(self, key: WorkerKey) -> None:
        self._deaths[key] = None
        while len(self._deaths) > self._limits.deaths_max:
            forgotten = next(iter(self._deaths))
            del self._deaths[forgotten]
            if self._fences.get(forgotten.worker_id) == forgotten:
                del self._fences[forgotten.worker_id]
            held = self._records.get(forgotten.worker_id)
            if held is not None and held.key == forgotten:
                del self._records[forgotten.worker_id]

    def silent(self, now_ns: int) -> list[WorkerRecord]:
        """Marks who is suspect; returns who has been silent for too long."""
        gone = []
        for record in self._records.values():
            if record.dead:
                continue
            silence_ns = now_ns - record.heard_ns
            record.suspect = silence_ns >= self._limits.suspect_after_ns
            if silence_ns >= self._limits.dead_after_ns:
                gone.append(record)
        return gone

    def only_here(self, record: WorkerRecord, *beside: WorkerId) -> tuple[str, ...]:
        """What no other worker that takes new work could do: "prefill", "decode".

        Those `beside` are about to leave too.
        """
        gone = (record.key.worker_id, *beside)
        others = [other for other in self.placeable() if other.key.worker_id not in gone]
        kinds = []
        if record.prefills and not any(other.prefills for other in others):
            kinds.append("prefill")
        if record.decodes and not any(other.decodes for other in others):
            kinds.append("decode")
        return tuple(kinds)

    def check(self) -> None:
        """Programmer's errors only."""
        assert len(self._records) <= self._limits.workers_max
        assert len(self._deaths) <= self._limits.deaths_max
        assert all(key in self._deaths for key in self._fences.values()), self._fences
        for worker_id, record in self._records.items():
            assert record.key.worker_id == worker_id, (worker_id, record.key)
            assert record.dead == (record.key in self._deaths), record.key


def _hear(record: WorkerRecord, now_ns: int) -> None:
    record.heard_ns = now_ns
    record.suspect = False
