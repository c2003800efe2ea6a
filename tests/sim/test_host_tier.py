"""The host tier in the simulator: it saves work, breaks no rule, and pays what it costs."""

from dataclasses import replace
from typing import Any

import pytest
from sim_worlds import EXAMPLES, poisson, pool, scenario
from splitweave.proto.effects import RestoreBlocks, SpillBlocks
from splitweave.proto.ids import BlockId, HostBlockId, HostCopyId
from splitweave.proto.worker_events import BlocksRestored, BlocksSpilled
from splitweave.sim.campaign import run_seeds
from splitweave.sim.content import BlockContent
from splitweave.sim.host_memory import HostMemory
from splitweave.sim.metrics import Metrics, measure
from splitweave.sim.queue import EventQueue
from splitweave.sim.run import simulate
from splitweave.sim.scenario import Scenario, load_scenario

GROUP = 10


def blocks(*given: int) -> Any:
    return tuple(BlockId(one) for one in given)


def test_copies_run_one_after_the_other_at_the_given_bandwidth() -> None:
    queue, ended = EventQueue(), []
    memory = HostMemory(block_bytes=1000, bytes_per_s=1e9, content=None, blocks=8)
    memory.connect(queue, lambda event: ended.append((queue.now_ns, event)))
    host = tuple(HostBlockId(one) for one in (0, 1))
    memory.start(SpillBlocks(host_copy_id=HostCopyId("s"), blocks=blocks(1, 2), host_blocks=host))
    memory.start(RestoreBlocks(host_copy_id=HostCopyId("r"), blocks=blocks(3, 4), host_blocks=host))
    queue.run_until(10_000)
    assert ended == [
        (2001, BlocksSpilled(host_copy_id=HostCopyId("s"))),
        (4002, BlocksRestored(host_copy_id=HostCopyId("r"))),
    ]


def test_a_copy_reads_and_writes_when_it_ends_and_never_after_the_process_has() -> None:
    queue, ended = EventQueue(), []
    content = BlockContent(blocks=4, block_tokens=2, layers=1)
    memory = HostMemory(block_bytes=1000, bytes_per_s=1e9, content=content, blocks=1)
    memory.connect(queue, ended.append)
    host = (HostBlockId(0),)
    memory.start(SpillBlocks(host_copy_id=HostCopyId("s"), blocks=blocks(0), host_blocks=host))
    content._slots[0] = [[7, 8]]
    queue.run_until(5_000)
    memory.start(RestoreBlocks(host_copy_id=HostCopyId("r"), blocks=blocks(3), host_blocks=host))
    queue.run_until(10_000)
    assert content._slots[3] == [[7, 8]]
    memory.start(SpillBlocks(host_copy_id=HostCopyId("t"), blocks=blocks(1), host_blocks=host))
    memory.closed = True
    queue.run_until(20_000)
    assert len(ended) == 2


def returning(host_blocks: int, **changes: Any) -> Metrics:
    """Ten long prompts, asked for in turn, on a worker that has room for two."""
    more = {"host_blocks": host_blocks, "blocks": 80, **changes}
    given = scenario(
        pools=[pool("m", "mixed", **more)],
        workload=poisson(4, 60, 512, 4, shared_prefix_tokens=480, prefix_groups=10),
        checked=True,
    )
    return measure(simulate(given))


def test_prompts_that_do_not_fit_the_device_come_back_from_host_memory() -> None:
    with_host, without = returning(1000), returning(0)
    assert with_host.cached_tokens > 2 * without.cached_tokens
    assert with_host.ttft is not None
    assert without.ttft is not None
    assert with_host.ttft.p50_s < without.ttft.p50_s


def test_host_memory_that_is_slower_than_computing_is_not_waited_for() -> None:
    slow, without = returning(1000, host_gbytes_per_s=2e-4), returning(0)
    assert slow.ttft is not None
    assert without.ttft is not None
    assert slow.ttft.p50_s <= 1.1 * without.ttft.p50_s


def tight(host_gbytes_per_s: float) -> Scenario:
    """A bad hour with hardly any memory, and host memory at `host_gbytes_per_s`."""
    given = load_scenario(EXAMPLES / "faults.toml")
    changed = {"blocks": 32, "host_blocks": 48, "host_gbytes_per_s": host_gbytes_per_s}
    return replace(given, pools=[replace(pool, **changed) for pool in given.pools])


@pytest.mark.parametrize("first", range(0, 40, GROUP))
@pytest.mark.parametrize("host_gbytes_per_s", [1.0, 0.002], ids=["quick", "slow"])
def test_no_seed_breaks_a_rule_with_little_memory(first: int, host_gbytes_per_s: float) -> None:
    results = run_seeds(tight(host_gbytes_per_s), range(first, first + GROUP))
    assert [f"{result.seed}: {result.error}" for result in results if result.error] == []


def test_seeds_with_little_memory_do_spill_and_restore() -> None:
    given = replace(tight(1.0), checked=True)
    orders: dict[str, int] = {}

    class Counting:
        def record(self, name: str, now_ns: int, event: Any, effects: Any) -> None:
            for effect in effects:
                orders[type(effect).__name__] = orders.get(type(effect).__name__, 0) + 1

    simulate(given, transcript=Counting())  # type: ignore[arg-type]
    assert orders.get("SpillBlocks", 0) > 20
    assert orders.get("RestoreBlocks", 0) > 2
