"""What workers say they hold, against what the controller believes: one test per rule."""

import pytest
from control_plane import MS, Plane, S, held, key, policy_of, report_of, request_of
from splitweave.cluster.core.limits import ClusterLimits
from splitweave.proto.cluster_events import MoveEnded, RequestArrived, RequestEnded
from splitweave.proto.ids import Epoch, GatewayId, RequestId
from splitweave.proto.move import Stage
from splitweave.proto.views import Phase


def ended(worker: str, name: str = "r1", **changes: object) -> RequestEnded:
    values = {"request_id": RequestId(name), "epoch": Epoch(0), "worker": key(worker)}
    return RequestEnded(**values | changes)  # type: ignore[arg-type]


def test_the_owners_view_tells_phase_and_progress() -> None:
    plane = Plane("m0")
    plane.arrive("r1")
    plane.beat("m0", held("r1", Phase.PREFILL, known_tokens=100, output_tokens=0))
    assert plane.where("r1") == "prefill at m0#1"
    plane.beat("m0", held("r1", output_tokens=9))
    status = plane.core.status(0).requests[0]
    assert (status.state, status.output_tokens) == ("decode", 9)


def test_a_request_nobody_knows_is_adopted() -> None:
    plane = Plane("d0")
    assert plane.beat("d0", held("r1", epoch=Epoch(2, 1), gateway_id=GatewayId("g7"))) == []
    status = plane.core.status(0).requests[0]
    assert (status.epoch, status.gateway_id, status.worker) == (Epoch(2, 1), "g7", key("d0"))
    assert status.prompt_tokens == 100


@pytest.mark.parametrize("first", ["d0", "d1"])
def test_of_two_that_list_it_the_highest_epoch_owns_it(first: str) -> None:
    plane = Plane("d0", "d1")
    views = {"d0": held("r1", epoch=Epoch(0, 1)), "d1": held("r1", epoch=Epoch(1, 0))}
    for name in (first, *(other for other in views if other != first)):
        plane.beat(name, views[name])
    assert plane.where("r1") == "decode at d1#1"
    assert plane.beat("d0", views["d0"]) == ["d0#1: cancel r1@0.*"]


def test_an_older_attempt_is_cancelled_where_it_is_listed() -> None:
    plane = Plane("m0", "m1")
    plane.arrive("r1", epoch=Epoch(2))
    assert plane.beat("m1", held("r1", epoch=Epoch(1, 4))) == ["m1#1: cancel r1@1.*"]


def test_an_older_attempt_at_the_owner_itself_is_cancelled_and_does_not_count() -> None:
    plane = Plane("m0")
    plane.arrive("r1", epoch=Epoch(1))
    assert plane.beat("m0", held("r1")) == ["m0#1: cancel r1@0.*"]
    plane.after(1 * S + 1)
    assert "g0: r1@1.1 displaced: worker m0#1 does not hold it" in plane.beat("m0", held("r1"))


def test_an_older_hop_is_left_alone_for_the_grace_and_then_cancelled() -> None:
    plane = Plane("d0", "d1")
    plane.beat("d0", held("r1", epoch=Epoch(0, 1)))
    assert plane.beat("d1", held("r1", Phase.HANDOVER)) == []
    plane.after(1 * S + 1)
    plane.beat("d0", held("r1", epoch=Epoch(0, 1)))
    assert plane.beat("d1", held("r1", Phase.HANDOVER)) == ["d1#1: cancel r1@0.0"]
    assert plane.where("r1") == "decode at d0#1"


def test_a_target_that_lists_it_at_the_next_hop_owns_it() -> None:
    plane = Plane("p0", "d0")
    plane.arrive("r1")
    plane.beat("p0", held("r1", Phase.PREFILL))
    assert plane.beat("d0", held("r1", epoch=Epoch(0, 1))) == []
    assert plane.where("r1") == "decode at d0#1"
    assert plane.beat("p0") == []  # the source leaves it out: nothing is missed
    plane.after(5 * S)
    assert plane.beat("p0") == []


def test_two_at_one_epoch_leave_the_one_that_proved_it() -> None:
    plane = Plane("m0", "m1")
    plane.arrive("r1")  # to m0
    plane.beat("m0", held("r1"))
    plane.after(2 * S)
    plane.beat("m0", held("r1"))
    assert plane.beat("m1", held("r1")) == ["m1#1: cancel r1@0.0"]


def test_an_owner_that_never_listed_it_yields_to_one_that_does() -> None:
    plane = Plane("m0", "m1")
    plane.arrive("r1")  # to m0
    assert plane.beat("m1", held("r1")) == ["m0#1: cancel r1@0.0"]
    assert plane.where("r1") == "decode at m1#1"


