"""A handoff to a target without room is pulled once there is some; nothing is computed twice."""

from dataclasses import replace
from typing import Any

import pytest
from fleet import Fleet
from parts import GATEWAY, LIMITS, MS, key_of
from solo import PEER, Solo, handoff_of, request_of
from source_stages import COMMITTED, outcome, peer_words, reports
from splitweave.proto.ids import GatewayId, RequestId
from splitweave.proto.move import MoveKind, Stage
from splitweave.proto.requests import SampledToken
from splitweave.proto.views import Role
from splitweave.proto.worker_events import (
    AbortAcked,
    GatewayLost,
    HandoverOffered,
    LeaseAsked,
    LeaseOpened,
    LeaseRefused,
    ListenerChanged,
    MoveAborted,
    PeerLost,
    RequestAssigned,
    RequestCancelled,
    RoleAssigned,
)

FULL = LeaseRefused(move_id="m1", lease=1, target=PEER, reason="full", delayed=True)


# ---- the target


def ask(
    solo: Solo, name: str, blocks: int, kind: MoveKind = MoveKind.HANDOFF, **more: Any
) -> list[Any]:
    """The lease of move m-NAME, for a request of that name."""
    return solo.step(
        LeaseAsked(
            move_id=f"m-{name}",
            lease=1,
            kind=kind,
            source=more.pop("source", PEER),
            request=request_of(name, 8),
            hashes=(),
            blocks=blocks,
        )
    )


def full(**changes: Any) -> Solo:
    """Of 12 blocks another move has lent 10, and the watermark is one."""
    solo = Solo(replace(LIMITS, **changes), blocks=12)
    ask(solo, "first", 10, MoveKind.MIGRATION)
    assert solo.view.blocks_leased == 10
    return solo


def make_room(solo: Solo, name: str = "first") -> list[str]:
    """The other move is over; whose leases that opened."""
    solo.step(AbortAcked(move_id=f"m-{name}", lease=1, peer=PEER))
    return [opened.move_id for opened in solo.sent(LeaseOpened)]


def answers(solo: Solo) -> list[tuple[bool, str]]:
    return [(refused.delayed, refused.reason) for refused in solo.sent(LeaseRefused)]


def test_the_lease_is_opened_unasked_when_there_is_room() -> None:
    solo = full()
    ask(solo, "r", 4)
    assert answers(solo) == [(True, "4 blocks are not available")]
    assert make_room(solo) == ["m-r"]
    (opened,) = solo.sent(LeaseOpened)
    assert (opened.lease, len(opened.blocks)) == (1, 4)
    assert solo.view.blocks_leased == 4


def test_a_slot_is_room_as_well() -> None:
    solo = Solo(replace(LIMITS, sequences_max=1))
    ask(solo, "first", 1, MoveKind.MIGRATION)
    ask(solo, "r", 1)
    assert answers(solo) == [(True, "no slot for another sequence")]
    assert make_room(solo) == ["m-r"]


def test_nobody_overtakes() -> None:
    solo = full()
    for name, blocks in (("large", 9), ("small", 2), ("least", 1)):
        ask(solo, name, blocks)
    assert answers(solo) == [(True, "others wait for room before it")]
    assert make_room(solo) == ["m-large", "m-small"]
    ask(solo, "least", 1)
    assert answers(solo) == [(True, "1 blocks are not available")]
    assert make_room(solo, "small") == ["m-least"]


def test_a_migration_is_not_delayed() -> None:
    """Its request runs elsewhere, and the controller picks another target."""
    solo = full()
    ask(solo, "r", 4, MoveKind.MIGRATION)
    assert answers(solo) == [(False, "4 blocks are not available")]


def test_what_cannot_be_here_at_all_is_not_delayed() -> None:
    solo = full()
    solo.assign("r", 1)
    ask(solo, "r", 4)
    assert answers(solo) == [(False, "the request is here already")]


def test_beyond_the_limit_a_handoff_is_refused_for_good() -> None:
    solo = full(delayed_leases_max=1)
    ask(solo, "r", 4)
    ask(solo, "s", 4)
    assert answers(solo) == [(False, "4 blocks are not available")]
    ask(solo, "r", 4)
    assert answers(solo) == [(True, "4 blocks are not available")]


def test_an_ask_that_is_not_repeated_loses_its_place() -> None:
    solo = full()
    ask(solo, "r", 4)
    solo.now_ns += LIMITS.lease_ns // 2
    ask(solo, "s", 4)
    solo.now_ns += LIMITS.lease_ns // 2
    ask(solo, "s", 4)
    assert make_room(solo) == ["m-s"]


