"""What goes into an iteration, and in which order."""

from dataclasses import replace

from parts import LIMITS
from solo import Solo
from splitweave.proto.effects import RunIteration
from splitweave.proto.requests import SampledToken
from splitweave.proto.worker_events import IterationDone, RequestCancelled


def test_an_idle_worker_starts_at_once() -> None:
    solo = Solo()
    solo.assign("r", 5)
    assert solo.batch == {"r": 5}


def test_nothing_to_do_starts_nothing() -> None:
    solo = Solo()
    assert solo.step(RequestCancelled(request_id="r")) == []


def test_one_iteration_is_in_flight_at_most() -> None:
    solo = Solo()
    solo.assign("r", 5)
    solo.assign("s", 5)
    assert solo.ordered(RunIteration) == []
    solo.iterate()
    assert solo.batch == {"r": 1, "s": 5}


def test_iterations_are_numbered_and_a_stale_end_is_ignored() -> None:
    solo = Solo()
    solo.assign("r", 5)
    assert solo.running is not None
    assert solo.running.iteration == 1
    token = SampledToken(token_id=1)
    assert solo.step(IterationDone(iteration=9, sampled=(token,))) == []
    solo.iterate()
    assert solo.running.iteration == 2
    assert solo.step(IterationDone(iteration=1, sampled=(token,))) == []


def test_a_prompt_is_cut_into_chunks_and_draws_with_the_last() -> None:
    solo = Solo()
    solo.assign("r", 40)
    seen = []
    for _ in range(4):
        assert solo.running is not None
        chunk = solo.running.chunks[0]
        seen.append((chunk.start, chunk.end, chunk.draw is not None))
        solo.iterate()
    assert seen == [(0, 16, False), (16, 32, False), (32, 40, True), (40, 41, True)]


def test_chunks_carry_the_prompts_tokens_and_a_table_that_covers_them() -> None:
    solo = Solo()
    solo.assign("r", range(20))
    solo.iterate()
    assert solo.running is not None
    chunk = solo.running.chunks[0]
    assert chunk.token_ids == (16, 17, 18, 19)
    assert len(chunk.block_table) == 5


def test_a_decode_feeds_the_last_token() -> None:
    solo = Solo()
    solo.assign("r", 5)
    solo.iterate(token=99)
    assert solo.running is not None
    chunk = solo.running.chunks[0]
    assert (chunk.token_ids, chunk.start) == ((99,), 5)
    assert chunk.draw is not None
    assert chunk.draw.position == 6


def test_the_token_budget_is_never_exceeded() -> None:
    solo = Solo(replace(LIMITS, batched_tokens_max=20))
    for name in "rstu":
        solo.assign(name, 24)
    while solo.batch and solo.now_ns < 50_000_000:
        assert sum(solo.batch.values()) <= 20
        solo.iterate()
    assert solo.core.view(0).waiting == 0


def test_the_budget_is_filled_with_prefill_after_the_decodes() -> None:
    solo = Solo(replace(LIMITS, batched_tokens_max=20))
    solo.assign("r", 4)
    solo.assign("s", 30)
    solo.assign("t", 30)
    solo.iterate()
    assert solo.batch == {"r": 1, "s": 16, "t": 3}


def test_a_decode_is_never_delayed_by_prefill() -> None:
    solo = Solo()
    solo.assign("r", 4, max_tokens=20)
    for name in "stu":
        solo.assign(name, 25)
    for _ in range(6):
        solo.iterate()
        assert solo.batch["r"] == 1


def test_running_prefills_go_before_admissions() -> None:
    solo = Solo(replace(LIMITS, batched_tokens_max=16))
    solo.assign("r", 20)
    solo.assign("s", 8)
    solo.iterate()
    assert solo.batch == {"r": 4, "s": 8}


def test_the_queue_is_served_in_order_of_arrival_here() -> None:
    solo = Solo(replace(LIMITS, sequences_max=1))
    for name in "rst":
        solo.assign(name, 4, max_tokens=1)
    order = []
    while solo.batch:
        order += list(solo.batch)
        solo.iterate()
    assert order == ["r", "s", "t"]


def test_no_more_sequences_run_than_allowed() -> None:
    solo = Solo(replace(LIMITS, sequences_max=2))
    for name in "rst":
        solo.assign(name, 4)
    solo.iterate()
    assert solo.batch == {"r": 1, "s": 4}
    solo.iterate()
    assert solo.batch == {"r": 1, "s": 1}
    assert solo.phase("t") == "waiting"


def test_a_head_that_does_not_fit_is_not_overtaken() -> None:
    solo = Solo(blocks=12)
    solo.assign("r", 24, max_tokens=4)
    solo.assign("big", 36)
    solo.assign("small", 1)
    solo.iterate()
    assert solo.phase("big") == "waiting"
    assert solo.phase("small") == "waiting"
    solo.iterate(4)
    assert solo.phase("r") == "finished"
    assert solo.phase("big") == "prefill"


def test_the_watermark_is_kept_at_admission() -> None:
    solo = Solo(replace(LIMITS, watermark_blocks=4), blocks=10)
    solo.assign("r", 15)
    solo.assign("s", 8)  # 2 blocks: of the 6 that are free 4 must stay
    solo.iterate()
    assert solo.phase("s") == "prefill"
    solo.assign("t", 4)
    solo.iterate()
    assert solo.phase("t") == "waiting"


def test_a_lone_request_may_use_the_watermark() -> None:
    solo = Solo(replace(LIMITS, watermark_blocks=4), blocks=6)
    solo.assign("r", 22)
    assert solo.batch == {"r": 16}


def test_blocks_for_the_whole_prompt_are_taken_at_admission() -> None:
    solo = Solo()
    solo.assign("r", 40)
    assert solo.view.blocks_held == 10


def test_backlog_counts_prompt_tokens_not_yet_computed() -> None:
    solo = Solo()
    solo.assign("r", 40)
    solo.assign("s", 10)
    assert solo.view.backlog_tokens == 50
    solo.iterate()
    assert solo.view.backlog_tokens == 34
    solo.iterate(3)
    assert solo.view.backlog_tokens == 0
