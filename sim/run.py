"""One run of one scenario: arrivals, faults, heal, and the end of all streams."""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import inf

from .clock import NS_PER_S, seconds, to_ns
from .cores import CoreBuilder
from .coverage import Coverage
from .errors import InvariantBroken
from .faults import Fault
from .feed import Feed
from .inject import Injector
from .leftovers import leftovers
from .observer import Observer
from .plan import draw_plan
from .queue import EventQueue
from .results.sampler import Sampler
from .scenario import FaultSpec, Scenario
from .transcript import Transcript
from .workloads.arrivals import Workload
from .workloads.source import Source
from .world import Watching, World, queue_world

SLICE_NS = NS_PER_S // 4
QUIET_NS = 30 * NS_PER_S  # after the last stream's end, until nothing may be held any more
Progress = Callable[[int, int | None], None]  # (streams ended, in all: None while unknown)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A finished run."""

    scenario: Scenario
    world: World
    plan: list[Fault]
    wall_ns: int  # virtual time until the last stream ended
    events: int
    sampler: Sampler | None = None  # where workers were to be looked at


def arrivals_of(scenario: Scenario) -> Workload:
    """The workload of a scenario. Iterating it raises TraceError for a bad file."""
    return Source(scenario.workload, scenario.seed, scenario.model.context_tokens_max)


def simulate(
    scenario: Scenario,
    *,
    transcript: Transcript | None = None,
    builder: CoreBuilder | None = None,
    progress: Progress | None = None,
    coverage: Coverage | None = None,
) -> Outcome:
    """Run `scenario` to its end on an event queue.

    Raises InvariantBroken if a rule is broken, if a stream has not ended in
    `end_within_s`, or (checked) if anything is held when all is quiet; TraceError
    and ConfigError for what the operator gave.
    """
    if coverage is None and (scenario.faults.stage_faults or scenario.faults.late_letters):
        coverage = Coverage()  # they wait for what an observer sees
    observer = None if coverage is None else Observer(coverage)
    watching = Watching(transcript=transcript, checked=scenario.checked, observer=observer)
    return run_scenario(scenario, builder or CoreBuilder(scenario), watching, progress)


def run_scenario(
    scenario: Scenario, builder: CoreBuilder, watching: Watching, progress: Progress | None
) -> Outcome:
    """As `simulate`, followed as `watching` says."""
    world = queue_world(scenario, builder, watching)
    queue = world.scheduler
    assert isinstance(queue, EventQueue)
    with _without_gc():
        run = Run(world, arrivals_of(scenario))
        sampler = Sampler(world.mail, queue, world.worker_ids) if watching.sampled else None
        if sampler is not None:
            sampler.start()
        ended_ns = _drive(run, queue, progress)
    return Outcome(
        scenario=scenario, world=world, plan=run.plan, wall_ns=ended_ns, events=queue.events,
        sampler=sampler,
    )  # fmt: skip


def watching_of(scenario: Scenario, transcript: Transcript | None) -> Watching:
    """How a run is followed whose results shall be shown: with samples of every worker."""
    hurt_by_sight = scenario.faults.stage_faults or scenario.faults.late_letters
    return Watching(
        transcript=transcript,
        checked=scenario.checked,
        observer=Observer(Coverage()) if hurt_by_sight else None,
        sampled=True,
    )


def with_seed(scenario: Scenario, seed: int) -> Scenario:
    """The same scenario, other dice."""
    return replace(scenario, seed=seed)


class Run:
    """The course of one run, whichever clock drives it."""

    def __init__(self, world: World, workload: Workload) -> None:
        self.world = world
        self._feed = Feed(world, workload)
        scenario = world.scenario
        world.start()
        # Faults and who hangs up are drawn beforehand: that alone reads the workload ahead.
        calm = scenario.faults == FaultSpec()
        times_ns = [] if calm else [arrival.at_ns for arrival in workload]
        self.plan = draw_plan(
            scenario.faults, scenario.seed, world.worker_ids, times_ns, world.gateway_ids
        )
        self._injector = Injector(world, self.plan)
        self.heal_ns = to_ns(scenario.faults.until_s)
        if self.plan:
            world.scheduler.at(self.heal_ns, self._heal, None)
        self._feed.start()

    @property
    def deadline_ns(self) -> float:
        """When every stream must have ended; infinite while requests are to come."""
        if self._feed.next_known:
            return inf
        calm_ns = max(self._feed.last_ns, self.heal_ns)
        return calm_ns + to_ns(self.world.scenario.end_within_s)

    @property
    def requests(self) -> int | None:
        """How many there are in all; None while that is not known."""
        return self._feed.total

    @property
    def ended(self) -> int:
        return self.world.clients.asked - self.world.clients.open

    @property
    def done(self) -> bool:
        """Whether all have come and all have ended."""
        return self._feed.over and self.ended == self._feed.asked

    def judge_end(self) -> None:
        """Every stream has ended, and as promised. Raises InvariantBroken."""
        streams = self.world.clients.streams.values()
        open_ = [stream for stream in streams if not stream.ended]
        if open_ or not self.done:
            self.world.catch_up()
            had, now_ns = self.world.clients.tokens_by, self.world.scheduler.now_ns
            shown = ", ".join(f"{s.request_id} ({had(s, now_ns)} tokens)" for s in open_[:5])
            limit_s = self.world.scenario.end_within_s
            raise InvariantBroken(f"{len(open_)} streams did not end within {limit_s:g} s: {shown}")
        if self.world.clients.cut_short:
            raise InvariantBroken(self.world.clients.cut_short)

    def _heal(self, _: None) -> None:
        self._injector.heal()


def _drive(run: Run, queue: EventQueue, progress: Progress | None) -> int:
    while not run.done and queue.now_ns < run.deadline_ns:
        queue.run_until(queue.now_ns + SLICE_NS)
        if progress is not None:
            progress(run.ended, run.requests)
    run.judge_end()
    ended_ns = queue.now_ns
    if run.world.scenario.checked:
        _settle(run, queue)
    return ended_ns


def _settle(run: Run, queue: EventQueue) -> None:
    """Let everything that still stirs come to rest. Raises InvariantBroken if it does not."""
    end_ns = max(queue.now_ns, run.heal_ns) + QUIET_NS
    left = ["nothing looked at"]
    while left and queue.now_ns < end_ns:
        queue.run_until(queue.now_ns + NS_PER_S)
        left = leftovers(run.world) if queue.now_ns > run.heal_ns else left
    if left:
        raise InvariantBroken(
            f"{seconds(QUIET_NS):g} s after all streams ended: " + "; ".join(left)
        )


@contextmanager
def _without_gc() -> Iterator[None]:
    """Nearly nothing in a run is cyclic, and looking for it takes a third of the time."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()
