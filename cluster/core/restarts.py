"""Workers that are dead and do not come back: when one is started again, and when no more.

Whoever started a worker's process starts the next when it dies. That does not
help where the process hangs: after `restart_after_ns` without a new life it is
ended from outside, and again, each time later, `restarts_max` times. Nor where
the next life hangs while it loads its model: that one is alive to whoever asks it, so
after `load_ns_max` it is ended unasked, `restarts_max` times too. A worker
whose lives are short that many times in a row is not started any more.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ...proto.cluster_events import AfterDrain
from ...proto.effects import RestartStarting, RestartWorker, RetireWorker
from ...proto.ids import WorkerId, WorkerKey
from .limits import ClusterLimits
from .membership import WorkerRecord


@dataclass(slots=True, kw_only=True)
class Absence:
    """A dead worker whose next life is awaited."""

    key: WorkerKey
    next_ns: int
    orders: int = 0


@dataclass(slots=True)
class Loading:
    """A worker that has not registered since `since_ns`."""

    since_ns: int
    orders: int = 0


class Restarts:
    """By worker id: who is awaited, and how many short lives in a row each has had."""

    def __init__(self, limits: ClusterLimits) -> None:
        self._limits = limits
        self._absent: dict[WorkerId, Absence] = {}
        self._loading: dict[WorkerId, Loading] = {}
        self._short: dict[WorkerId, int] = {}

    def expect(self, worker_ids: Iterable[WorkerId], now_ns: int) -> None:
        """These are being started, or have been by an earlier controller."""
        self._loading |= {worker_id: Loading(now_ns) for worker_id in worker_ids}

    def born(self, key: WorkerKey) -> None:
        """A new life has registered."""
        self._absent.pop(key.worker_id, None)
        self._loading.pop(key.worker_id, None)

    def died(self, record: WorkerRecord, now_ns: int) -> list[RetireWorker]:
        """A life is over; the order to start no other, if it is time for that."""
        worker_id = record.key.worker_id
        if record.ends is AfterDrain.RETIRE:
            return []
        short = now_ns - record.born_ns < self._limits.short_life_ns and record.ends is None
        before = self._short.pop(worker_id, 0)
        count = before + 1 if short else 0
        if count > self._limits.restarts_max:
            record.ends = AfterDrain.RETIRE
            return [RetireWorker(key=record.key)]
        if count:
            self._short[worker_id] = count
        at_ns = now_ns + self._limits.restart_after_ns
        self._absent[worker_id] = Absence(key=record.key, next_ns=at_ns)
        self._loading[worker_id] = Loading(now_ns)
        for table in (self._absent, self._loading, self._short):
            while len(table) > self._limits.workers_max:
                table.pop(next(iter(table)))
        return []

    def due(self, now_ns: int) -> list[RestartWorker | RestartStarting]:
        """Orders for those who have been away too long."""
        orders: list[RestartWorker | RestartStarting] = list(self._stuck(now_ns))
        for worker_id, absence in list(self._absent.items()):
            if now_ns < absence.next_ns:
                continue
            absence.orders += 1
            orders.append(RestartWorker(key=absence.key))
            absence.next_ns = now_ns + (self._limits.restart_after_ns << absence.orders)
            if absence.orders >= self._limits.restarts_max:
                del self._absent[worker_id]
        return orders

    def _stuck(self, now_ns: int) -> Iterator[RestartStarting]:
        """Those that must be stuck while they load."""
        for worker_id, loading in list(self._loading.items()):
            if now_ns - loading.since_ns < self._limits.load_ns_max:
                continue
            loading.since_ns = now_ns
            loading.orders += 1
            if loading.orders >= self._limits.restarts_max:
                del self._loading[worker_id]
            yield RestartStarting(worker_id=worker_id)

    def check(self) -> None:
        """Programmer's errors only."""
        limit = self._limits.restarts_max
        assert all(loading.orders < limit for loading in self._loading.values()), self._loading
        assert all(0 < count <= limit for count in self._short.values()), self._short
        assert all(absence.orders < limit for absence in self._absent.values()), self._absent
