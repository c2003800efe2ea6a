"""One run of one scenario: arrivals, faults, heal, and the end of all streams."""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from ..proto.gateway_events import RejectCode
from .arrivals import Arrival
from .clock import NS_PER_S, seconds, to_ns
from .cores import CoreBuilder
from .coverage import Coverage
from .errors import InvariantBroken
from .faults import Fault
from .inject import Injector
from .leftovers import leftovers
from .observer import Observer
from .plan import draw_plan
from .queue import EventQueue
from .scenario import PoissonSpec, Scenario, TraceSpec
from .transcript import Transcript
from .workload import poisson, read_azure, read_mooncake, scaled, spread
from .world import Watching, World, queue_world

SLICE_NS = NS_PER_S // 4
QUIET_NS = 30 * NS_PER_S  # after the last stream's end, until nothing may be held any more
Progress = Callable[[int, int], None]  # (streams ended, streams in all)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A finished run."""

    scenario: Scenario
    world: World
    plan: list[Fault]
    wall_ns: int  # virtual time until the last stream ended
    events: int


def arrivals_of(scenario: Scenario) -> list[Arrival]:
    """The workload of a scenario. Raises TraceError."""
    spec = scenario.workload
    if isinstance(spec, PoissonSpec):
        return poisson(spec, scenario.seed)
    return _trace(spec, scenario.seed)


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
    world = queue_world(scenario, builder or CoreBuilder(scenario), watching)
    queue = world.scheduler
    assert isinstance(queue, EventQueue)
    with _without_gc():
        run = Run(world, arrivals_of(scenario))
        ended_ns = _drive(run, queue, progress)
    return Outcome(
        scenario=scenario, world=world, plan=run.plan, wall_ns=ended_ns, events=queue.events
    )


def with_seed(scenario: Scenario, seed: int) -> Scenario:
    """The same scenario, other dice."""
    return replace(scenario, seed=seed)


class Run:
    """The course of one run, whichever clock drives it."""

    def __init__(self, world: World, arrivals: list[Arrival]) -> None:
        self.world = world
        self._arrivals = arrivals
        spec = world.scenario.faults
        world.start()
        self.plan = draw_plan(
            spec,
            world.scenario.seed,
            world.worker_ids,
            [a.at_ns for a in arrivals],
            world.gateway_ids,
        )
        self._injector = Injector(world, self.plan)
        self.heal_ns = to_ns(spec.until_s)
        if self.plan:
            world.scheduler.at(self.heal_ns, self._heal, None)
        world.scheduler.at(arrivals[0].at_ns, self._arrive, 0)

    @property
    def deadline_ns(self) -> int:
        """When every stream must have ended."""
        calm_ns = max(self._arrivals[-1].at_ns, self.heal_ns)
        return calm_ns + to_ns(self.world.scenario.end_within_s)

    @property
    def requests(self) -> int:
        return len(self._arrivals)

    @property
    def ended(self) -> int:
        return len(self.world.clients.streams) - self.world.clients.open

    @property
    def done(self) -> bool:
        """Whether all have come and all have ended."""
        return self.ended == len(self._arrivals)

    def judge_end(self) -> None:
        """Every stream has ended, and as promised. Raises InvariantBroken."""
        streams = self.world.clients.streams.values()
        open_ = [stream for stream in streams if not stream.ended]
        if open_ or not self.done:
            shown = ", ".join(f"{s.request_id} ({s.tokens} tokens)" for s in open_[:5])
            limit_s = self.world.scenario.end_within_s
            raise InvariantBroken(f"{len(open_)} streams did not end within {limit_s:g} s: {shown}")
        for stream in streams:
            late = stream.deadline_ns is not None and stream.error is RejectCode.DEADLINE_EXCEEDED
            if stream.error is not None and stream.tokens and not late:
                raise InvariantBroken(
                    f"{stream.request_id} failed after {stream.tokens} tokens: "
                    f"{stream.error} {stream.message}"
                )

    def _arrive(self, index: int) -> None:
        self.world.arrive(index, self._arrivals[index])
        if index + 1 < len(self._arrivals):
            self.world.scheduler.at(self._arrivals[index + 1].at_ns, self._arrive, index + 1)

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


def _trace(spec: TraceSpec, seed: int) -> list[Arrival]:
    read = read_azure if spec.format == "azure" else read_mooncake
    arrivals = read(Path(spec.path))
    if spec.bucket_s:
        arrivals = spread(arrivals, spec.bucket_s, seed)
    return scaled(arrivals, speedup=spec.speedup, limit=spec.requests)


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
