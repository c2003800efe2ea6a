"""When blocks run out: the latest-arrived pays, the oldest goes on, nothing is lost."""

from dataclasses import replace
from typing import Any

import pytest
from fleet import Fleet, Worker
from parts import LIMITS, MS
from solo import Solo
from splitweave.proto.cluster_events import MoveEnded, RequestEnded
from splitweave.proto.requests import FinishReason

NO_WATERMARK = replace(LIMITS, watermark_blocks=0)


def crowded(blocks: int = 6) -> Solo:
    """Two requests that have filled all blocks; one more token of either does not fit."""
    solo = Solo(NO_WATERMARK, blocks=blocks)
    solo.assign("old", 11, max_tokens=9)
    solo.assign("new", 12, max_tokens=9)
    solo.iterate(1)
    assert solo.batch == {"old": 1, "new": 12}
    assert solo.view.blocks_free == 0
    return solo


def test_the_latest_arrived_is_preempted() -> None:
    solo = crowded()
    solo.iterate()
    assert solo.batch == {"old": 1}
    assert solo.phase("old") == "decode"
    assert solo.phase("new") == "waiting"


def test_arrival_at_the_gateway_decides_who_is_latest() -> None:
    solo = Solo(NO_WATERMARK, blocks=6)
    solo.assign("late", 11, max_tokens=9, arrived_ns=2)
    solo.assign("early", 12, max_tokens=9, arrived_ns=1)
    solo.iterate(2)
    assert solo.phase("early") == "decode"
    assert solo.phase("late") == "waiting"


def test_a_preempted_request_keeps_its_tokens_and_comes_back_first() -> None:
    solo = crowded()
    solo.assign("third", 4)
    solo.iterate()
    assert solo.held("new").output_tokens == 1
    while solo.phase("old") == "decode":
        assert solo.phase("third") == "waiting"
        solo.iterate()
    assert solo.batch["new"] >= 1
    solo.iterate()
    assert [chunk.first_index for chunk in solo.chunks if chunk.request_id == "new"] == [1]


def test_the_latest_itself_waits_with_its_blocks_rather_than_recompute() -> None:
    solo = Solo(NO_WATERMARK, blocks=6)
    solo.assign("old", 9, max_tokens=9)
    solo.assign("new", 12, max_tokens=9)
    solo.iterate(2)
    assert solo.batch == {"old": 1}
    assert solo.phase("new") == "decode"


def test_a_stalled_request_keeps_others_from_being_admitted() -> None:
    solo = Solo(NO_WATERMARK, blocks=6)
    solo.assign("old", 9, max_tokens=9)
    solo.assign("new", 12, max_tokens=9)
    solo.iterate(2)
    solo.assign("third", 1)
    solo.iterate()
    assert solo.phase("third") == "waiting"


def test_preemption_aborts_the_move() -> None:
    solo = crowded()
    solo.migrate("new")
    solo.iterate()
    assert solo.phase("new") == "waiting"
    assert [event.report.reason for event in solo.sent(MoveEnded)] == ["preempted"]


def test_a_prompt_that_can_never_fit_ends_with_an_error() -> None:
    solo = Solo(blocks=4)
    solo.assign("r", 17)
    assert [(chunk.finish, chunk.tokens) for chunk in solo.chunks] == [(FinishReason.ERROR, ())]
    assert len(solo.sent(RequestEnded)) == 1
    solo.assert_no_block_used()


def test_a_request_that_outgrows_all_blocks_ends_with_an_error_and_its_tokens() -> None:
    solo = Solo(blocks=4)
    solo.assign("r", 15, max_tokens=9)
    finishes = []
    while solo.batch:
        solo.iterate()
        finishes += [(chunk.first_index, chunk.finish) for chunk in solo.chunks]
    assert finishes == [(0, None), (1, None), (2, FinishReason.ERROR)]
    solo.assert_no_block_used()


def test_one_that_can_never_fit_does_not_block_the_queue() -> None:
    solo = Solo(blocks=4)
    solo.assign("r", 8, max_tokens=2)
    solo.assign("big", 30)
    solo.assign("s", 8, max_tokens=2)
    while solo.batch:
        solo.iterate()
    assert [solo.phase(name) for name in ("r", "big", "s")] == ["finished"] * 3


@pytest.mark.parametrize("seed", range(10))
def test_requests_too_many_for_the_memory_all_end_with_true_tokens(seed: int) -> None:
    fleet = Fleet("a", NO_WATERMARK, blocks=12, seed=seed)
    for number in range(6):
        fleet.ask("a", f"r{number}", list(range(number, 3 * number + 2 + seed)), 20, seed=seed)
        fleet.run(2 * MS)
    fleet.run_until_done()
    assert all(stream.text == stream.expected for stream in fleet.streams.values())
    fleet.run(10 * MS)
    fleet.assert_empty()


def test_the_oldest_is_never_preempted() -> None:
    fleet = Fleet("a", NO_WATERMARK, blocks=12)
    for number in range(6):
        fleet.ask("a", f"r{number}", list(range(9)), 30, arrived_ns=number, seed=number)
    phases = []

    def watch(worker: Worker, event: Any, effects: list[Any]) -> None:
        held = worker.core.view(0).requests
        phases.extend(str(h.phase) for h in held if h.request_id == "r0")

    fleet.on_step = watch
    fleet.run_until_done()
    assert "waiting" not in phases
