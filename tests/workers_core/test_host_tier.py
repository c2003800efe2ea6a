"""Host memory: what is evicted comes back, what is preempted is swapped, when that is quicker."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from fleet import Fleet, Worker
from parts import LIMITS, MS
from solo import Solo
from splitweave.proto.cluster_events import WorkerRegistered, WorkerViewed
from splitweave.proto.effects import RestoreBlocks, SpillBlocks
from splitweave.proto.views import Role
from splitweave.proto.worker_events import (
    BlocksRestored,
    BlocksSpilled,
    HostCopyFailed,
    RequestCancelled,
    RoleAssigned,
    StreamAcked,
    WorkerStarted,
)

NO_WATERMARK = replace(LIMITS, watermark_blocks=0)
FIRST = list(range(32))  # eight blocks


def host(solo: Solo, **limits: Any) -> Any:
    return solo.core._host


def end_spills(solo: Solo, after_ns: int = 1000) -> int:
    """Ends every spill that was ordered; how many blocks they had."""
    blocks = 0
    while spills := solo.ordered(SpillBlocks):
        blocks += sum(len(spill.blocks) for spill in spills)
        for spill in spills:
            solo.step(BlocksSpilled(host_copy_id=spill.host_copy_id), after_ns)
    return blocks


def run_out(solo: Solo, name: str) -> None:
    """Runs a request to its end, and forgets it."""
    while solo.phase(name) not in (None, "finished"):
        solo.iterate()
        end_spills(solo)
    solo.step(StreamAcked(request_id=name))
    end_spills(solo)


def evicted(host_blocks: int = 24, blocks: int = 10, **limits: Any) -> Solo:
    """`FIRST` was computed, spilled, and pushed off the device by another prompt."""
    solo = Solo(replace(NO_WATERMARK, **limits), blocks=blocks, host_blocks=host_blocks)
    solo.assign("first", FIRST, max_tokens=1)
    run_out(solo, "first")
    solo.assign("other", range(1000, 1036), max_tokens=1)
    run_out(solo, "other")
    return solo


def test_an_evicted_prefix_comes_back_instead_of_being_computed() -> None:
    solo = evicted()
    solo.assign("again", FIRST, max_tokens=2)
    (restore,) = solo.ordered(RestoreBlocks)
    assert solo.phase("again") == "waiting"
    assert solo.batch == {}
    solo.step(BlocksRestored(host_copy_id=restore.host_copy_id))
    assert solo.batch == {"again": 4}  # the last block: one token must be computed
    assert solo.running is not None
    assert solo.running.chunks[0].block_table[: len(restore.blocks)] != ()


def test_without_room_in_host_memory_nothing_is_spilled() -> None:
    solo = evicted(host_blocks=0)
    solo.assign("again", FIRST, max_tokens=2)
    assert solo.ordered(RestoreBlocks) == []
    assert solo.batch == {"again": 16}


def test_a_spill_holds_its_blocks_until_it_ends() -> None:
    solo = Solo(NO_WATERMARK, blocks=8, host_blocks=16)
    solo.assign("first", range(20), max_tokens=1)
    while solo.phase("first") != "finished":
        solo.iterate()
    (spill,) = solo.ordered(SpillBlocks)
    assert len(spill.blocks) == 5
    solo.step(StreamAcked(request_id="first"))
    assert (solo.view.blocks_free, solo.view.blocks_held) == (3, 5)
    solo.assign("second", range(1000, 1020), max_tokens=1)
    assert solo.phase("second") == "waiting"  # five blocks asked, three free
    solo.step(BlocksSpilled(host_copy_id=spill.host_copy_id))
    assert solo.batch == {"second": 16}
    assert solo.view.host_blocks_cached == 5


def test_other_requests_run_on_while_a_prefix_comes_back() -> None:
    solo = evicted(blocks=16)
    solo.assign("runs", range(2000, 2004), max_tokens=9)
    solo.assign("again", FIRST, max_tokens=2)
    solo.iterate()
    if solo.phase("again") == "waiting":
        assert set(solo.batch) == {"runs"}


def test_a_restore_that_would_take_longer_than_computing_is_left() -> None:
    solo = evicted()
    host(solo)._meter.block_ns = 1e9
    solo.assign("again", FIRST, max_tokens=2)
    assert solo.ordered(RestoreBlocks) == []
    assert solo.batch == {"again": 16}


def test_the_time_of_a_copy_is_learned_from_its_order_to_its_end() -> None:
    solo = Solo(NO_WATERMARK, blocks=8, host_blocks=16)
    solo.assign("first", range(20), max_tokens=1)
    while solo.phase("first") != "finished":
        solo.iterate()
    (spill,) = solo.ordered(SpillBlocks)
    solo.step(BlocksSpilled(host_copy_id=spill.host_copy_id), 50 * MS)
    assert solo.view.speed.restore_block_ns == pytest.approx(0.2 * 10 * MS)


def test_a_failed_restore_is_computed_and_not_tried_again() -> None:
    solo = evicted()
    solo.assign("again", FIRST, max_tokens=2)
    (restore,) = solo.ordered(RestoreBlocks)
    solo.step(HostCopyFailed(host_copy_id=restore.host_copy_id, reason="planted"))
    assert solo.ordered(RestoreBlocks) == []
    assert solo.batch == {"again": 16}
    assert host(solo).pool.find(solo.core._holdings.held["again"].hashes[0]) is None


def test_a_failed_spill_is_tried_again_only_after_a_pause() -> None:
    solo = Solo(NO_WATERMARK, blocks=8, host_blocks=16)
    solo.assign("first", range(20), max_tokens=1)
    while solo.phase("first") != "finished":
        solo.iterate()
    (spill,) = solo.ordered(SpillBlocks)
    solo.step(HostCopyFailed(host_copy_id=spill.host_copy_id, reason="planted"))
    assert solo.ordered(SpillBlocks) == []
    assert solo.view.blocks_cached == 4 + 1
    solo.fire("nothing", after_ns=2_000 * MS)
    assert len(solo.ordered(SpillBlocks)) == 1


def test_a_request_cancelled_while_its_prefix_comes_back_leaves_it_in_the_cache() -> None:
    solo = evicted()
    solo.assign("again", FIRST, max_tokens=2)
    (restore,) = solo.ordered(RestoreBlocks)
    solo.step(RequestCancelled(request_id="again"))
    solo.step(BlocksRestored(host_copy_id=restore.host_copy_id))
    end_spills(solo)
    solo.assert_no_block_used()
    solo.assign("more", FIRST, max_tokens=2)
    assert solo.batch == {"more": 4}


def test_ends_of_unknown_copies_mean_nothing() -> None:
    solo = Solo(host_blocks=4)
    for event in (BlocksSpilled, BlocksRestored):
        assert solo.step(event(host_copy_id="host.9")) == []
    assert solo.step(HostCopyFailed(host_copy_id="host.9", reason="x")) == []


def test_copies_ahead_come_to_rest_when_the_next_to_go_are_all_there() -> None:
    solo = evicted(host_blocks=3)
    for _ in range(50):
        solo.fire("nothing")
        assert end_spills(solo) <= 3
    solo.fire("nothing")
    assert solo.ordered(SpillBlocks) == []


def test_the_controller_learns_what_host_memory_has() -> None:
    solo = evicted()
    solo.step(WorkerStarted())
    (registered,) = solo.sent(WorkerRegistered)
    assert set(registered.host_cached) >= {solo.core._blocks.findable()[0]}
    solo.step(RoleAssigned(role=Role.MIXED, draining=False))
    solo.assign("third", range(5000, 5036), max_tokens=1)
    run_out(solo, "third")
    solo.fire("heartbeat")
    (viewed,) = solo.sent(WorkerViewed)
    known = (set(registered.host_cached) | set(viewed.host_cached)) - set(viewed.host_evicted)
    assert known == set(host(solo).pool.findable.all())
    assert viewed.view.host_blocks_total == 24
    assert viewed.view.host_blocks_cached == len(known)


# ---- swap


def crowded(host_blocks: int) -> Solo:
    """Two requests that have filled all blocks; one more token of the older preempts."""
    limits = replace(NO_WATERMARK, spill_ahead_blocks=0)
    solo = Solo(limits, blocks=6, host_blocks=host_blocks)
    solo.assign("old", 11, max_tokens=9)
    solo.assign("new", 12, max_tokens=9)
    solo.iterate(2)
    return solo


def test_a_preempted_request_is_swapped_and_whoever_needs_its_blocks_waits_for_the_copy() -> None:
    solo = crowded(host_blocks=8)
    (spill,) = solo.ordered(SpillBlocks)
    assert len(spill.blocks) == 3
    assert solo.phase("new") == "waiting"
    assert solo.phase("old") == "decode"
    solo.step(BlocksSpilled(host_copy_id=spill.host_copy_id))
    assert solo.batch == {"old": 1}


def test_with_host_memory_too_small_it_is_recomputed() -> None:
    solo = crowded(host_blocks=2)
    assert solo.ordered(SpillBlocks) == []
    assert solo.batch == {"old": 1}


def test_a_swap_that_would_take_longer_than_computing_is_left() -> None:
    solo = Solo(replace(NO_WATERMARK, spill_ahead_blocks=0), blocks=6, host_blocks=8)
    host(solo)._meter.block_ns = 1e9
    solo.assign("old", 11, max_tokens=9)
    solo.assign("new", 12, max_tokens=9)
    solo.iterate(2)
    assert solo.ordered(SpillBlocks) == []
    assert solo.batch == {"old": 1}


def play_swaps(host_blocks: int, disturb: Callable[[Fleet], None] = lambda fleet: None) -> Fleet:
    limits = replace(NO_WATERMARK, spill_ahead_blocks=0)
    fleet = Fleet("ab", limits, blocks=14, host_blocks=host_blocks)
    fleet.network.copy_ns = 10_000
    for number in range(5):
        prompt = list(range(100 * number, 100 * number + 12))
        fleet.ask("a", f"r{number}", prompt, 24, arrived_ns=number)
    fleet.run(12 * MS)
    disturb(fleet)
    fleet.run_until_done()
    fleet.run(50 * MS)
    fleet.assert_empty()
    return fleet


def prefilled(fleet: Fleet) -> int:
    """Tokens computed in chunks, and alone, by all workers."""
    batches = [b for worker in fleet.workers.values() for b in worker.batches]
    return sum(len(chunk.token_ids) for batch in batches for chunk in batch.chunks)


def test_swapped_requests_go_on_with_equal_tokens_and_compute_less_again() -> None:
    swapped, recomputed = play_swaps(64), play_swaps(0)
    for fleet in (swapped, recomputed):
        assert all(stream.text == stream.expected for stream in fleet.streams.values())
    assert swapped.worker("a").host.restores > 0
    assert prefilled(swapped) < prefilled(recomputed)


def test_with_host_memory_full_of_what_is_read_requests_are_recomputed() -> None:
    tiny = play_swaps(2)
    assert all(stream.text == stream.expected for stream in tiny.streams.values())


def test_a_swapped_request_that_moves_computes_at_its_target() -> None:
    def move_waiting(fleet: Fleet) -> None:
        held = fleet.core("a").view(fleet.now_ns).requests
        for one in [held for held in held if held.phase == "waiting"]:
            fleet.migrate(one.request_id, "a", "b")

    fleet = play_swaps(64, move_waiting)
    assert all(stream.text == stream.expected for stream in fleet.streams.values())
    assert any(report.outcome == "committed" for report in fleet.reports)


def test_a_swapped_request_that_is_cancelled_leaves_nothing() -> None:
    def cancel_waiting(fleet: Fleet) -> None:
        held = fleet.core("a").view(fleet.now_ns).requests
        for one in [held for held in held if held.phase == "waiting"]:
            fleet.post(fleet.worker("a").key, RequestCancelled(request_id=one.request_id))
            del fleet.streams[one.request_id]

    play_swaps(64, cancel_waiting)


@pytest.mark.parametrize("seed", range(12))
def test_conversations_over_tight_memory_keep_their_tokens(seed: int) -> None:
    """Prefixes leave and come back in every way, while the device is always full."""
    fleet = Fleet("a", LIMITS, blocks=16 + seed, host_blocks=[8, 24, 64][seed % 3], seed=seed)
    fleet.network.copy_ns = [10_000, 3 * MS][seed % 2]
    moved: list[Any] = []

    def watch(worker: Worker, event: Any, effects: list[Any]) -> None:
        moved.extend(effect for effect in effects if isinstance(effect, SpillBlocks))

    fleet.on_step = watch
    for turn in range(4):
        for talk in range(4):
            prompt = list(range(1000 * talk, 1000 * talk + 16 + 8 * turn))
            fleet.ask("a", f"t{talk}.{turn}", prompt, 6, seed=seed)
            fleet.run(3 * MS)
        fleet.run_until_done()
    assert all(stream.text == stream.expected for stream in fleet.streams.values())
    assert moved
    fleet.run(50 * MS)
    fleet.assert_empty()
