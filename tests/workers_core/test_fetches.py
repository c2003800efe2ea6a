"""A prefix that a peer has cached is fetched; whatever goes wrong, the request computes it."""

from dataclasses import replace
from typing import Any

import pytest
from fleet import Fleet
from parts import LIMITS, MS, Network, key_of
from solo import PEER, Solo, request_of
from splitweave.proto.effects import CloseLease, OpenLease
from splitweave.proto.ids import MoveId
from splitweave.proto.move import FetchPlan, Stage
from splitweave.proto.worker_events import (
    AbortAcked,
    BlocksLanded,
    CopyFailed,
    FetchAsked,
    FetchGranted,
    FetchOffered,
    FetchRefused,
    MoveAborted,
    MoveCommitted,
    PeerLost,
    RequestAssigned,
    RequestCancelled,
    StreamAcked,
)

PROMPT = list(range(40))  # ten blocks
M1 = MoveId("m1")
PLAN = FetchPlan(move_id=M1, source=PEER, blocks=10)
FAST = replace(LIMITS, fetch_ns=20 * MS, lease_ask_ns=5 * MS)


# ---- the target


def asking(blocks: int = 10, **changes: Any) -> Solo:
    """A request waits for what its peer has."""
    solo = Solo(replace(FAST, **changes))
    request = request_of("r", PROMPT)
    plan = replace(PLAN, blocks=blocks)
    solo.step(RequestAssigned(request=request, fetch=plan))
    return solo


def offer(
    solo: Solo, blocks: int = 9, copies: tuple[str, ...] = ("m1/1.0",), number: int = 1
) -> None:
    solo.step(FetchOffered(move_id=M1, source=PEER, offer=number, blocks=blocks, copies=copies))


def land(solo: Solo, copy_id: str = "m1/1.0") -> None:
    solo.step(BlocksLanded(copy_id=copy_id, move_id=M1, transfer_bytes=1))


def test_the_source_is_asked_and_what_it_offers_is_leased_while_the_request_waits() -> None:
    solo = asking()
    (asked,) = solo.sent(FetchAsked)
    assert len(asked.hashes) == 9  # a token is left to compute
    assert solo.view.blocks_leased == 0
    offer(solo)
    (granted,) = solo.sent(FetchGranted)
    assert (granted.offer, len(granted.blocks)) == (1, 9)
    assert solo.ordered(OpenLease) == [OpenLease(move_id=M1, lease=1)]
    assert solo.view.blocks_leased == 9
    assert (solo.phase("r"), solo.batch) == ("waiting", {})


def test_the_blocks_are_findable_only_when_all_copies_landed() -> None:
    solo = asking()
    offer(solo, copies=("m1/1.0", "m1/1.1"))
    land(solo, "m1/1.1")
    assert solo.batch == {}
    land(solo, "m1/1.0")
    assert solo.batch == {"r": 4}
    assert solo.sent(MoveCommitted)[0].target == solo.core.info.key
    assert solo.ordered(CloseLease) == [CloseLease(move_id=M1, lease=1)]
    assert solo.view.blocks_leased == 0


def test_an_offer_is_granted_again_and_another_one_is_not() -> None:
    solo = asking()
    offer(solo)
    offer(solo)
    assert [event.offer for event in solo.sent(FetchGranted)] == [1]
    assert solo.ordered(OpenLease) == []
    offer(solo, number=2)
    assert solo.effects == []


def test_an_offer_for_which_there_is_no_room_any_more_is_turned_down() -> None:
    solo = asking(watermark_blocks=4)
    solo.ask_lease(request_of("other", 80), 20, move_id="m2")
    offer(solo)
    assert [event.reason for event in solo.sent(MoveAborted)] == ["no blocks are available"]
    assert solo.batch == {"r": 16}
    assert solo.view.blocks_quarantined == 0


def test_without_a_grant_there_is_nothing_to_wait_for() -> None:
    solo = asking()
    solo.fire("fetch", M1, after_ns=20 * MS)
    assert solo.batch == {"r": 16}
    assert solo.view.blocks_quarantined == 0
    assert solo.fire("fetch", M1) == []


