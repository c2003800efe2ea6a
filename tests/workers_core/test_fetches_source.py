"""The source of a prefix fetch: it lends the sight of cached blocks, and copies what is granted."""

from dataclasses import replace
from typing import Any

from parts import LIMITS, MS
from solo import PEER, Solo, request_of
from splitweave.proto.blocks import block_hashes
from splitweave.proto.cluster_events import MoveEnded
from splitweave.proto.ids import BlockId, MoveId
from splitweave.proto.move import MoveKind, Stage
from splitweave.proto.worker_events import (
    AbortAcked,
    CopyFailed,
    CopySent,
    FetchAsked,
    FetchGranted,
    FetchOffered,
    FetchRefused,
    MoveAborted,
    MoveCommitted,
    PeerLost,
    StreamAcked,
)

PROMPT = list(range(40))  # ten blocks
M1 = MoveId("m1")
FAST = replace(LIMITS, fetch_ns=20 * MS, lease_ask_ns=5 * MS)


def serving(**changes: Any) -> Solo:
    """`PROMPT` is cached here, and nothing runs."""
    solo = Solo(replace(FAST, **changes))
    solo.assign("first", PROMPT, max_tokens=1)
    while solo.phase("first") != "finished":
        solo.iterate()
    solo.step(StreamAcked(request_id="first"))
    return solo


def ask(solo: Solo, move_id: str = "m1", blocks: int = 9, prompt: list[int] = PROMPT) -> None:
    request = request_of("r", prompt)
    solo.step(
        FetchAsked(
            move_id=MoveId(move_id),
            target=PEER,
            request_id=request.request_id,
            gateway_id=request.gateway_id,
            epoch=request.epoch,
            hashes=block_hashes(request.token_ids, 4)[:blocks],
        )
    )


def grant(solo: Solo, offer: int = 1, move_id: str = "m1", blocks: int = 9) -> None:
    there = tuple(BlockId(block) for block in range(100, 100 + blocks))
    solo.step(FetchGranted(move_id=MoveId(move_id), target=PEER, offer=offer, blocks=there))


def copying(**changes: Any) -> Solo:
    """`PROMPT` is asked for, and granted."""
    solo = serving(**changes)
    ask(solo)
    grant(solo)
    return solo


def sent(solo: Solo, copy_id: str) -> None:
    solo.step(CopySent(copy_id=copy_id, move_id=M1, transfer_bytes=100))


COPIES = ("m1/1.0", "m1/1.1", "m1/1.2")


def test_cached_blocks_are_held_and_offered_and_copied_only_when_granted() -> None:
    solo = serving()
    ask(solo)
    (offered,) = solo.sent(FetchOffered)
    assert (offered.offer, offered.blocks, offered.copies) == (1, 9, COPIES)
    assert solo.copies == []
    assert solo.view.blocks_held == 9
    grant(solo)
    assert [len(copy.source_blocks) for copy in solo.copies] == [4, 4, 1]
    assert [copy.target_blocks[0] for copy in solo.copies] == [100, 104, 108]
    grant(solo)
    assert solo.copies == []


def test_copies_set_out_as_flight_allows_and_their_blocks_are_let_go_one_by_one() -> None:
    solo = copying(copies_in_flight_max=1)
    assert len(solo.copies) == 1
    sent(solo, COPIES[0])
    assert len(solo.copies) == 1
    assert solo.view.blocks_held == 5
    sent(solo, COPIES[1])
    sent(solo, COPIES[2])
    assert solo.view.blocks_held == 0


def test_a_grant_for_another_offer_or_of_a_forgotten_fetch_copies_nothing() -> None:
    solo = serving()
    ask(solo)
    grant(solo, offer=7)
    assert solo.copies == []
    grant(solo, move_id="m9")
    assert solo.copies == []
    assert (len(solo.sent(MoveAborted)), len(solo.sent(AbortAcked))) == (1, 1)


def test_a_commit_is_reported_with_its_bytes_and_stages() -> None:
    solo = copying()
    for copy_id in COPIES:
        sent(solo, copy_id)
    solo.step(MoveCommitted(move_id=M1, lease=1, target=PEER, epoch=request_of("r", 1).epoch))
    (ended,) = solo.sent(MoveEnded)
    report = ended.report
    assert (report.kind, report.outcome, report.blocks) == (MoveKind.FETCH, Stage.COMMITTED, 9)
    assert (report.transfer_bytes, report.reason) == (900, "")
    assert (report.reserve_ns, report.copy_ns, report.handover_ns) == (1000, 3000, 1000)


def test_a_commit_that_overtakes_the_end_of_a_copy_waits_for_it() -> None:
    solo = copying(copy_blocks_max=16)
    solo.step(MoveCommitted(move_id=M1, lease=1, target=PEER, epoch=request_of("r", 1).epoch))
    assert solo.sent(MoveEnded) == []
    sent(solo, COPIES[0])
    assert solo.sent(MoveEnded)[0].report.transfer_bytes == 900
    solo.assert_no_block_used()


