"""Decode workers without room: handoffs wait at the source, and are pulled when room comes."""

from dataclasses import replace
from typing import Any

import pytest
from sim_worlds import poisson, pool, scenario, world_of
from splitweave.proto.batch import Batch
from splitweave.proto.effects import RunIteration
from splitweave.proto.ids import WorkerId
from splitweave.proto.move import MoveKind, MoveReport, Stage
from splitweave.sim.faults import FullMemory
from splitweave.sim.inject import Injector
from splitweave.sim.scenario import Scenario
from splitweave.sim.world import World

MS = 1_000_000
S = 1_000 * MS


def crowded(seed: int) -> Scenario:
    return replace(
        scenario(
            pools=[pool("prefill", "prefill", count=2), pool("decode", "decode")],
            workload=poisson(100, 25, 40, 90),
            limits={"worker": {"pull_wait_ns": 3 * S}},
        ),
        seed=seed,
        checked=True,
    )


def reports_of(world: World) -> list[MoveReport]:
    accounts = [stream.account for stream in world.clients.streams.values()]
    return [move for account in accounts if account is not None for move in account.moves]


@pytest.mark.parametrize("seed", range(3))
def test_handoffs_to_a_full_worker_are_pulled_and_nothing_is_computed_twice(seed: int) -> None:
    """Its memory is taken from before the first request on, and until after its first view."""
    world, run, queue = world_of(crowded(seed))
    batches: list[Batch] = []
    watch_iterations(world, batches)
    full = FullMemory(at_ns=1 * MS, for_ns=S // 4, worker_id=WorkerId("decode-0"), share=1.0)
    Injector(world, [full])
    queue.run_until(60 * S)
    run.judge_end()
    handoffs = [move for move in reports_of(world) if move.kind is MoveKind.HANDOFF]
    pulled = [move for move in handoffs if move.pulled and move.outcome is Stage.COMMITTED]
    assert pulled, [move.reason for move in handoffs]
    assert all(move.hidden_bytes == 0 < move.transfer_bytes for move in pulled)
    moved = {move.request_id for move in pulled}
    computed: dict[Any, list[int]] = {name: [] for name in sorted(moved)}
    for batch in batches:
        for chunk in batch.chunks:
            if chunk.request_id in moved:
                computed[chunk.request_id] += range(chunk.start, chunk.end)
    for name, positions in computed.items():
        assert len(positions) == len(dict.fromkeys(positions)), f"{name} was computed twice"


def watch_iterations(world: World, batches: list[Batch]) -> None:
    """Every batch of every worker, as it is ordered."""
    for party in world.mail.workers.values():
        engine = party.engine

        def iterate(order: RunIteration, whole: Any = engine.iterate) -> None:
            batches.append(order.batch)
            whole(order)

        engine.iterate = iterate  # type: ignore[method-assign]
