"""Host memory under a real engine: the bytes that left are the bytes that come back."""

import queue
from pathlib import Path
from typing import Any

import pytest
import torch
from splitweave.proto.effects import RestoreBlocks, SpillBlocks
from splitweave.proto.ids import BlockId, HostBlockId, HostCopyId
from splitweave.proto.worker_events import BlocksRestored, BlocksSpilled, HostCopyFailed
from splitweave.workers.live.engine import TorchEngine, load_engine
from splitweave.workers.live.host_memory import HostMemory


@pytest.fixture(scope="module")
def engine(tiny_llama: Path) -> TorchEngine:
    engine = load_engine(tiny_llama, blocks=12, block_tokens=8, threads=1)
    engine.cache.tensor.normal_()
    return engine


def ids(kind: Any, *given: int) -> Any:
    return tuple(kind(one) for one in given)


def spill(name: str, blocks: tuple[int, ...], host_blocks: tuple[int, ...]) -> SpillBlocks:
    return SpillBlocks(
        host_copy_id=HostCopyId(name),
        blocks=ids(BlockId, *blocks),
        host_blocks=ids(HostBlockId, *host_blocks),
    )


def restore(name: str, blocks: tuple[int, ...], host_blocks: tuple[int, ...]) -> RestoreBlocks:
    return RestoreBlocks(
        host_copy_id=HostCopyId(name),
        blocks=ids(BlockId, *blocks),
        host_blocks=ids(HostBlockId, *host_blocks),
    )


def test_blocks_come_back_bit_by_bit_into_other_blocks(engine: TorchEngine) -> None:
    memory = HostMemory(engine, 5, "cpu")
    before = engine.cache.tensor.clone()
    memory.spill((7, 2, 9), (4, 0, 3))
    engine.cache.tensor[:, :, [7, 2, 9]] = 0
    memory.restore((1, 11, 2), (0, 4, 3))
    after = engine.cache.tensor
    for now, then in ((1, 2), (11, 7), (2, 9)):
        assert torch.equal(after[:, :, now], before[:, :, then])
    assert torch.equal(after[:, :, 5], before[:, :, 5])


def test_orders_are_carried_out_in_turn_and_each_ends_in_one_event(engine: TorchEngine) -> None:
    memory = HostMemory(engine, 4, "cpu")
    events: queue.Queue[Any] = queue.Queue()
    memory.start(events.put)
    before = engine.cache.tensor[:, :, 3].clone()
    memory.order(spill("s", (3,), (1,)))
    memory.order(restore("r", (4,), (1,)))
    assert events.get(timeout=60) == BlocksSpilled(host_copy_id=HostCopyId("s"))
    assert events.get(timeout=60) == BlocksRestored(host_copy_id=HostCopyId("r"))
    assert torch.equal(engine.cache.tensor[:, :, 4], before)
    assert events.empty()


def test_a_copy_that_cannot_be_is_an_event_and_the_next_one_is_done(engine: TorchEngine) -> None:
    memory = HostMemory(engine, 2, "cpu")
    events: queue.Queue[Any] = queue.Queue()
    memory.start(events.put)
    memory.order(spill("bad", (3,), (9,)))
    memory.order(spill("good", (3,), (0,)))
    failed = events.get(timeout=60)
    assert isinstance(failed, HostCopyFailed)
    assert failed.host_copy_id == "bad"
    assert failed.reason
    assert events.get(timeout=60) == BlocksSpilled(host_copy_id=HostCopyId("good"))


def test_the_measured_time_of_a_block_is_above_zero(engine: TorchEngine) -> None:
    assert HostMemory(engine, 1, "cpu").measure_block_ns() > 0
    assert HostMemory(engine, 40, "cpu").measure_block_ns() > 0