def test_tokens_from_a_peer_are_told_apart() -> None:
    solo = asking()
    offer(solo)
    land(solo)
    solo.iterate()
    (chunk,) = solo.chunks
    assert (chunk.cached_tokens, chunk.cached_host_tokens, chunk.cached_peer_tokens) == (36, 0, 36)


def test_of_a_shorter_offer_only_what_was_copied_is_findable() -> None:
    solo = asking()
    offer(solo, blocks=4)
    land(solo)
    assert solo.batch == {"r": 16}
    assert solo.running is not None
    assert solo.running.chunks[0].start == 16


def test_what_is_here_already_is_not_fetched() -> None:
    solo = Solo(FAST)
    solo.assign("first", PROMPT[:20], max_tokens=1)
    solo.iterate(2)
    solo.step(StreamAcked(request_id="first"))
    solo.step(RequestAssigned(request=request_of("r", PROMPT), fetch=PLAN))
    assert len(solo.sent(FetchAsked)[0].hashes) == 4
    solo.step(RequestAssigned(request=request_of("s", PROMPT[:20]), fetch=replace(PLAN, blocks=5)))
    assert solo.sent(FetchAsked) == []


def test_after_a_refusal_the_request_computes() -> None:
    solo = asking()
    solo.step(FetchRefused(move_id=M1, source=PEER, reason="evicted"))
    assert solo.batch == {"r": 16}
    assert (solo.view.blocks_leased, solo.view.blocks_quarantined) == (0, 0)


def test_without_room_or_from_itself_or_a_dead_peer_nothing_is_fetched() -> None:
    tight = Solo(replace(FAST, watermark_blocks=4), blocks=9)
    tight.step(RequestAssigned(request=request_of("r", 30), fetch=replace(PLAN, blocks=9)))
    own = Solo(FAST)
    plan = replace(PLAN, source=own.core.info.key)
    own.step(RequestAssigned(request=request_of("r", PROMPT), fetch=plan))
    dead = Solo(FAST)
    dead.step(PeerLost(key=PEER))
    dead.step(RequestAssigned(request=request_of("r", PROMPT), fetch=PLAN))
    crowd = Solo(replace(FAST, moves_max=1))
    crowd.step(RequestAssigned(request=request_of("q", 40), fetch=replace(PLAN, move_id="m0")))
    crowd.step(RequestAssigned(request=request_of("r", PROMPT), fetch=PLAN))
    for solo in (tight, own, dead, crowd):
        assert not [asked for asked in solo.sent(FetchAsked) if asked.move_id == M1]


def test_the_source_is_asked_again_until_it_answers() -> None:
    solo = asking()
    solo.fire("fetch", M1)
    assert len(solo.sent(FetchAsked)) == 1
    offer(solo)
    solo.fire("fetch", M1)
    assert solo.sent(FetchAsked) == []
    assert len(solo.sent(FetchGranted)) == 1


def test_after_fetch_ns_the_request_computes_and_the_blocks_are_in_quarantine() -> None:
    solo = asking()
    offer(solo)
    solo.fire("fetch", M1, after_ns=20 * MS)
    assert solo.batch == {"r": 16}
    assert (solo.view.blocks_leased, solo.view.blocks_quarantined) == (0, 9)
    assert solo.view.awaited == (PEER,)
    assert [e.peer for e in solo.sent(MoveAborted)] == [solo.core.info.key]
    solo.fire("fetch", M1)
    assert len(solo.sent(MoveAborted)) == 1  # until it is heard
    land(solo)
    offer(solo)
    assert solo.view.blocks_quarantined == 9
    solo.step(AbortAcked(move_id=M1, lease=1, peer=PEER))
    assert solo.view.blocks_quarantined == 0


@pytest.mark.parametrize("word", ["aborted", "damaged"])
def test_a_fetch_that_fails_is_given_up_at_once(word: str) -> None:
    solo = asking()
    offer(solo)
    if word == "aborted":
        solo.step(MoveAborted(move_id=M1, lease=1, peer=PEER, reason="copy failed"))
        assert len(solo.sent(AbortAcked)) == 1
    else:
        solo.step(CopyFailed(copy_id="m1/1.0", move_id=M1, reason="checksum differs"))
        assert len(solo.sent(MoveAborted)) == 1
    assert solo.batch == {"r": 16}
    assert solo.view.blocks_quarantined == 9
    solo.step(CopyFailed(copy_id="m1/1.1", move_id=M1, reason="checksum differs"))
    solo.step(PeerLost(key=PEER))
    assert solo.view.blocks_quarantined == 0