def test_a_waiting_request_that_a_worker_runs_already_is_not_placed_again() -> None:
    plane = Plane()
    plane.arrive("r1")
    assert plane.register("m0", view={"requests": (held("r1"),)}) == ["m0#1: be mixed"]
    assert plane.where("r1") == "decode at m0#1"


def test_a_waiting_newer_attempt_is_not_satisfied_by_an_older_copy() -> None:
    plane = Plane()
    plane.arrive("r1", epoch=Epoch(1))
    said = plane.register("m0", view={"requests": (held("r1"),)})
    assert said == [
        "m0#1: be mixed",
        "m0#1: cancel r1@0.*",
        "m0#1: run r1@1.0",
        "g0: r1@1.0 is at m0#1",
    ]


def test_a_request_left_out_for_longer_than_the_grace_is_displaced() -> None:
    plane = Plane("m0")
    plane.arrive("r1")
    assert plane.beat("m0") == []
    plane.after(1 * S)
    assert plane.beat("m0") == []
    plane.after(1)
    assert plane.beat("m0") == ["g0: r1@0.1 displaced: worker m0#1 does not hold it"]
    assert plane.where("r1") == "displaced"


def test_being_listed_once_starts_the_grace_anew() -> None:
    plane = Plane("m0")
    plane.arrive("r1")
    plane.beat("m0")
    plane.after(900 * MS).beat("m0", held("r1"))
    plane.after(900 * MS)
    assert plane.beat("m0") == []
    assert plane.where("r1") == "decode at m0#1"


def test_a_late_sign_of_life_takes_a_displaced_request_back() -> None:
    plane = Plane("d0", "d1")
    plane.beat("d0", held("r1"))
    plane.lose("d0")
    plane.beat("d1", held("r1", epoch=Epoch(0, 1)))
    assert plane.where("r1") == "decode at d1#1"


def test_a_view_sent_before_the_end_does_not_bring_the_request_back() -> None:
    plane = Plane("m0")
    plane.arrive("r1")
    plane.drop("r1")
    assert plane.beat("m0", held("r1")) == ["m0#1: cancel r1@0.*"]
    assert plane.where("r1") == "gone"


def test_ended_requests_are_remembered_up_to_the_limit() -> None:
    plane = Plane("m0", limits=ClusterLimits(ended_max=1))
    for name in ("r1", "r2"):
        plane.arrive(name)
        plane.drop(name)
    assert plane.beat("m0", held("r1"), held("r2")) == ["m0#1: cancel r2@0.*"]


def test_adoption_stops_at_the_limit_of_requests() -> None:
    plane = Plane("m0", limits=ClusterLimits(requests_max=2, queue_len_max=1))
    plane.beat("m0", held("r1"), held("r2"), held("r3"))
    assert (plane.where("r2"), plane.where("r3")) == ("decode at m0#1", "gone")


# ---- reports


def test_a_reported_end_waits_for_the_gateway_and_then_counts_as_loss() -> None:
    plane = Plane("m0")
    plane.arrive("r1")
    plane.beat("m0", held("r1"))
    assert plane.tell(ended("m0")) == []
    plane.after(1 * S + 1)
    assert plane.beat("m0") == ["g0: r1@0.1 displaced: worker m0#1 does not hold it"]


def test_a_refused_request_is_displaced_at_once() -> None:
    plane = Plane("m0")
    plane.arrive("r1")
    said = plane.tell(ended("m0", refused="256 requests wait already"))
    assert said == ["g0: r1@0.0 displaced: worker m0#1 refused it: 256 requests wait already"]


@pytest.mark.parametrize(
    "event",
    [
        ended("m1"),  # not the owner
        ended("m0", epoch=Epoch(0)),  # an older attempt
        ended("m0", name="r9", epoch=Epoch(1)),  # not known
    ],
)
def test_an_end_that_does_not_concern_the_owners_attempt_is_ignored(event: RequestEnded) -> None:
    plane = Plane("m0", "m1")
    plane.arrive("r1", epoch=Epoch(1))
    assert plane.tell(event) == []
    assert plane.where("r1") == "assigned at m0#1"


@pytest.mark.parametrize("epoch", [Epoch(0, 0), Epoch(0, 1)])
def test_a_reported_commit_makes_the_target_the_owner(epoch: Epoch) -> None:
    plane = Plane("p0", "d0")
    plane.arrive("r1")
    order = plane.order()
    assert plane.tell(MoveEnded(report=report_of(order, epoch=epoch))) == []
    assert plane.where("r1") == "assigned at d0#1"
    assert plane.core.status(0).requests[0].epoch == Epoch(0, 1)
    assert plane.core.status(0).moves == ()


