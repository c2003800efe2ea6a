"""The target lends blocks and commits when all has landed."""

from dataclasses import replace

import pytest
from parts import LIMITS
from solo import SELF, Solo, request_of
from splitweave.proto.blocks import block_hashes
from splitweave.proto.effects import ClearTimer, CloseLease, OpenLease
from splitweave.proto.ids import Epoch
from splitweave.proto.timers import TimerKey
from splitweave.proto.views import Role
from splitweave.proto.worker_events import (
    LeaseOpened,
    MoveCommitted,
    RequestAssigned,
    RoleAssigned,
    StreamAcked,
)
from target_stages import (
    ABORTED,
    ACKED,
    M1,
    REQUEST,
    committed,
    land,
    leasing,
    lent,
    offered,
    peer_words,
    refusal,
)

# ---- RESERVE -> COPY


def test_a_lease_sets_blocks_aside_and_names_them() -> None:
    solo = leasing()
    assert solo.ordered(OpenLease) == [OpenLease(move_id=M1, lease=1)]
    opened = solo.sent(LeaseOpened)[0]
    assert (len(opened.blocks), opened.present, opened.target) == (5, 0, SELF)
    assert lent(solo) == (5, 0)
    assert solo.timer("target_move") == solo.now_ns + LIMITS.lease_ns


def test_what_is_cached_here_is_present_and_shared() -> None:
    solo = Solo()
    solo.assign("q", range(18), 1)
    solo.iterate(2)
    solo.step(StreamAcked(request_id="q"))
    solo.ask_lease(REQUEST, 5, block_hashes(range(18), 4))
    opened = solo.sent(LeaseOpened)[0]
    assert opened.present == 4
    assert lent(solo) == (1, 0)
    assert solo.view.blocks_held == 4


def test_the_last_known_token_is_never_present() -> None:
    solo = Solo()
    solo.assign("q", range(18), 1)
    solo.iterate(2)
    solo.ask_lease(request_of("r", range(16)), 5, block_hashes(range(16), 4))
    assert solo.sent(LeaseOpened)[0].present == 3


def test_the_same_ask_again_gives_the_same_lease() -> None:
    solo = leasing()
    first = solo.sent(LeaseOpened)
    solo.ask_lease(REQUEST, 5)
    assert solo.sent(LeaseOpened) == first
    assert solo.ordered(OpenLease) == []
    assert lent(solo) == (5, 0)


def test_a_larger_ask_raises_the_lease_at_its_end() -> None:
    solo = leasing()
    first = solo.sent(LeaseOpened)[0].blocks
    solo.ask_lease(REQUEST, 7)
    raised = solo.sent(LeaseOpened)[0].blocks
    assert raised[:5] == first
    assert len(raised) == 7
    solo.ask_lease(REQUEST, 5)
    assert solo.sent(LeaseOpened)[0].blocks == raised


def test_a_raise_that_does_not_fit_is_refused_and_the_lease_stays() -> None:
    solo = leasing(blocks=5)
    solo.ask_lease(REQUEST, 60)
    assert refusal(solo) == ["55 more blocks are not available"]
    assert lent(solo) == (5, 0)


def test_there_is_no_lease_beyond_the_watermark() -> None:
    solo = Solo(replace(LIMITS, watermark_blocks=4), blocks=8)
    solo.ask_lease(REQUEST, 5)
    assert refusal(solo) == ["5 blocks are not available"]
    solo.ask_lease(REQUEST, 4)
    assert refusal(solo) == []


def test_there_is_no_lease_while_draining() -> None:
    solo = Solo()
    solo.step(RoleAssigned(role=Role.DECODE, draining=True))
    solo.ask_lease(REQUEST, 5)
    assert refusal(solo) == ["draining"]


def test_there_is_no_lease_for_a_request_that_is_here() -> None:
    solo = Solo()
    solo.step(RequestAssigned(request=REQUEST))
    solo.ask_lease(REQUEST, 5)
    assert refusal(solo) == ["the request is here already"]


def test_an_older_attempt_here_is_no_obstacle() -> None:
    solo = Solo()
    solo.step(RequestAssigned(request=REQUEST))
    solo.ask_lease(replace(REQUEST, epoch=Epoch(1)), 5)
    assert refusal(solo) == []


def test_leases_count_as_sequences() -> None:
    solo = Solo(replace(LIMITS, sequences_max=2))
    solo.assign("q", 5)
    solo.ask_lease(REQUEST, 5)
    solo.ask_lease(request_of("s", 5), 2, move_id="m2")
    assert refusal(solo) == ["no slot for another sequence"]
    solo.assign("t", 5)
    solo.iterate()
    assert solo.phase("t") == "waiting"


def test_no_more_leases_are_open_than_allowed() -> None:
    solo = Solo(replace(LIMITS, moves_max=1))
    solo.ask_lease(REQUEST, 5)
    solo.ask_lease(request_of("s", 5), 2, move_id="m2")
    assert refusal(solo) == ["1 leases already"]


