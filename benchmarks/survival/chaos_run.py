"""Requests under faults: all at once, then what each fault cost and what is left behind."""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from splitweave.benchmarks.survival.asks import Ask, Mix
from splitweave.benchmarks.survival.faults import Kind, Recovery, draw_plan
from splitweave.benchmarks.survival.injector import Injector
from splitweave.benchmarks.survival.journal import Journal
from splitweave.benchmarks.survival.processes import Family, Sample
from splitweave.benchmarks.survival.streams import References, Stream, Tokens, run_stream
from splitweave.client import AsyncClient, RetryPolicy
from splitweave.cluster.live.cluster import LiveCluster

MIX = Mix(prompt_tokens=(32, 1024), output_tokens=(16, 48))
# More patient than the default: a gateway that was killed takes some seconds to come back.
PATIENT = RetryPolicy(tries_max=20, resume_tries_max=20)
TIMEOUT_S = 300.0
FAULTS_S_MAX = 3600.0
REST_S = 90.0
GAP_AFTER_S = 30.0  # how long after a fault a gap may still be its doing
Tell = Callable[[str, int, int], None]


@dataclass(frozen=True, kw_only=True)
class Chaos:
    """One run. `together` requests are open at once."""

    asks: Sequence[Ask]
    together: int
    kinds: Sequence[Kind]
    every_s: float
    seed: int


@dataclass(kw_only=True)
class Outcome:
    """What came of it. `leftovers` empty: the cluster is as it was."""

    streams: list[Stream] = field(default_factory=list)
    recoveries: list[Recovery] = field(default_factory=list)
    leftovers: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def counts(self) -> Counter[str]:
        return Counter(stream.outcome for stream in self.streams)

    @property
    def passed(self) -> bool:
        return set(self.counts) == {"done"} and not self.leftovers


async def run_all(
    address: str, asks: Sequence[Ask], together: int, tell: Callable[[int], None]
) -> list[Stream]:
    """Every ask once, `together` at a time."""
    waiting, streams = iter(asks), []

    async def work(client: AsyncClient) -> None:
        for ask in waiting:
            streams.append(await run_stream(client, ask, TIMEOUT_S))
            tell(len(streams))

    async with AsyncClient(address, timeout_s=TIMEOUT_S, retry=PATIENT) as client:
        await asyncio.gather(*(work(client) for _ in range(together)))
    return streams


def undisturbed(cluster: LiveCluster, chaos: Chaos, tell: Tell) -> dict[int, Tokens]:
    """What every ask yields while nothing is hurt. Raises RuntimeError if one fails."""
    total = len(chaos.asks)
    streams = asyncio.run(
        run_all(
            cluster.address,
            chaos.asks,
            chaos.together,
            lambda done: tell("undisturbed", done, total),
        )
    )
    failed = [stream.error for stream in streams if stream.outcome != "done"]
    if failed:
        raise RuntimeError(f"{len(failed)} streams failed undisturbed: {failed[0]}")
    return {stream.ask.index: tuple(stream.tokens) for stream in streams}


async def disturbed(
    cluster: LiveCluster, chaos: Chaos, known: dict[int, Tokens], journal: Journal, tell: Tell
) -> Outcome:
    """The same requests while the plan is followed; then the cluster must come to rest."""
    loop = asyncio.get_running_loop()
    family = Family()
    injector = Injector(cluster, family, journal)
    await injector.status()
    before = family.samples(0.0)
    plan = draw_plan(chaos.kinds, chaos.every_s, chaos.seed)
    hurting = asyncio.create_task(injector.follow(plan, until_s=FAULTS_S_MAX))
    began_s, total = loop.time(), len(chaos.asks)
    try:
        streams = await run_all(
            cluster.address,
            chaos.asks,
            chaos.together,
            lambda done: tell(f"{len(injector.recoveries)} faults", done, total),
        )
    finally:
        hurting.cancel()
        await asyncio.gather(hurting, return_exceptions=True)
    references = References(known)
    for stream in streams:
        if not references.judge(stream):
            stream.outcome = "wrong"
        journal.write(
            "stream", request=stream.request_id, outcome=stream.outcome, error=stream.error
        )
    outcome = Outcome(streams=streams, seconds=loop.time() - began_s)
    tell("coming to rest", total, total)
    await injector.finish()
    outcome.recoveries = injector.recoveries
    outcome.leftovers = await leftovers(injector, family, before)
    return outcome


async def leftovers(injector: Injector, family: Family, before: Sequence[Sample]) -> list[str]:
    """What is still held, open or running that was not before; empty within REST_S."""
    loop = asyncio.get_running_loop()
    deadline_s = loop.time() + REST_S
    while True:
        found = held(await injector.status()) + extra(before, family.samples(0.0))
        if not found or loop.time() > deadline_s:
            return found
        await asyncio.sleep(0.5)


def held(status: object) -> list[str]:
    """What the controller and the workers' views still have."""
    if status is None:
        return ["the controller does not answer"]
    found = [f"request {r.request_id} is {r.state}" for r in status.requests]  # type: ignore[attr-defined]
    found += [f"move {m.move_id}" for m in status.moves]  # type: ignore[attr-defined]
    for worker in status.workers:  # type: ignore[attr-defined]
        view = worker.view
        if worker.state != "alive":
            found.append(f"{worker.worker_id} is {worker.state}")
        for name in ("held", "leased", "quarantined"):
            if count := getattr(view, f"blocks_{name}"):
                found.append(f"{worker.worker_id} has {count} blocks {name}")
    return found


# Connections that Ray and gRPC keep to peers' present and last lives.
FILES_MAX = 12


def extra(before: Sequence[Sample], now: Sequence[Sample]) -> list[str]:
    """Processes and descriptors of ours that were not there."""
    then = Counter(sample.role for sample in before if sample.ours)
    have = Counter(sample.role for sample in now if sample.ours)
    found = [
        f"{have[role]} processes of role {role}, {then[role]} before"
        for role in sorted(then | have)
        if then[role] != have[role]
    ]
    files = {sample.name: sample.descriptors for sample in before}
    for sample in now:
        if sample.ours and sample.descriptors > files.get(sample.name, 0) + FILES_MAX:
            were = files.get(sample.name, 0)
            found.append(f"{sample.name} has {sample.descriptors} open files, {were} before")
    return found


def longest_gap_s(recovery: Recovery, streams: Sequence[Stream]) -> float:
    """The longest wait for a token that a stream there had, begun before it was over."""
    ids = {request_id.split(":retry-")[0] for request_id in recovery.touched}
    until_s = recovery.at_s + (recovery.back_s or GAP_AFTER_S)
    gaps = [
        end_s - max(start_s, recovery.at_s)
        for stream in streams
        if stream.request_id in ids
        for start_s, end_s in stream.gaps
        if start_s <= until_s and end_s >= recovery.at_s
    ]
    return max(gaps, default=0.0)