def test_a_cancelled_request_lets_its_fetch_go() -> None:
    solo = asking()
    offer(solo)
    solo.step(RequestCancelled(request_id="r"))
    solo.fire("fetch", M1)
    assert solo.view.blocks_leased == 0
    solo.step(AbortAcked(move_id=M1, lease=1, peer=PEER))
    solo.assert_no_block_used()


def test_what_became_of_a_fetch_is_told_again() -> None:
    solo = asking()
    offer(solo)
    land(solo)
    offer(solo)
    assert [event.move_id for event in solo.sent(MoveCommitted)] == [M1]
    offer_of_another = FetchOffered(
        move_id=MoveId("m9"), source=PEER, offer=1, blocks=1, copies=("m9/1.0",)
    )
    solo.step(offer_of_another)
    assert [event.reason for event in solo.sent(MoveAborted)] == ["no such lease"]


# ---- both


def fetched(network: Network | None = None, **changes: Any) -> Fleet:
    fleet = Fleet("ab", replace(FAST, **changes), network)
    fleet.ask("a", "first", PROMPT, 2)
    fleet.run_until_done()
    fleet.ask("b", "second", [*PROMPT, 77, 78], 8, fetch=fleet.fetch_plan("a", 10))
    fleet.run_until_done()
    return fleet


def prefilled(fleet: Fleet, name: str) -> int:
    chunks = [chunk for batch in fleet.worker(name).batches for chunk in batch.chunks]
    return sum(len(chunk.token_ids) for chunk in chunks if len(chunk.token_ids) > 1)


def test_a_fetched_prefix_gives_equal_tokens_and_is_not_computed() -> None:
    fleet = fetched()
    assert all(stream.text == stream.expected for stream in fleet.streams.values())
    assert prefilled(fleet, "b") == 2
    (report,) = fleet.reports
    assert (report.outcome, report.blocks) == (Stage.COMMITTED, 10)
    fleet.run(100 * MS)
    fleet.assert_empty()


def test_a_link_that_is_too_slow_costs_fetch_ns_and_nothing_else() -> None:
    fleet = fetched(Network(copy_ns=50 * MS))
    assert all(stream.text == stream.expected for stream in fleet.streams.values())
    assert prefilled(fleet, "b") == 42
    fleet.run(200 * MS)
    fleet.assert_empty()


def test_a_source_that_dies_amid_the_fetch_is_not_waited_for() -> None:
    fleet = Fleet("ab", FAST, Network(copy_ns=5 * MS))
    fleet.ask("a", "first", PROMPT, 2)
    fleet.run_until_done()
    fleet.ask("b", "second", PROMPT, 8, fetch=fleet.fetch_plan("a", 10))
    fleet.run(2 * MS)
    fleet.kill("a")
    fleet.run_until_done()
    assert fleet.streams["second"].text == fleet.streams["second"].expected
    fleet.run(100 * MS)
    fleet.assert_empty()
    assert key_of("b") in fleet.workers


# ---- earlier lives of a fetch


def granted_twice() -> Solo:
    """Offer 2 is granted, of a fetch whose offer 1 both have forgotten."""
    solo = asking()
    offer(solo, number=2)
    assert solo.ordered(OpenLease) == [OpenLease(move_id=M1, lease=2)]
    return solo


def test_an_ack_of_an_earlier_offer_frees_nothing() -> None:
    solo = granted_twice()
    assert solo.step(AbortAcked(move_id=M1, lease=1, peer=PEER)) == []
    assert solo.view.blocks_leased == 9
    solo.step(AbortAcked(move_id=M1, lease=2, peer=PEER))
    assert (solo.view.blocks_leased, solo.view.blocks_quarantined) == (0, 0)


def test_an_abort_of_an_earlier_offer_is_acknowledged_and_ends_nothing() -> None:
    solo = granted_twice()
    solo.step(MoveAborted(move_id=M1, lease=1, peer=PEER, reason="ended at the source"))
    (acked,) = solo.sent(AbortAcked)
    assert acked.lease == 1
    assert solo.view.blocks_leased == 9
