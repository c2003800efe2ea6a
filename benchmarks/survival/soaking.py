"""The load of a soak: requests at a rate, with cancels, migrations and faults among them."""

import asyncio
import dataclasses
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from splitweave.benchmarks.survival.asks import Ask, Mix, draw_asks
from splitweave.benchmarks.survival.faults import Kind, draw_plan
from splitweave.benchmarks.survival.injector import Injector
from splitweave.benchmarks.survival.journal import Journal
from splitweave.benchmarks.survival.processes import Family
from splitweave.benchmarks.survival.streams import References, Stream, run_stream, settle
from splitweave.client import AsyncClient, SplitweaveError
from splitweave.cluster.live.cluster import LiveCluster

MIX = Mix(prompt_tokens=(32, 256), output_tokens=(8, 24))
# Watched over the whole run in one life each: no fault ever hits them.
SPARED = ("prefill-0", "decode-0")
SAMPLE_S = 10.0
MIGRATE_S = 4.0
CANCEL_SHARE = 0.08
TIMEOUT_S = 180.0
TOGETHER_MAX = 48  # streams of this client at once; beyond, it holds back


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a soak does. `fault_every_s` 0: no faults."""

    minutes: float
    rate: float
    fault_every_s: float
    seed: int
    asks: int = 64


class Soak:
    """One soak of one running cluster. `counts` has what became of its requests."""

    def __init__(self, cluster: LiveCluster, plan: Plan, journal: Journal) -> None:
        self._plan = plan
        self._journal = journal
        self._address = cluster.address
        self._family = Family()
        self._injector = Injector(cluster, self._family, journal, SPARED)
        self._asks = draw_asks(plan.asks, MIX, plan.seed)
        self._references = References()
        self._generator = random.Random(plan.seed)
        self._streams: set[asyncio.Task[None]] = set()
        self.counts: Counter[str] = Counter()

    async def run(self, tell: Callable[[float, Counter[str]], None]) -> None:
        """All of it; `tell(seconds so far, counts)` about once a second."""
        seconds = self._plan.minutes * 60.0
        async with AsyncClient(self._address, timeout_s=TIMEOUT_S) as client:
            beside = [
                asyncio.create_task(self._sample()),
                asyncio.create_task(self._migrate(client)),
                asyncio.create_task(self._hurt(seconds)),
            ]
            try:
                await self._arrive(client, seconds, tell)
                await settle(self._streams, TIMEOUT_S)
            finally:
                for task in beside:
                    task.cancel()
                await asyncio.gather(*beside, return_exceptions=True)
            await self._injector.finish()

    async def _arrive(
        self, client: AsyncClient, seconds: float, tell: Callable[[float, Counter[str]], None]
    ) -> None:
        loop = asyncio.get_running_loop()
        began_s = next_s = loop.time()
        while (now_s := loop.time()) - began_s < seconds:
            tell(now_s - began_s, self.counts)
            if now_s < next_s:
                await asyncio.sleep(min(1.0, next_s - now_s))
                continue
            next_s += self._generator.expovariate(self._plan.rate)
            if len(self._streams) >= TOGETHER_MAX:
                self.counts["held back"] += 1
                continue
            task = asyncio.create_task(self._stream(client, self._generator.choice(self._asks)))
            self._streams.add(task)
            task.add_done_callback(self._streams.discard)

    async def _stream(self, client: AsyncClient, ask: Ask) -> None:
        cancelled = self._generator.random() < CANCEL_SHARE
        after = self._generator.randint(1, ask.max_tokens - 1) if cancelled else None
        stream = await run_stream(client, ask, TIMEOUT_S, after)
        if not self._references.judge(stream):
            stream.outcome = "wrong"
        self.counts[stream.outcome] += 1
        self._write(stream)

    def _write(self, stream: Stream) -> None:
        account = stream.result.accounting if stream.result else None
        self._journal.write(
            "stream",
            request=stream.request_id,
            ask=stream.ask.index,
            outcome=stream.outcome,
            error=stream.error,
            tokens=len(stream.tokens),
            seconds=round((stream.ended_s or 0.0) - stream.began_s, 3),
            longest_gap_s=round(max((b - a for a, b in stream.gaps), default=0.0), 3),
            retries=stream.result.retries if stream.result else 0,
            migrations=account.migrations if account else 0,
        )

    async def _migrate(self, client: AsyncClient) -> None:
        while True:
            await asyncio.sleep(MIGRATE_S)
            try:
                requests = (await client.status()).requests
                running = [r.request_id for r in requests if r.state == "decode"]
                if running:
                    move = await client.migrate(self._generator.choice(running))
                    self.counts["migrated" if move.committed else "not migrated"] += 1
            except SplitweaveError as error:
                self.counts["not migrated"] += 1
                self._journal.write("not migrated", error=str(error))

    async def _hurt(self, seconds: float) -> None:
        if not self._plan.fault_every_s:
            return
        plan = draw_plan(tuple(Kind), self._plan.fault_every_s, self._plan.seed)
        # The last minute is for getting over the last fault.
        await self._injector.follow(plan, until_s=seconds - 60.0)

    async def _sample(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._injector.status()
            samples = await loop.run_in_executor(None, self._family.samples, time.time())
            for sample in samples:
                self._journal.write("sample", **dataclasses.asdict(sample))
            await asyncio.sleep(SAMPLE_S)
