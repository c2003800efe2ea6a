"""Who gets in, who waits, who is turned away and with which words."""

import pytest
from control_plane import MS, Plane, S, held, request_of
from splitweave.cluster.core.limits import ClusterLimits
from splitweave.proto.cluster_events import RequestArrived
from splitweave.proto.gateway_events import RequestRejected
from splitweave.proto.ids import Epoch
from splitweave.proto.worker_events import RequestAssigned


def test_a_request_is_placed_with_its_handoff_in_the_step_it_arrives() -> None:
    plane = Plane("p0", "d0")
    assert plane.arrive("r1") == ["p0#1: run r1@0.0, hand off to d0#1", "g0: r1@0.0 is at p0#1"]
    assert plane.where("r1") == "assigned at p0#1"


def test_one_worker_that_does_both_gets_no_handoff() -> None:
    assert Plane("m0").arrive("r1")[0] == "m0#1: run r1@0.0"


def test_without_workers_a_request_waits_and_is_placed_when_one_comes() -> None:
    plane = Plane()
    assert plane.arrive("r1") == ["g0: r1@0.0 waits"]
    assert plane.register("m0")[1:] == ["m0#1: run r1@0.0", "g0: r1@0.0 is at m0#1"]


def test_the_queue_is_served_by_arrival() -> None:
    plane = Plane()
    for name in ("r3", "r1", "r2"):
        plane.arrive(name)
    placed = [line for line in plane.register("m0") if "run" in line]
    assert placed == ["m0#1: run r3@0.0", "m0#1: run r1@0.0", "m0#1: run r2@0.0"]


def test_the_same_epoch_again_is_a_question() -> None:
    plane = Plane("m0")
    plane.arrive("r1")
    assert plane.arrive("r1") == ["g0: r1@0.0 is at m0#1"]
    plane.beat("m0", held("r1"))
    plane.arrive("r1")
    assert plane.effects[0].event.phase == "decode"


def test_a_question_about_a_waiting_request_brings_its_newest_tokens() -> None:
    plane = Plane()
    plane.arrive("r1")
    plane.arrive("r1", emitted=(7, 8), epoch=Epoch(0, 1))
    assert plane.register("m0")[1] == "m0#1: run r1@0.1 +2"


def test_a_newer_attempt_cancels_the_older_one_where_it_was() -> None:
    plane = Plane("p0", "d0")
    plane.arrive("r1")
    assert plane.arrive("r1", epoch=Epoch(1), emitted=(5,)) == [
        "p0#1: cancel r1@0.*",
        "d0#1: cancel r1@0.*",
        "p0#1: run r1@1.0 +1, hand off to d0#1",
        "g0: r1@1.0 is at p0#1",
    ]


def test_a_late_double_of_an_older_attempt_changes_nothing() -> None:
    plane = Plane("m0")
    plane.arrive("r1", epoch=Epoch(2))
    assert plane.arrive("r1", epoch=Epoch(1)) == ["g0: r1@2.0 is at m0#1"]


def test_the_queue_is_bounded() -> None:
    plane = Plane(limits=ClusterLimits(queue_len_max=2, retry_after_ns=7))
    plane.arrive("r1")
    plane.arrive("r2")
    said = "2 standard requests wait for a worker (queue_len_max 2)"
    assert plane.arrive("r3") == [f"g0: r3 rejected, RESOURCE_EXHAUSTED: {said}"]
    event = plane.effects[0].event
    assert isinstance(event, RequestRejected)
    assert event.retry_after_ns == 7


def test_the_table_of_requests_is_bounded() -> None:
    plane = Plane("m0", limits=ClusterLimits(queue_len_max=1, requests_max=2))
    plane.arrive("r1")
    plane.arrive("r2")
    said = "2 requests are running or waiting (requests_max 2)"
    assert plane.arrive("r3") == [f"g0: r3 rejected, RESOURCE_EXHAUSTED: {said}"]


def test_a_new_attempt_of_a_known_request_is_never_turned_away() -> None:
    plane = Plane("m0", limits=ClusterLimits(queue_len_max=1))
    plane.arrive("r1")
    plane.lose("m0")
    plane.arrive("r2")
    assert plane.arrive("r1", epoch=Epoch(1)) == ["g0: r1@1.0 waits"]


def test_who_comes_again_waits_before_all_new_ones() -> None:
    plane = Plane("m0")
    plane.arrive("r1")
    plane.lose("m0")
    plane.arrive("r2")
    plane.arrive("r1", epoch=Epoch(1))
    placed = [line for line in plane.register("m0", 2) if "run" in line]
    assert placed == ["m0#2: run r1@1.0", "m0#2: run r2@0.0"]


def test_a_wait_that_lasts_too_long_is_rejected() -> None:
    plane = Plane(limits=ClusterLimits(queue_ns_max=5 * S))
    plane.arrive("r1")
    plane.after(2 * S).arrive("r2")
    plane.after(2 * S + 999 * MS)
    assert plane.tick() == []
    plane.after(1 * MS)
    said = "no worker had room for 5.0 s (queue_ns_max 5000000000 ns)"
    assert plane.tick() == [f"g0: r1 rejected, RESOURCE_EXHAUSTED: {said}"]
    assert plane.where("r2") == "queued"


SAID = "prompt (100 tokens) + max_tokens (50) exceeds"