def test_what_is_evicted_is_refused_and_a_part_is_offered() -> None:
    solo = serving()
    ask(solo, prompt=list(range(500, 540)))
    assert len(solo.sent(FetchRefused)) == 1
    ask(solo, "m2", prompt=[*PROMPT[:12], *range(900, 928)])
    assert solo.sent(FetchOffered)[0].blocks == 3


def test_more_than_moves_max_fetches_are_refused() -> None:
    solo = serving(moves_max=1)
    ask(solo)
    ask(solo, "m2")
    assert "1 fetches already" in solo.sent(FetchRefused)[0].reason


def test_a_double_is_answered_and_copied_once() -> None:
    solo = copying()
    ask(solo)
    assert solo.copies == []
    assert [event.offer for event in solo.sent(FetchOffered)] == [1]
    refused = serving()
    ask(refused, prompt=list(range(500, 540)))
    ask(refused)
    assert len(refused.sent(AbortAcked)) == 1


def test_an_abort_is_acked_when_no_copy_is_in_flight() -> None:
    solo = copying(copies_in_flight_max=1)
    solo.step(MoveAborted(move_id=M1, lease=1, peer=PEER, reason="late"))
    assert solo.sent(AbortAcked) == []
    assert solo.view.blocks_held == 4  # of the one copy under way
    ask(solo)
    assert len(solo.sent(MoveAborted)) == 1
    sent(solo, COPIES[0])
    assert len(solo.sent(AbortAcked)) == 1
    assert solo.sent(MoveEnded)[0].report.reason == "late"
    solo.assert_no_block_used()


def test_an_abort_before_the_grant_lets_all_blocks_go() -> None:
    solo = serving()
    ask(solo)
    solo.step(MoveAborted(move_id=M1, lease=1, peer=PEER, reason="late"))
    assert len(solo.sent(AbortAcked)) == 1
    solo.assert_no_block_used()


def test_a_failed_copy_ends_the_fetch() -> None:
    solo = copying()
    solo.step(CopyFailed(copy_id=COPIES[1], move_id=M1, reason="cut"))
    assert solo.sent(MoveAborted)[0].reason == "copy failed: cut"
    solo.step(CopyFailed(copy_id=COPIES[0], move_id=M1, reason="cut"))
    solo.step(CopyFailed(copy_id=COPIES[2], move_id=M1, reason="cut"))
    assert len(solo.sent(AbortAcked)) == 1
    solo.assert_no_block_used()


def test_a_target_that_never_answers_is_given_up() -> None:
    solo = copying()
    for copy_id in COPIES:
        sent(solo, copy_id)
    solo.fire("fetch_source", M1)
    assert len(solo.sent(FetchOffered)) == 1
    solo.fire("fetch_source", M1, after_ns=40 * MS)
    assert solo.sent(MoveEnded)[0].report.reason == "no answer"
    solo.fire("fetch_source", M1)
    assert solo.effects == []


def test_a_dead_target_ends_the_fetch() -> None:
    solo = copying()
    solo.step(PeerLost(key=PEER))
    for copy_id in COPIES:
        sent(solo, copy_id)
    assert "is dead" in solo.sent(MoveEnded)[0].report.reason
    solo.assert_no_block_used()


def test_words_about_an_earlier_offer_end_nothing_of_the_present_one() -> None:
    solo = serving(ended_moves_max=1)
    ask(solo)
    solo.step(MoveAborted(move_id=M1, lease=1, peer=PEER, reason="given up"))
    ask(solo, "m2")
    solo.step(MoveAborted(move_id=MoveId("m2"), lease=2, peer=PEER, reason="given up"))
    ask(solo)
    (offered,) = solo.sent(FetchOffered)
    assert offered.offer == 3
    grant(solo, offer=3)
    assert [copy.lease for copy in solo.copies] == [3, 3, 3]
    solo.step(MoveCommitted(move_id=M1, lease=1, target=PEER, epoch=request_of("r", 1).epoch))
    assert solo.sent(MoveEnded) == []
    solo.step(MoveAborted(move_id=M1, lease=1, peer=PEER, reason="given up"))
    assert solo.sent(MoveEnded) == []
    (acked,) = solo.sent(AbortAcked)
    assert acked.lease == 1


def test_the_ack_of_a_forgotten_fetch_speaks_of_all_offers_so_far() -> None:
    solo = serving()
    ask(solo)
    solo.step(MoveAborted(move_id=M1, lease=1, peer=PEER, reason="given up"))
    ask(solo, "m2")
    ask(solo)
    assert [acked.lease for acked in solo.sent(AbortAcked)] == [2]
