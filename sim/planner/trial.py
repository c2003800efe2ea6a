"""One fleet on one load, simulated: does it meet the SLO, and how does it miss it?

A run is stopped as soon as it is certain how it ends: more requests have missed the SLO
than may. What had not answered by then counts as neither.
"""

from dataclasses import dataclass
from math import ceil

import numpy as np

from ..clock import NS_PER_S
from ..cores import CoreBuilder
from ..costs.specs import Hardware
from ..queue import EventQueue
from ..results.records import Ending
from ..results.table import Numbers, Table
from ..run import SLICE_NS, Run
from ..scenario import LimitsSpec, PoolSpec, Scenario, SloSpec
from ..workloads.specs import PoissonSpec
from ..world import Watching, World, queue_world
from .fleet import Fleet
from .misses import Memory, Misses, stages_s
from .question import Question

END_WITHIN_S = 120.0  # after the last arrival; then a fleet is too far behind


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a run came to. Times are at the SLO's percentile, of the requests that ended.

    `late_first`, `late_rest`: requests beyond the bound of TTFT, of TPOT. Of the former,
    mean seconds: `placing_s` until a worker was given them, `queueing_s` there until they
    were computed, `computing_s` until the first token was. `busy`: share of the time that
    each pool's engines computed; `full`: the most of its KV blocks that were in use.
    `stopped`: it was certain to fail, and ended.
    """

    met: bool
    requests: int
    misses: int
    late_first: int
    late_rest: int
    refused: int
    ttft_s: float | None
    tpot_s: float | None
    goodput_per_s: float
    span_s: float
    placing_s: float
    queueing_s: float
    computing_s: float
    busy: tuple[float, ...]
    full: tuple[float, ...]
    stopped: bool

    @property
    def attainment(self) -> float:
        """Share of the requests within both bounds; of a stopped run at most that."""
        return 1 - self.misses / self.requests


def scenario_of(fleet: Fleet, question: Question) -> Scenario:
    """The fleet as the simulator is told it. Pools without workers are left out."""
    hardware: dict[str, Hardware] = {kind.name: kind.spec for kind in fleet.shape.types}
    pools = zip(fleet.counts, fleet.shape.roles, fleet.shape.types, strict=True)
    budgets = question.budgets(fleet.shape.types[0], fleet.shape.roles[0])
    slowest = min(kind.link_gbytes_per_s for kind in fleet.shape.types)
    return Scenario(
        seed=question.seed,
        block_tokens=budgets.block_tokens,
        model=question.model,
        hardware=hardware,
        pools=[
            PoolSpec(
                name=role.value, role=role, count=count, hardware=kind.name,
                link_gbytes_per_s=kind.link_gbytes_per_s,
            )
            for count, role, kind in pools
            if count
        ],
        workload=PoissonSpec(kind="poisson", rate_per_s=1.0, requests=1),  # the load comes beside
        slo=SloSpec(ttft_s=question.slo.ttft_s, tpot_s=question.slo.tpot_s),
        end_within_s=END_WITHIN_S,
        limits=LimitsSpec(
            worker={
                "batched_tokens_max": budgets.batched_tokens_max,
                "prefill_chunk_tokens": budgets.prefill_chunk_tokens,
                "sequences_max": budgets.sequences_max,
                "layer_group": max(1, question.model.layers // question.copies),
            },
            policy={
                "chunk_tokens": budgets.prefill_chunk_tokens,
                "in_place_tokens_max": budgets.in_place_tokens_max,
            },
            link_bytes_per_s=slowest * 1e9,
        ),
    )  # fmt: skip


def judge(fleet: Fleet, question: Question, *, whole: bool = False) -> Verdict:
    """Simulate. With `whole` to the end even if it fails. Raises InvariantBroken."""
    scenario = scenario_of(fleet, question)
    world = queue_world(scenario, CoreBuilder(scenario), Watching())
    queue = world.scheduler
    assert isinstance(queue, EventQueue), "a world of its own"
    run = Run(world, question.load)
    misses, memory = Misses(world, question.slo), Memory(world)
    most = question.slo.misses_max(question.load.requests)
    while not run.done and queue.now_ns < run.deadline_ns:
        queue.run_until(queue.now_ns + SLICE_NS)
        memory.look()
        if not whole and misses.count(queue.now_ns) > most:
            return _verdict(question, world, memory, met=False, stopped=True)
    if not run.done:  # hopeless, and too far behind to wait for its end
        return _verdict(question, world, memory, met=False, stopped=True)
    run.judge_end()
    met = misses.count(queue.now_ns) <= most
    return _verdict(question, world, memory, met=met, stopped=False)


def _verdict(
    question: Question, world: World, memory: Memory, *, met: bool, stopped: bool
) -> Verdict:
    slo, table = question.slo, Table(world.clients.records)
    misses = Misses(world, slo).count(world.scheduler.now_ns)
    firsts_s, rests_s = table.ttft_ns / NS_PER_S, table.tpot_ns / NS_PER_S
    ended, span_s = len(world.clients.records), table.span_s()
    good = int(table.meets(slo.ttft_s, slo.tpot_s).sum())
    placing_s, queueing_s, computing_s = stages_s(table, slo.ttft_s)
    return Verdict(
        met=met,
        requests=question.load.requests,
        misses=misses,
        late_first=int((firsts_s > slo.ttft_s).sum()),
        late_rest=int((rests_s > slo.tpot_s).sum()),
        refused=ended - table.count(Ending.COMPLETED),
        ttft_s=_at(firsts_s, slo.percent),
        tpot_s=_at(rests_s, slo.percent),
        goodput_per_s=good / span_s if span_s else 0.0,
        span_s=span_s,
        placing_s=placing_s,
        queueing_s=queueing_s,
        computing_s=computing_s,
        busy=_busy(world, span_s),
        full=memory.most,
        stopped=stopped,
    )


def _busy(world: World, span_s: float) -> tuple[float, ...]:
    parties = world.mail.workers.values()
    shares = []
    for pool in world.scenario.pools:
        engines = [p.engine for p in parties if p.key.worker_id.startswith(f"{pool.name}-")]
        busy_s = sum(engine.busy_ns for engine in engines) / NS_PER_S
        shares.append(busy_s / (span_s * len(engines)) if span_s and engines else 0.0)
    return tuple(shares)


def _at(values_s: Numbers, percent: float) -> float | None:
    """The least value that at least that share of them do not exceed."""
    if not len(values_s):
        return None
    return float(np.sort(values_s)[ceil(len(values_s) * percent / 100) - 1])