@pytest.mark.parametrize(
    ("infos", "said"),
    [
        ({"p0": {}, "d0": {"context_tokens_max": 149}}, f"{SAID} context_tokens_max (149)"),
        ({"p0": {"context_tokens_max": 149}, "d0": {}}, f"{SAID} context_tokens_max (149)"),
        (
            {"p0": {}, "d0": {"blocks_total": 9}},
            f"{SAID} a worker's KV memory, blocks_total x block_tokens (144)",
        ),
        (
            {"p0": {"blocks_total": 6}, "d0": {}},
            f"{SAID} a worker's KV memory, blocks_total x block_tokens (96)",
        ),
        ({"p0": {"blocks_total": 7}, "d0": {"blocks_total": 10}}, ""),
        ({"m0": {"blocks_total": 9}, "d0": {"blocks_total": 10}}, ""),
    ],
)
def test_a_request_that_can_never_fit_is_rejected_with_the_limit(
    infos: dict[str, dict[str, int]], said: str
) -> None:
    plane = Plane(*infos, infos=infos)
    answer = plane.arrive("r1")
    assert (f"g0: r1 rejected, INVALID_ARGUMENT: {said}" in answer) == bool(said)


def test_an_invalid_request_is_not_to_be_sent_again() -> None:
    plane = Plane("m0")
    plane.arrive("r1", max_tokens=9000)
    assert plane.effects[0].event.retry_after_ns is None


def test_a_drop_cancels_at_owner_and_target_and_frees_the_place() -> None:
    plane = Plane("p0", "d0")
    plane.arrive("r1")
    assert plane.drop("r1") == ["p0#1: cancel r1@0.*", "d0#1: cancel r1@0.*"]
    assert plane.where("r1") == "gone"
    assert plane.drop("r1") == []


def test_a_drop_of_a_waiting_request_takes_it_from_the_queue() -> None:
    plane = Plane()
    plane.arrive("r1")
    assert plane.drop("r1") == []
    assert plane.register("m0") == ["m0#1: be mixed"]


def test_a_drop_by_another_gateway_is_ignored() -> None:
    plane = Plane("m0")
    plane.arrive("r1")
    assert plane.drop("r1", gateway="g9") == []
    assert plane.where("r1") == "assigned at m0#1"


def test_an_id_used_again_runs_above_its_old_epochs() -> None:
    plane = Plane("m0")
    plane.arrive("r1", epoch=Epoch(3))
    plane.drop("r1")
    assert plane.arrive("r1") == ["m0#1: run r1@4.0", "g0: r1@4.0 is at m0#1"]


def test_a_full_worker_makes_all_wait_and_a_small_request_does_not_pass() -> None:
    plane = Plane("m0", infos={"m0": {"blocks_total": 20}})
    plane.beat("m0", blocks_held=12)
    assert plane.arrive("big", token_ids=tuple(range(200))) == ["g0: big@0.0 waits"]
    assert plane.arrive("small", token_ids=(1,)) == ["g0: small@0.0 waits"]
    placed = [line for line in plane.beat("m0") if "run" in line]
    assert placed[0] == "m0#1: run big@0.0"


def test_the_request_is_held_whole_only_while_it_waits() -> None:
    plane = Plane()
    plane.tell(RequestArrived(request=request_of("r1")))
    tracked = plane.core._cluster.requests.get("r1")
    assert tracked is not None
    assert tracked.request is not None
    plane.register("m0")
    assert tracked.request is None


def test_one_that_no_worker_can_hold_does_not_stop_the_queue_it_got_into_without_workers() -> None:
    plane = Plane()
    plane.arrive("r1", token_ids=(1,) * 100, max_tokens=50)
    plane.arrive("r2", token_ids=(1,) * 10, max_tokens=5)
    assert plane.register("m0", context_tokens_max=120)[1:] == []  # the head waits, r2 behind it
    plane.after(S + MS).beat("m0")
    told = plane.tick()
    assert told[0].startswith("g0: r1 rejected, INVALID_ARGUMENT: ")
    assert "exceeds context_tokens_max (120)" in told[0]
    assert told[1:] == ["m0#1: run r2@0.0", "g0: r2@0.0 is at m0#1"]


def test_one_that_only_a_dead_worker_could_hold_waits_for_its_return() -> None:
    plane = Plane("m0", "m1", infos={"m0": {"context_tokens_max": 120}})
    plane.lose("m1")
    plane.arrive("r1", token_ids=(1,) * 50, max_tokens=50)
    assert plane.where("r1") == "assigned at m0#1"
    plane = Plane("m1")
    plane.lose("m1")
    plane.arrive("r1", token_ids=(1,) * 100, max_tokens=50)
    plane.register("m0", context_tokens_max=120)
    plane.after(S + MS).beat("m0")
    plane.tick()
    assert plane.where("r1") == "queued"


def test_workers_are_told_the_arrival_by_the_controllers_clock() -> None:
    """They order requests by it: those of two gateways must be of one clock."""
    plane = Plane().after(7 * MS)
    plane.arrive("r1", arrived_ns=99 * S)
    plane.after(MS).register("m0")
    (assigned,) = [
        e.event for e in plane.effects if isinstance(getattr(e, "event", None), RequestAssigned)
    ]
    assert assigned.request.arrived_ns == 7 * MS