@pytest.mark.parametrize(
    "end",
    [
        MoveAborted(move_id="m-r", lease=1, peer=PEER, reason="no"),
        AbortAcked(move_id="m-r", lease=1, peer=PEER),
        RequestCancelled(request_id="r"),
        GatewayLost(gateway_id=GATEWAY),
        PeerLost(key=key_of("c")),
    ],
)
def test_who_is_gone_is_not_waited_for(end: Any) -> None:
    solo = full()
    ask(solo, "r", 4, source=key_of("c") if isinstance(end, PeerLost) else PEER)
    solo.step(end)
    assert "m-r" not in make_room(solo)


def test_a_draining_worker_refuses_those_that_wait() -> None:
    solo = full()
    ask(solo, "r", 4)
    solo.step(RoleAssigned(role=Role.DECODE, draining=True))
    assert answers(solo) == [(False, "draining")]
    assert make_room(solo) == []


def test_a_request_that_waits_for_room_follows_its_listener() -> None:
    solo = full()
    ask(solo, "r", 4)
    solo.step(
        ListenerChanged(request_id=RequestId("r"), gateway_id=GatewayId("other"), from_index=0)
    )
    make_room(solo)
    solo.step(
        HandoverOffered(
            move_id="m-r",
            lease=1,
            source=PEER,
            emitted=(SampledToken(token_id=7),),
            computed=8,
            copies=(),
        )
    )
    (held,) = solo.view.requests
    assert held.gateway_id == "other"


# ---- the source


def delayed(prompt: int = 30) -> Solo:
    """The first chunk of the prompt is being computed, and the target has no room yet."""
    solo = Solo()
    handoff = handoff_of("r")
    solo.step(RequestAssigned(request=request_of("r", prompt, 40), handoff=handoff))
    solo.step(FULL)
    return solo


def test_the_source_computes_on_and_keeps_its_place_by_asking_now_and_then() -> None:
    solo = delayed()
    for _ in range(LIMITS.lease_asks_max * 2):
        solo.fire("source_move", "m1", LIMITS.lease_ask_ns)
        assert peer_words(solo) == []
    solo.fire("source_move", "m1", LIMITS.lease_ns // 2)
    assert [asked.lease for asked in solo.sent(LeaseAsked)] == [1]
    assert solo.phase("r") == "prefill"
    assert outcome(solo) == []


def test_room_before_the_first_token_makes_it_a_handoff_as_any() -> None:
    solo = delayed()
    solo.iterate()
    solo.open_lease(16)
    assert solo.copies != []
    solo.send_copies(solo.copies)
    solo.iterate()
    solo.step(replace(FULL, delayed=False))  # a late one: the handover has begun
    assert solo.phase("r") == "handover"


def test_room_after_it_pulls_what_was_prefilled_and_none_of_it_counts_as_hidden() -> None:
    solo = delayed()
    solo.iterate(4)
    assert solo.held("r").output_tokens == 3
    solo.open_lease(16)
    copied = solo.copies
    assert sum(len(copy.source_blocks) for copy in copied) == 8
    solo.send_copies(copied)
    solo.iterate()
    assert solo.phase("r") == "handover"
    rest = [copy for copy in solo.copies if copy not in copied]
    solo.send_copies(rest)
    solo.step(COMMITTED)
    (report,) = reports(solo)
    assert (report.outcome, report.pulled, report.hidden_bytes) == (Stage.COMMITTED, True, 0)
    assert report.transfer_bytes > 0


def test_it_waits_for_room_so_long_after_the_first_token_and_decodes_on() -> None:
    solo = delayed()
    solo.iterate(2)
    drew_ns = solo.now_ns
    solo.now_ns = drew_ns + LIMITS.pull_wait_ns - 10_000
    solo.fire("source_move", "m1", 0)
    assert outcome(solo) == []
    solo.fire("source_move", "m1", 20_000)
    reason = f"no room for {LIMITS.pull_wait_ns} ns after the prefill"
    assert outcome(solo) == [("aborted", reason)]
    assert solo.phase("r") == "decode"


# ---- both


@pytest.mark.parametrize("wait_tokens", [4, 24])
def test_no_token_is_computed_twice(wait_tokens: int) -> None:
    """The target's only large request ends before, or after, the prefill does."""
    fleet = Fleet("ab", replace(LIMITS, pull_wait_ns=200 * MS), blocks=20)
    fleet.run(10 * MS)
    fleet.ask("b", "large", list(range(500, 552)), wait_tokens)
    fleet.run(6 * MS)
    fleet.ask("a", "r", list(range(44)), 30, handoff="b")
    fleet.run_until_done()
    for stream in fleet.streams.values():
        assert stream.text == stream.expected
    (report,) = fleet.reports
    assert (report.outcome, report.reason) == (Stage.COMMITTED, "")
    assert report.pulled == (wait_tokens == 24)
    computed = [
        position
        for name in "ab"
        for batch in fleet.worker(name).batches
        for chunk in batch.chunks
        if chunk.request_id == "r"
        for position in range(chunk.start, chunk.start + len(chunk.token_ids))
    ]
    assert sorted(computed) == list(range(44 + 30 - 1))
    fleet.run(20 * MS)
    fleet.assert_empty()
