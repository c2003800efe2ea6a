"""Samples of workers: down times, thinning, shares, and pools in sum."""

from types import SimpleNamespace
from typing import Any

import pytest
from sim_worlds import pool, scenario, world_of
from splitweave.proto.ids import WorkerId
from splitweave.sim.results import sampler as sampling
from splitweave.sim.results import workers as module
from splitweave.sim.results.records import UNKNOWN
from splitweave.sim.results.sampler import GAUGES, Sampler
from splitweave.sim.results.workers import pools_of, samples_of
from splitweave.workers.core.core import Occupancy

A, B = WorkerId("m-0"), WorkerId("m-1")
GIVEN = scenario(pools=[pool("m", "mixed", count=2, blocks=40)])
NS = 100_000_000


class Queue:
    """A scheduler that runs what is due when told to."""

    def __init__(self) -> None:
        self.now_ns = 0
        self._due: list[tuple[int, Any, Any]] = []

    def at(self, at_ns: int, action: Any, argument: Any) -> None:
        self._due.append((at_ns, action, argument))

    def run(self, count: int) -> None:
        for _ in range(count):
            at_ns, action, argument = self._due.pop(0)
            self.now_ns = at_ns
            action(argument)


class Fleet:
    """Two workers whose counts a test sets."""

    def __init__(self) -> None:
        self.workers: dict[WorkerId, Any] = {}
        self.queue = Queue()
        for worker_id in (A, B):
            self.set(worker_id)
        mail: Any = self
        self.sampler = Sampler(mail, self.queue, [A, B])
        self.sampler.start()

    def set(self, worker_id: WorkerId, busy_ns: int = 0, **counts: int) -> None:
        values = {"waiting": 0, "running": 0, "blocks_used": 0, "blocks_cached": 0}
        seen = Occupancy(**(values | {"preemptions": 0} | counts))
        self.workers[worker_id] = SimpleNamespace(
            core=SimpleNamespace(occupancy=seen),
            engine=SimpleNamespace(busy_ns=busy_ns, fast=None),
        )


def test_each_sample_is_one_period_after_the_one_before() -> None:
    fleet = Fleet()
    fleet.set(A, busy_ns=NS // 2, running=3, blocks_used=10)
    fleet.queue.run(1)
    fleet.set(A, busy_ns=NS, running=5, blocks_used=20, waiting=2)
    fleet.queue.run(2)
    assert fleet.queue.now_ns == 3 * NS
    samples = samples_of(fleet.sampler, GIVEN)
    assert (samples.count, samples.period_s) == (3, 0.1)
    one, other = samples.workers
    assert one.running == (3, 5, 5)
    assert one.waiting == (0, 2, 2)
    assert one.kv_occupancy == (0.25, 0.5, 0.5)
    assert one.utilisation == (0.5, 0.5, 0.0)
    assert other.running == (0, 0, 0)


def test_a_worker_that_is_down_has_no_values_and_begins_anew() -> None:
    fleet = Fleet()
    fleet.set(B, busy_ns=NS, running=1)
    fleet.queue.run(1)
    del fleet.workers[B]
    fleet.queue.run(2)
    fleet.set(B, busy_ns=NS // 4, running=2)
    fleet.queue.run(1)
    down = samples_of(fleet.sampler, GIVEN).workers[1]
    assert down.running == (1, None, None, 2)
    assert down.kv_occupancy == (0.0, None, None, 0.0)
    assert down.utilisation == (1.0, None, None, 0.25)


def test_every_second_sample_goes_when_there_are_too_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sampling, "SAMPLES_MAX", 4)
    fleet = Fleet()
    for number in range(1, 9):
        fleet.set(A, running=number)
        fleet.queue.run(1)
    # 1 2 3 4 become 2 4, then 6 (its number counts in periods) and 8 come, and so on.
    series = fleet.sampler.series[A]
    assert len(series.running) == fleet.sampler.samples < 4
    assert fleet.sampler.period_ns > NS
    assert fleet.queue.now_ns % fleet.sampler.period_ns == 0
    times = [(index + 1) * fleet.sampler.period_ns for index in range(fleet.sampler.samples)]
    assert times[-1] == fleet.queue.now_ns


def test_many_workers_keep_fewer_samples_each(monkeypatch: pytest.MonkeyPatch) -> None:
    fleet = Fleet()
    for number in range(1, 9):
        fleet.set(A, busy_ns=number * NS // 2, running=number)
        fleet.queue.run(1)
    monkeypatch.setattr(module, "VALUES_MAX", 8)
    few = samples_of(fleet.sampler, GIVEN)
    assert (few.count, few.period_s) == (4, 0.2)
    assert few.workers[0].running == (2, 4, 6, 8)
    assert few.workers[0].utilisation == (0.5, 0.5, 0.5, 0.5)


def test_a_pool_is_the_mean_and_the_peak_of_its_workers() -> None:
    fleet = Fleet()
    fleet.set(A, busy_ns=NS, running=4, blocks_used=40, preemptions=3)
    fleet.set(B, busy_ns=0, running=2, blocks_used=20, preemptions=2)
    fleet.queue.run(1)
    (figures,) = pools_of(fleet.sampler, samples_of(fleet.sampler, GIVEN), GIVEN)
    assert (figures.utilisation, figures.batch_mean, figures.batch_max) == (0.5, 3, 4)
    assert (figures.kv_mean, figures.kv_max, figures.preemptions) == (0.75, 1.0, 5)
    assert (figures.name, figures.role, figures.workers) == ("m", "mixed", 2)


def test_a_pool_that_was_never_seen_has_no_means() -> None:
    fleet = Fleet()
    (figures,) = pools_of(fleet.sampler, samples_of(fleet.sampler, GIVEN), GIVEN)
    assert (figures.utilisation, figures.batch_mean, figures.kv_max) == (None, None, None)
    assert figures.preemptions == 0


def test_a_pool_whose_workers_were_down_all_the_time_has_no_preemptions() -> None:
    fleet = Fleet()
    fleet.workers.clear()
    fleet.queue.run(2)
    assert fleet.sampler.series[A].preemptions == [UNKNOWN] * 2
    (figures,) = pools_of(fleet.sampler, samples_of(fleet.sampler, GIVEN), GIVEN)
    assert figures.preemptions == 0


def test_every_gauge_is_a_list_of_its_own() -> None:
    series = Fleet().sampler.series
    lists = [getattr(each, name) for each in series.values() for name in GAUGES]
    assert len({id(column) for column in lists}) == 2 * len(GAUGES)


def test_a_cores_occupancy_is_what_its_view_says() -> None:
    world, _, queue = world_of(scenario(checked=False))
    for _ in range(40):
        queue.run_until(queue.now_ns + 50_000_000)
        world.catch_up()
        for party in world.mail.workers.values():
            view, seen = party.core.view(queue.now_ns), party.core.occupancy
            assert (seen.waiting, seen.running) == (view.waiting, view.running)
            assert seen.blocks_cached == view.blocks_cached
            unavailable = view.blocks_total - view.blocks_free - view.blocks_cached
            assert seen.blocks_used == unavailable
