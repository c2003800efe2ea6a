"""An abort that the target does not hear is said again, not left to the lease's expiry."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from fleet import Fleet
from parts import LIMITS, MS, Network, key_of
from solo import PEER, Solo
from source_stages import (
    ABORTED,
    ACKED,
    COMMITTED,
    M1,
    copying,
    handing_over,
    outcome,
    peer_words,
    reserving,
)
from splitweave.proto.worker_events import (
    AbortAcked,
    MoveAborted,
    MoveCommitted,
    PeerLost,
    RequestCancelled,
    StreamAcked,
)

CANCELLED = RequestCancelled(request_id="r")
STAGES = [reserving, copying]


def given_up(stage: Callable[[], Solo]) -> Solo:
    """The request is cancelled in that stage."""
    solo = stage()
    solo.step(CANCELLED)
    assert outcome(solo) == [("aborted", "cancelled")]
    assert solo.timer("source_abort") == solo.now_ns + LIMITS.lease_ask_ns
    return solo


@pytest.mark.parametrize("stage", STAGES)
def test_it_is_said_again_as_often_as_an_ask_and_then_left(stage: Callable[[], Solo]) -> None:
    solo = given_up(stage)
    for repeat in range(1, LIMITS.lease_asks_max + 1):
        solo.fire("source_abort", M1, LIMITS.lease_ask_ns)
        (aborted,) = solo.sent(MoveAborted)
        assert (aborted.lease, aborted.reason) == (1, "cancelled")
        last = repeat == LIMITS.lease_asks_max
        assert (solo.timer("source_abort") is None) == last
    assert solo.fire("source_abort", M1) == []


@pytest.mark.parametrize("answer", [ACKED, ABORTED, COMMITTED, PeerLost(key=PEER)])
@pytest.mark.parametrize("stage", STAGES)
def test_any_word_of_the_end_or_the_targets_death_is_an_answer(
    stage: Callable[[], Solo], answer: AbortAcked | MoveAborted | MoveCommitted | PeerLost
) -> None:
    solo = given_up(stage)
    solo.step(answer)
    assert solo.fire("source_abort", M1) == []


@pytest.mark.parametrize(
    "word", [replace(ACKED, lease=7), replace(ACKED, peer=key_of("c")), PeerLost(key=key_of("c"))]
)
def test_no_other_word_is(word: AbortAcked | PeerLost) -> None:
    solo = given_up(copying)
    solo.step(word)
    solo.fire("source_abort", M1)
    assert peer_words(solo) == ["MoveAborted"]


def test_what_the_target_has_ended_itself_is_not_said_again() -> None:
    solo = copying()
    solo.step(ABORTED)
    assert solo.timer("source_abort") is None


def test_a_handover_that_nobody_waits_for_is_given_up_aloud() -> None:
    """The request has ended here while its outcome was asked for."""
    solo = handing_over()
    solo.fire("source_move", M1, LIMITS.handover_ns)
    solo.step(StreamAcked(request_id="r"))
    solo.fire("source_move", M1)
    assert outcome(solo) == [("aborted", f"no commit for {LIMITS.handover_ns} ns")]
    assert solo.timer("source_abort") is not None


def test_the_repeat_says_too_that_no_copy_is_in_flight_once_that_is_so() -> None:
    solo = copying()
    copies = solo.copies
    solo.step(CANCELLED)
    solo.fire("source_abort", M1)
    assert peer_words(solo) == ["MoveAborted"]
    solo.send_copies(copies)
    assert peer_words(solo) == ["AbortAcked"]
    solo.fire("source_abort", M1)
    assert peer_words(solo) == ["MoveAborted", "AbortAcked"]


def test_at_most_so_many_are_remembered() -> None:
    solo = Solo(replace(LIMITS, ended_moves_max=1))
    for number in (1, 2):
        solo.assign(f"r{number}", 8, 40)
        solo.migrate(f"r{number}", f"m{number}")
        solo.step(RequestCancelled(request_id=f"r{number}"))
    assert solo.fire("source_abort", "m1") == []
    assert solo.fire("source_abort", "m2") != []


@pytest.mark.parametrize("at_ns", [150_000, 1 * MS, 3 * MS])
def test_an_abort_lost_on_its_way_holds_the_targets_blocks_for_a_few_asks_only(at_ns: int) -> None:
    """From RESERVE and from COPY; without the repeats it took lease_ns, fifty times as long."""
    fleet = Fleet("ab", network=Network(copy_ns=5 * MS))
    fleet.run(10 * MS)
    fleet.ask("a", "r", list(range(38)), 40)
    fleet.run(6 * MS)
    fleet.migrate("r", "a", "b")
    fleet.run(at_ns)
    fleet.network.lost = 1.0
    fleet.post(key_of("a"), CANCELLED)
    fleet.run(50 * MS)
    target = fleet.core("b")
    assert target.view(fleet.now_ns).blocks_leased > 0
    fleet.network.lost = 0.0
    fleet.run(LIMITS.lease_ask_ns)
    view = target.view(fleet.now_ns)
    assert (view.blocks_leased, view.blocks_quarantined) == (0, 0)
