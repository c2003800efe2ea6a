"""Token streams are equal alone, batched, disaggregated, migrated and preempted."""

import asyncio
import dataclasses
import random
from collections.abc import Sequence
from pathlib import Path

import pytest
from asks import Ask, growing, sixteen
from splitweave.client import AsyncClient, Client, Generation, SplitweaveError
from splitweave.cluster.live.cluster import LiveCluster
from splitweave.cluster.live.config import ClusterConfig, PoolConfig, RayConfig
from splitweave.cluster.live.model_path import demo_model
from splitweave.cluster.live.setups import worker_setup
from splitweave.proto.cluster_events import WorkerRegistered
from splitweave.proto.effects import RunIteration
from splitweave.proto.ids import RequestId
from splitweave.proto.record import read_steps
from splitweave.proto.views import Role
from splitweave.workers.core.core import WorkerCore
from splitweave.workers.models.spec_file import read_spec

Tokens = list[tuple[int, ...]]
ASKS: Sequence[Ask] = sixteen()
LONG_S = 800.0


@pytest.fixture(scope="module")
def alone(cluster: LiveCluster) -> Tokens:
    """One request at a time: what every other way must repeat."""
    with Client(cluster.address, timeout_s=LONG_S) as client:
        return [client.generate(ask.prompt, **ask.options).token_ids for ask in ASKS]


def _tokens(results: list[Generation]) -> Tokens:
    return [result.token_ids for result in results]


async def _together(address: str, asks: Sequence[Ask] = ASKS) -> list[Generation]:
    async with AsyncClient(address, timeout_s=LONG_S) as client:
        runs = [client.generate(ask.prompt, **ask.options) for ask in asks]
        return list(await asyncio.gather(*runs))


def test_requests_batched_together_give_the_tokens_they_give_alone(
    cluster: LiveCluster, alone: Tokens
) -> None:
    assert _tokens(asyncio.run(_together(cluster.address))) == alone


def test_long_prompts_are_handed_off_and_part_of_it_is_hidden(cluster: LiveCluster) -> None:
    """Prompts that no cache holds: these are of another seed."""
    fresh = [ask for ask in sixteen(seed=16) if len(ask.prompt) > 2_000]
    assert len(fresh) >= 3
    results = asyncio.run(_together(cluster.address, fresh))
    handed = [r.accounting for r in results if len(r.accounting.workers) > 1]
    assert handed
    assert all(account.handoff_bytes > 0 for account in handed)
    assert any(account.handoff_hidden_share > 0 for account in handed)


def test_a_lone_mixed_worker_gives_the_same_tokens(pair: LiveCluster, alone: Tokens) -> None:
    assert _tokens(asyncio.run(_together(pair.address))) == alone


def test_preempted_requests_give_the_same_tokens(
    cluster: LiveCluster, config: ClusterConfig, tmp_path: Path
) -> None:
    """Five prompts of some 7 blocks fit into 40; growing by 6 each, they no longer do."""
    asks = growing()
    undisturbed = asyncio.run(_together(cluster.address, asks))
    tight = LiveCluster.start_beside(
        dataclasses.replace(
            config,
            pools=[PoolConfig(name="tight", role=Role.MIXED, count=1, cpus=0.2, blocks=40)],
            ray=RayConfig(address="local", namespace="splitweave-tight"),
            record=str(tmp_path),
        )
    )
    try:
        assert _tokens(asyncio.run(_together(tight.address, asks))) == _tokens(undisturbed)
    finally:
        tight.stop()
    assert _preempted(tight.config, tmp_path)


def _preempted(config: ClusterConfig, folder: Path) -> set[RequestId]:
    """Requests whose computation began again from an earlier position, by the recording."""
    registered = (step.event for step in read_steps(folder / "controller.jsonl"))
    info = next(event.info for event in registered if isinstance(event, WorkerRegistered))
    setup = worker_setup(config, config.pools[0], info.key.worker_id)
    core = WorkerCore(info, setup.limits, read_spec(demo_model()).layers)
    ends: dict[RequestId, int] = {}
    again = set()
    for step in read_steps(folder / f"{info.key.worker_id}-{info.key.incarnation}.jsonl"):
        for effect in core.step(step.event, step.now_ns):
            for chunk in effect.batch.chunks if isinstance(effect, RunIteration) else ():
                if chunk.start < ends.get(chunk.request_id, 0):
                    again.add(chunk.request_id)
                ends[chunk.request_id] = chunk.end
    return again


def test_requests_migrated_twice_at_random_moments_give_the_same_tokens(
    cluster: LiveCluster, alone: Tokens, client: Client
) -> None:
    """Four at a time: sixteen would wait for each other's moves until they end."""

    async def run() -> list[tuple[int, ...]]:
        async with AsyncClient(cluster.address, timeout_s=LONG_S) as together:
            generator, four = random.Random(3), asyncio.Semaphore(4)

            async def one(ask: Ask, when: float) -> tuple[int, ...]:
                async with four:
                    return await _migrated(together, ask, when)

            runs = [one(ask, generator.random()) for ask in ASKS]
            return list(await asyncio.gather(*runs))

    for ask, known, tokens in zip(ASKS, alone, asyncio.run(run()), strict=True):
        if len(tokens) > len(known):  # it moved late, and so went on for longer
            options = ask.options | {"max_tokens": len(tokens)}
            known = client.generate(ask.prompt, **options).token_ids
        assert tokens == known


async def _migrated(client: AsyncClient, ask: Ask, when: float) -> tuple[int, ...]:
    """Migrates from a random moment of the first third on until it has moved twice, however long
    that takes; the tokens that were asked for, and four at least behind the second move.
    """
    wanted, moved, needed = ask.options["max_tokens"], 0, 0
    tokens: list[int] = []
    moving: asyncio.Task[bool] | None = None
    async with client.stream(ask.prompt, **ask.options | {"max_tokens": 4_000}) as stream:
        async for delta in stream:
            tokens += [token.token_id for token in delta.tokens]
            if moving is not None and moving.done():
                moved += moving.result()
                moving, needed = None, max(wanted, len(tokens) + 4)
            if moved == 2 and len(tokens) >= needed:
                break
            if moving is None and moved < 2 and len(tokens) >= 1 + int(when * wanted / 3):
                moving = asyncio.create_task(_migrate(client, stream.request_id))
    assert moved == 2
    return tuple(tokens[:needed])


async def _migrate(client: AsyncClient, request_id: str) -> bool:
    """False if it was refused: it has ended, moves already, or too many move at once."""
    try:
        return (await client.migrate(request_id)).committed
    except SplitweaveError:
        return False
