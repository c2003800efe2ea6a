"""Decode iterations in one jump, up to the next moment at which anything may change.

    ends    t1     t2     t3     t4        as the cost model has them, foreseen
            ----|------|------|------|
                     ^ an event for this worker: t1 is passed over, then it is stepped
                                     ^ the horizon: a request ends, or another joins

The worker is stepped where it would decide something, and is as it would be whenever
somebody looks. Its tokens reach the gateways later than they would; clients are told
when each was due, so every figure of a run is the same as step by step.
"""

from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Any, Protocol

from ..proto.batch import Batch
from ..proto.effects import RunIteration
from ..proto.ids import RequestId
from ..proto.requests import SampledToken
from ..proto.views import Phase
from ..proto.worker_events import WorkerEvent
from ..workers.core.leaping import LeapingCore
from ..workers.core.scheduler import Entry
from ..workers.core.sequence import Sequence
from .clock import Scheduler
from .costs.meter import Meter
from .costs.protocol import CostModel
from .costs.work import Work
from .streams import quick_tokens

FORESEEN_MAX = 16  # iterations: most runs are cut short by an event before that
Perform = Callable[[Iterable[Any]], None]


class DecodeBatch(Batch):
    """A batch of decodes, counted. It has no chunks: nothing is computed."""

    __slots__ = ("work",)
    work: Work

    @property
    def tokens(self) -> int:
        return self.work.decodes


class Due(Protocol):
    """Who is told when tokens were drawn that are delivered later."""

    def drew(self, request_id: RequestId, ends_ns: list[int]) -> None: ...


def count_decodes(iteration: int, entries: list[Entry]) -> Batch | None:
    """The batch of an iteration in which everybody decodes; None for any other."""
    keys = longest = 0
    for sequence, _, end, _ in entries:
        if sequence.phase is not Phase.DECODE:
            return None
        keys += end
        longest = max(longest, end)
    batch = DecodeBatch(iteration=iteration, chunks=())
    count = len(entries)
    object.__setattr__(batch, "work", Work((), count, keys, longest, count))
    return batch


class FastForward:
    """The decode iterations of one life of a worker."""

    def __init__(
        self, core: LeapingCore, cost: CostModel, due: Due, scheduler: Scheduler, tell_ns: int
    ) -> None:
        self._core = core
        self._cost = cost
        self._due = due
        self._scheduler = scheduler
        self._tell_ns = tell_ns  # gateways hear of a stream at least that often
        self._told_ns = 0
        self._work = Work()
        self._ends: list[int] = []  # of the iteration in flight, and of what is foreseen after it
        self._horizon: tuple[int, bool] | None = None  # its end, and whether a plan follows
        self._passed: list[int] = []
        self._untold = False
        self.iterations = 0
        self.busy_ns = 0
        self.gone = False
        self.meter: Meter | None = None
        self.perform: Perform

    def begin(self, order: RunIteration) -> bool:
        """Takes an iteration over if it is one of decodes."""
        batch = order.batch
        if not isinstance(batch, DecodeBatch):
            return False
        assert not self._ends, "two iterations at once"
        self._work = batch.work
        now_ns = self._scheduler.now_ns
        self._foresee(now_ns)
        self._spend([now_ns, self._ends[0]])
        return True

    def drew(self, batch: Batch) -> None:
        """An iteration of another kind ends: its tokens count from now, too."""
        now_ns = [self._scheduler.now_ns]
        for chunk in batch.chunks:
            if chunk.draw is not None:
                self._due.drew(chunk.request_id, now_ns)

    def heed(self, event: WorkerEvent) -> None:
        """Before a step: the worker catches up, unless that would make no difference."""
        if not self._core.unnoticed(event):
            self.catch_up()

    def catch_up(self) -> None:
        """The worker becomes what it is now: what has ended until now is passed over."""
        now_ns, ends = self._scheduler.now_ns, self._ends
        if not ends or ends[0] > now_ns:
            return
        assert self._horizon is not None
        count = sum(end <= now_ns for end in ends)
        if ends[count - 1] >= self._horizon[0]:
            count -= 1  # its own entry in the queue is about to come
        if count:
            self._pass_over(count)

    def go_on(self) -> None:
        """After a step: how far is it to the horizon now?"""
        horizon = self._core.horizon()
        if horizon is None and self._untold:
            self._tell()
        if not self._ends:
            return
        if horizon is None:
            count, plans = 1, True
        else:
            count, plans = horizon
            if count > FORESEEN_MAX:
                count, plans = FORESEEN_MAX, False
        while len(self._ends) < count:
            self._foresee(self._ends[-1])
        aim = (self._ends[count - 1], plans)
        if aim != self._horizon:
            self._horizon = aim
            self._scheduler.at(aim[0], self._arrive, aim)

    def _arrive(self, aim: tuple[int, bool]) -> None:
        if aim is not self._horizon or self.gone:
            return  # something has come between
        end_ns, plans = aim
        count = self._ends.index(end_ns) + 1
        self._horizon = None
        if plans:
            passed, self._ends = self._ends[:count], []
            self._count(passed)
            self.perform(self._core.finish_at(passed, self._sample))
        else:
            self._pass_over(count)
        self.go_on()

    def _pass_over(self, count: int) -> None:
        while len(self._ends) <= count:
            self._foresee(self._ends[-1])
        self._count(self._ends[: count + 1])
        passed, self._ends = self._ends[:count], self._ends[count:]
        self._passed = passed
        self.perform(self._core.pass_over(passed, self._sample))
        if passed[-1] - self._told_ns >= self._tell_ns:
            self._tell()

    def _count(self, ends: list[int]) -> None:
        """All but the first have begun since; that was counted as it did."""
        self._passed, self._untold = ends, True
        self._spend(ends)

    def _spend(self, ends: list[int]) -> None:
        self.iterations += len(ends) - 1
        self.busy_ns += ends[-1] - ends[0]
        if self.meter is not None:
            for begin_ns, end_ns in pairwise(ends):
                self.meter.add(self._work, end_ns - begin_ns)  # watts go by the batch's size

    def _foresee(self, begins_ns: int) -> None:
        work = self._work
        self._ends.append(begins_ns + self._cost.work_ns(work))
        count = work.decodes
        self._work = Work((), count, work.decode_keys + count, work.longest + 1, count)

    def _sample(self, sequence: Sequence, count: int) -> list[SampledToken]:
        request = sequence.request
        self._due.drew(request.request_id, self._passed)
        return quick_tokens(request.sampling.seed, sequence.known, count)

    def _tell(self) -> None:
        self._told_ns, self._untold = self._scheduler.now_ns, False
        self.perform(self._core.tell())