def test_a_late_report_of_an_earlier_move_changes_nothing() -> None:
    plane = Plane("p0", "d0")
    plane.arrive("r1")
    order = plane.order()
    plane.beat("p0", held("r1", epoch=Epoch(0, 2)))  # it came back meanwhile
    plane.tell(MoveEnded(report=report_of(order, epoch=Epoch(0, 1))))
    assert plane.where("r1") == "decode at p0#1"


def test_a_commit_to_a_target_that_died_since_displaces_at_the_new_hop() -> None:
    plane = Plane("p0", "d0", "d1")
    plane.arrive("r1")
    order = plane.order()
    plane.lose(str(order.target.worker_id))
    said = plane.tell(MoveEnded(report=report_of(order)))
    assert said == [f"g0: r1@0.1 displaced: worker {order.target} is dead"]


def test_a_report_from_a_dead_source_is_dropped() -> None:
    plane = Plane("p0", "d0")
    plane.arrive("r1")
    order = plane.order()
    plane.lose("p0")
    assert plane.tell(MoveEnded(report=report_of(order))) == []
    assert plane.where("r1") == "displaced"


def test_a_report_from_a_dead_source_says_nothing_of_its_next_lifes_link() -> None:
    policy = policy_of()
    plane = Plane("p0", "d0", policy=policy)
    plane.arrive("r1")
    report = report_of(plane.order(), hidden_bytes=0)
    plane.lose("p0")
    before = policy.links.bytes_per_s(key("p0").worker_id, key("d0").worker_id)
    plane.tell(MoveEnded(report=report))
    assert policy.links.bytes_per_s(key("p0").worker_id, key("d0").worker_id) == before


def test_an_aborted_handoff_leaves_the_request_at_its_source() -> None:
    plane = Plane("p0", "d0")
    plane.arrive("r1")
    order = plane.order()
    plane.tell(MoveEnded(report=report_of(order, Stage.ABORTED)))
    assert plane.where("r1") == "assigned at p0#1"
    assert plane.core.status(0).moves == ()


def test_a_report_of_a_move_ordered_before_a_restart_still_tells_the_owner() -> None:
    before, plane = Plane("d0", "d1"), Plane("d0", "d1")
    before.beat("d0", held("r1"))
    plane.beat("d0", held("r1"))
    order = order_from(before)
    plane.tell(MoveEnded(report=report_of(order)))
    assert plane.where("r1") == f"assigned at {order.target}"


def order_from(plane: Plane) -> object:
    from splitweave.proto.cluster_events import MigrateAsked

    plane.tell(MigrateAsked(ask_id="a", request_id=RequestId("r1")))
    return plane.order()


# ---- a controller that starts anew


def test_a_restarted_controller_adopts_what_all_workers_hold() -> None:
    plane = Plane()
    plane.register("p0", view={"requests": (held("r1", Phase.PREFILL),)})
    plane.register("d0", view={"requests": (held("r2"), held("r3", Phase.FINISHED))})
    assert [plane.where(name) for name in ("r1", "r2", "r3")] == [
        "prefill at p0#1",
        "decode at d0#1",
        "finished at d0#1",
    ]


def test_a_question_after_a_restart_finds_the_adopted_request() -> None:
    plane = Plane()
    plane.register("m0", view={"requests": (held("r1", epoch=Epoch(1, 2)),)})
    assert plane.arrive("r1", epoch=Epoch(1, 2)) == ["g0: r1@1.2 is at m0#1"]


def test_a_question_before_its_worker_registers_costs_time_but_one_survives() -> None:
    plane = Plane("m0")
    plane.tell(RequestArrived(request=request_of("r1", epoch=Epoch(0, 1), emitted=(1, 2))))
    assert plane.where("r1") == "assigned at m0#1"
    said = plane.register("m1", view={"requests": (held("r1", epoch=Epoch(0, 1)),)})
    assert said == ["m1#1: be mixed", "m0#1: cancel r1@0.1"]
    assert plane.where("r1") == "decode at m1#1"


def test_what_nobody_holds_after_a_restart_runs_again_when_its_gateway_asks() -> None:
    plane = Plane("m0")
    said = plane.arrive("r1", epoch=Epoch(0, 3), emitted=(1, 2, 3))
    assert said == ["m0#1: run r1@0.3 +3", "g0: r1@0.3 is at m0#1"]
