"""The target gives up: expiry, quarantine, deaths, late words."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from parts import GATEWAY, LIMITS, key_of
from solo import PEER, Solo
from splitweave.proto.blocks import block_hashes
from splitweave.proto.cluster_events import RequestEnded
from splitweave.proto.effects import CloseLease
from splitweave.proto.ids import Epoch
from splitweave.proto.worker_events import (
    AbortAcked,
    GatewayLost,
    LeaseOpened,
    MoveAborted,
    PeerLost,
    RequestCancelled,
)
from target_stages import (
    ABORTED,
    ACKED,
    M1,
    REQUEST,
    land,
    leasing,
    lent,
    offered,
    peer_words,
)

# ---- ABORTED


def test_the_lease_expires_without_progress() -> None:
    solo = leasing()
    solo.fire("target_move", M1, LIMITS.lease_ns)
    assert solo.ordered(CloseLease) == [CloseLease(move_id=M1, lease=1)]
    words = solo.sent(MoveAborted)
    assert [word.reason for word in words] == [f"no progress for {LIMITS.lease_ns} ns"]
    assert lent(solo) == (0, 5)


def test_landings_extend_the_lease() -> None:
    solo = leasing()
    solo.now_ns += LIMITS.lease_ns - 10_000
    land(solo, "m1/1.0")
    landed_ns = solo.now_ns
    solo.fire("target_move", M1, 20_000)
    assert peer_words(solo) == []
    assert solo.timer("target_move") == landed_ns + LIMITS.lease_ns


def test_repeated_asks_do_not_extend_the_lease() -> None:
    solo = leasing()
    solo.now_ns += LIMITS.lease_ns - 10_000
    solo.ask_lease(REQUEST, 5)
    solo.fire("target_move", M1, 20_000)
    assert peer_words(solo) == ["MoveAborted"]


def test_repeated_offers_do_not_extend_the_lease() -> None:
    solo = offered()
    solo.now_ns += LIMITS.lease_ns - 10_000
    solo.offer(1, 18, ("m1/1.0", "m1/1.1"))
    solo.fire("target_move", M1, 20_000)
    assert peer_words(solo) == ["MoveAborted"]


def test_an_aborted_lease_is_quarantined_until_the_source_lets_go() -> None:
    solo = leasing()
    solo.step(ABORTED)
    assert peer_words(solo) == ["AbortAcked"]
    assert solo.ordered(CloseLease) == [CloseLease(move_id=M1, lease=1)]
    assert lent(solo) == (0, 5)
    for _ in range(3):
        solo.fire("target_move", M1, LIMITS.lease_ask_ns)
        assert peer_words(solo) == ["MoveAborted"]
        assert solo.timer("target_move") == solo.now_ns + LIMITS.lease_ask_ns
    solo.step(ACKED)
    assert lent(solo) == (0, 0)
    assert solo.fire("target_move", M1) == []


def test_a_landing_in_quarantine_is_ignored() -> None:
    solo = leasing()
    solo.step(ABORTED)
    land(solo, "m1/1.0")
    assert solo.effects == []


@pytest.mark.parametrize("stage", [leasing, offered])
def test_an_ack_alone_is_an_abort(stage: Callable[[], Solo]) -> None:
    solo = stage()
    solo.step(ACKED)
    assert solo.ordered(CloseLease) == [CloseLease(move_id=M1, lease=1)]
    assert lent(solo) == (0, 0)


@pytest.mark.parametrize("stage", [leasing, offered])
def test_a_dead_source_frees_the_lease_at_once(stage: Callable[[], Solo]) -> None:
    solo = stage()
    solo.step(PeerLost(key=PEER))
    assert solo.ordered(CloseLease) == [CloseLease(move_id=M1, lease=1)]
    assert lent(solo) == (0, 0)


def test_a_dead_source_frees_the_quarantine() -> None:
    solo = leasing()
    solo.step(ABORTED)
    solo.step(PeerLost(key=PEER))
    assert lent(solo) == (0, 0)
    assert solo.ordered(CloseLease) == []


def test_another_workers_death_frees_nothing() -> None:
    solo = leasing()
    solo.step(PeerLost(key=key_of("c")))
    solo.step(PeerLost(key=key_of("b", 0)))
    assert lent(solo) == (5, 0)


@pytest.mark.parametrize("epoch", [None, Epoch(0), Epoch(1)])
@pytest.mark.parametrize("stage", [leasing, offered])
def test_a_cancelled_request_closes_its_lease(
    stage: Callable[[], Solo], epoch: Epoch | None
) -> None:
    solo = stage()
    solo.step(RequestCancelled(request_id="r", epoch=epoch))
    assert [word.reason for word in solo.sent(MoveAborted)] == ["cancelled"]
    assert lent(solo) == (0, 5)
    assert solo.sent(RequestEnded) == []


def test_a_cancellation_of_an_older_attempt_leaves_the_lease() -> None:
    solo = Solo()
    solo.ask_lease(replace(REQUEST, epoch=Epoch(1)), 5)
    assert solo.step(RequestCancelled(request_id="r", epoch=Epoch(0, 7))) == []


def test_a_lost_gateway_closes_its_requests_leases() -> None:
    solo = leasing()
    solo.step(GatewayLost(gateway_id=GATEWAY))
    assert lent(solo) == (0, 5)


def test_shared_blocks_are_let_go_at_once() -> None:
    solo = Solo()
    solo.assign("q", range(18), 1)
    solo.iterate(2)
    solo.ask_lease(REQUEST, 5, block_hashes(range(18), 4))
    solo.step(ABORTED)
    assert lent(solo) == (0, 1)
    assert solo.view.blocks_held == 0


@pytest.mark.parametrize("word", ["ask", "offer"])
def test_a_closed_lease_answers_with_its_abort(word: str) -> None:
    solo = leasing()
    solo.step(ABORTED)
    if word == "ask":
        solo.ask_lease(REQUEST, 5)
    else:
        solo.offer(1, 18)
    assert peer_words(solo) == ["MoveAborted"]
    assert lent(solo) == (0, 5)


def test_an_unknown_move_is_aborted_and_remembered() -> None:
    solo = Solo()
    solo.offer(1, 18)
    assert peer_words(solo) == ["MoveAborted"]
    solo.ask_lease(REQUEST, 5)
    assert peer_words(solo) == ["MoveAborted"]
    assert lent(solo) == (0, 0)


@pytest.mark.parametrize("word", [ABORTED, ACKED])
def test_an_abort_that_overtakes_its_ask_prevents_the_lease(word: MoveAborted | AbortAcked) -> None:
    solo = Solo()
    solo.step(word)
    solo.ask_lease(REQUEST, 5)
    assert peer_words(solo) == ["MoveAborted"]
    assert lent(solo) == (0, 0)


def test_words_of_another_worker_are_not_the_sources() -> None:
    solo = leasing()
    other = key_of("c")
    solo.ask_lease(REQUEST, 9, source=other)
    assert solo.effects == []
    assert solo.step(AbortAcked(move_id=M1, lease=1, peer=other)) == []
    solo.step(MoveAborted(move_id=M1, lease=1, peer=other, reason=""))
    assert lent(solo) == (5, 0)


# ---- fencing


def test_words_of_a_dead_incarnation_are_void() -> None:
    solo = Solo()
    solo.step(PeerLost(key=key_of("b", 2)))
    solo.ask_lease(REQUEST, 5, source=key_of("b", 1))
    assert solo.effects == []
    solo.ask_lease(REQUEST, 5, source=key_of("b", 2))
    assert solo.effects == []
    solo.ask_lease(REQUEST, 5, source=key_of("b", 3))
    assert len(solo.sent(LeaseOpened)) == 1


def test_the_view_names_whom_the_quarantine_waits_for() -> None:
    solo = leasing()
    assert solo.view.awaited == ()
    solo.fire("target_move", M1, LIMITS.lease_ns)
    assert solo.view.awaited == (PEER,)
    solo.step(PeerLost(key=PEER))
    assert solo.view.awaited == ()
    assert lent(solo) == (0, 0)