def test_leases_do_not_starve_the_head_of_the_queue() -> None:
    solo = Solo(blocks=12)
    solo.assign("q", 20, 9)
    solo.assign("big", 36)
    solo.iterate()
    solo.ask_lease(request_of("s", 5), 2, move_id="m2")
    assert refusal(solo) == ["2 blocks are not available"]


def test_a_refusal_is_not_remembered() -> None:
    solo = Solo()
    solo.step(RoleAssigned(role=Role.DECODE, draining=True))
    solo.ask_lease(REQUEST, 5)
    solo.step(RoleAssigned(role=Role.DECODE, draining=False))
    solo.ask_lease(REQUEST, 5)
    assert len(solo.sent(LeaseOpened)) == 1


# ---- COPY -> HANDOVER -> COMMITTED


def test_it_commits_when_every_named_copy_is_here() -> None:
    solo = offered()
    assert peer_words(solo) == []
    land(solo, "m1/1.1")
    assert [event.epoch for event in solo.sent(MoveCommitted)] == [Epoch(0, 1)]
    assert solo.ordered(CloseLease) == [CloseLease(move_id=M1, lease=1)]
    assert solo.ordered(ClearTimer) == [ClearTimer(TimerKey("target_move", M1))]
    assert lent(solo) == (0, 0)
    assert solo.batch == {"r": 1}
    assert solo.held("r").epoch == Epoch(0, 1)


def test_landings_may_come_after_or_before_the_offer() -> None:
    solo = leasing()
    land(solo, "m1/1.1")
    land(solo, "m1/1.0")
    solo.offer(1, 18, ("m1/1.0", "m1/1.1"))
    assert len(solo.sent(MoveCommitted)) == 1


def test_an_offer_without_copies_commits_at_once() -> None:
    solo = leasing()
    solo.offer(0, 0)
    assert len(solo.sent(MoveCommitted)) == 1
    assert solo.batch == {"r": 16}


def test_it_goes_on_at_the_next_number() -> None:
    solo = committed()
    solo.iterate()
    assert [(c.first_index, c.epoch) for c in solo.chunks] == [(1, Epoch(0, 1))]
    assert solo.running.chunks[0].start == 19


def test_half_a_prefill_is_finished_here() -> None:
    solo = leasing()
    land(solo, "m1/1.0")
    solo.offer(0, 8, ("m1/1.0",))
    assert solo.phase("r") == "prefill"
    assert solo.running.chunks[0].start == 8


def test_what_was_present_is_not_computed_again() -> None:
    solo = Solo()
    solo.assign("q", range(18), 1)
    solo.iterate(2)
    solo.ask_lease(REQUEST, 5, block_hashes(range(18), 4))
    solo.offer(0, 0)
    assert solo.running.chunks[0].start == 16


def test_committed_blocks_become_findable() -> None:
    solo = committed()
    solo.assign("q", range(18), 1)
    solo.iterate()
    chunk = next(chunk for chunk in solo.running.chunks if chunk.request_id == "q")
    assert chunk.start == 16


def test_a_second_offer_changes_nothing() -> None:
    solo = offered()
    assert solo.offer(1, 18, ("m1/1.0", "m1/1.1")) == []


@pytest.mark.parametrize("word", ["ask", "offer", "abort"])
def test_a_committed_target_answers_anything_with_the_commit(word: str) -> None:
    solo = committed()
    match word:
        case "ask":
            solo.ask_lease(REQUEST, 5)
        case "offer":
            solo.offer(1, 18, ("m1/1.0", "m1/1.1"))
        case "abort":
            solo.step(ABORTED)
    assert peer_words(solo) == ["MoveCommitted"]


def test_an_ack_after_the_commit_changes_nothing() -> None:
    solo = committed()
    assert solo.step(ACKED) == []
    solo.offer(1, 18, ("m1/1.0", "m1/1.1"))
    assert peer_words(solo) == ["MoveCommitted"]


def test_a_newer_attempt_that_came_meanwhile_wins() -> None:
    solo = offered()
    solo.step(RequestAssigned(request=replace(REQUEST, epoch=Epoch(1))))
    land(solo, "m1/1.1")
    assert peer_words(solo) == ["MoveAborted"]
    assert solo.held("r").epoch == Epoch(1)
    assert lent(solo) == (0, 5)


def test_an_older_attempt_that_is_here_is_replaced_by_the_commit() -> None:
    solo = Solo()
    solo.step(RequestAssigned(request=REQUEST))
    solo.ask_lease(replace(REQUEST, epoch=Epoch(1)), 5)
    solo.offer(0, 0)
    assert solo.held("r").epoch == Epoch(1, 1)


def test_a_commit_while_an_iteration_runs_joins_the_next() -> None:
    solo = Solo()
    solo.assign("q", 5)
    solo.ask_lease(REQUEST, 5)
    land(solo, "m1/1.0")
    solo.offer(1, 18, ("m1/1.0",))
    assert solo.batch == {"q": 5}
    solo.iterate()
    assert solo.batch == {"q": 1, "r": 1}
