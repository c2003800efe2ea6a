"""Looks at every worker at equal distances of virtual time, a bounded number of times.

When `SAMPLES_MAX` samples are taken, every second one is dropped and the distance
doubles: a run of any length ends with between half of them and all. Sampling sends
nothing and changes nothing.
"""

from dataclasses import dataclass

from ...proto.ids import WorkerId
from ..clock import Scheduler
from ..mail import Mail
from .records import UNKNOWN

SAMPLES_MAX = 480
FIRST_PERIOD_NS = 100_000_000
GAUGES = ("running", "waiting", "blocks_used", "blocks_cached", "busy_ns", "preemptions")


@dataclass(slots=True, kw_only=True)
class Series:
    """One worker, one value per sample; UNKNOWN while it was down.

    `blocks_used`: held or leased. `busy_ns` and `preemptions` only grow, but for a
    worker's new life.
    """

    running: list[int]
    waiting: list[int]
    blocks_used: list[int]
    blocks_cached: list[int]
    busy_ns: list[int]
    preemptions: list[int]


class Sampler:
    """The samples of one run: number i was taken at (i + 1) x `period_ns`."""

    def __init__(self, mail: Mail, scheduler: Scheduler, worker_ids: list[WorkerId]) -> None:
        self.period_ns = FIRST_PERIOD_NS
        self.samples = 0
        self.series = {
            worker_id: Series(**{name: [] for name in GAUGES}) for worker_id in worker_ids
        }
        self._mail = mail
        self._scheduler = scheduler

    def start(self) -> None:
        """Take the first sample one period from now; the rest follow."""
        self._scheduler.at(self._scheduler.now_ns + self.period_ns, self._take, None)

    def _take(self, _: None) -> None:
        for worker_id, series in self.series.items():
            party = self._mail.workers.get(worker_id)
            if party is None:
                values = [UNKNOWN] * len(GAUGES)
            else:
                if party.engine.fast is not None:  # it may be behind: nobody has looked
                    party.engine.fast.catch_up()
                seen = party.core.occupancy
                values = [
                    seen.running, seen.waiting, seen.blocks_used, seen.blocks_cached,
                    party.engine.busy_ns, seen.preemptions,
                ]  # fmt: skip
            for name, value in zip(GAUGES, values, strict=True):
                getattr(series, name).append(value)
        self.samples += 1
        if self.samples == SAMPLES_MAX:
            self._thin()
        at_ns = self._scheduler.now_ns + self.period_ns
        self._scheduler.at(at_ns, self._take, None)

    def _thin(self) -> None:
        for series in self.series.values():
            for name in GAUGES:
                column = getattr(series, name)
                setattr(series, name, column[1::2])
        self.samples //= 2
        self.period_ns *= 2
