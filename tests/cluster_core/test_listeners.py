"""Whose tokens go where: a client that comes back, its gateway dead or not."""

from typing import Any

from control_plane import MS, Plane, S, held, request_of
from splitweave.cluster.core.limits import ClusterLimits
from splitweave.proto.cluster_events import ClusterStarted, GatewayDied
from splitweave.proto.ids import Epoch, GatewayId
from splitweave.proto.views import Phase

G0, G1 = GatewayId("g0"), GatewayId("g1")
GRACE = ClusterLimits().resume_grace_ns


def resumed(plane: Plane, gateway: str = "g1", resumes: int = 1, **more: Any) -> list[str]:
    values = {"gateway_id": GatewayId(gateway), "resumes": resumes, "emitted": (1, 2)}
    return plane.arrive("r1", **values | more)


def died(plane: Plane, gateway: GatewayId = G0) -> list[str]:
    return plane.tell(GatewayDied(gateway_id=gateway))


def beaten(plane: Plane, ns: int, *names: str) -> list[str]:
    """Time goes by with every worker alive and holding r1; what was said to anyone."""
    said: list[str] = []
    for _ in range(ns // (500 * MS)):
        plane.after(500 * MS)
        for name in names:
            said += plane.beat(name, held("r1"))
        said += plane.tick()
    return said


def test_a_client_that_comes_back_through_another_gateway_goes_on_without_a_new_attempt() -> None:
    plane = Plane("m0")
    plane.arrive("r1")
    assert resumed(plane) == [
        "g0: r1 rejected, UNAVAILABLE: request r1 goes on at gateway g1",
        "m0#1: send r1 to g1 from 2",
        "g1: r1@0.0 is at m0#1",
    ]


def test_the_target_of_an_open_move_learns_of_the_new_listener_too() -> None:
    plane = Plane("p0", "d0")
    plane.arrive("r1")
    assert resumed(plane)[1:3] == ["p0#1: send r1 to g1 from 2", "d0#1: send r1 to g1 from 2"]


def test_a_view_that_names_the_former_listener_is_corrected() -> None:
    plane = Plane("m0")
    plane.arrive("r1")
    resumed(plane)
    assert plane.beat("m0", held("r1")) == ["m0#1: send r1 to g1 from 2"]
    assert plane.beat("m0", held("r1", gateway_id=G1)) == []


def test_a_move_that_commits_after_the_client_came_back_is_corrected_at_its_target() -> None:
    plane = Plane("p0", "d0")
    plane.arrive("r1")
    resumed(plane)
    said = plane.beat("d0", held("r1", epoch=Epoch(0, 1)))
    assert "d0#1: send r1 to g1 from 2" in said


def test_the_gateway_that_lost_a_request_cannot_take_it_back_with_a_late_double() -> None:
    plane = Plane("m0")
    plane.arrive("r1")
    resumed(plane)
    said = "g0: r1 rejected, UNAVAILABLE: request r1 goes on at gateway g1"
    assert plane.arrive("r1") == [said]
    assert plane.drop("r1") == []
    assert resumed(plane) == ["g1: r1@0.0 is at m0#1"]


def test_a_client_may_come_back_to_the_gateway_it_left() -> None:
    plane = Plane("m0")
    plane.arrive("r1")
    resumed(plane)
    assert resumed(plane, "g0", resumes=2)[1:] == [
        "m0#1: send r1 to g0 from 2",
        "g0: r1@0.0 is at m0#1",
    ]


def test_a_request_that_waits_keeps_waiting_for_the_client_that_came_back() -> None:
    plane = Plane()
    plane.arrive("r1")
    assert resumed(plane)[1:] == ["g1: r1@1.0 waits"]
    assert plane.register("m0")[1:] == ["m0#1: run r1@1.0 +2", "g1: r1@1.0 is at m0#1"]


def test_a_displaced_request_runs_again_when_its_client_comes_back() -> None:
    plane = Plane("m0", "m1")
    plane.arrive("r1")
    died(plane)
    plane.lose("m0")
    assert resumed(plane)[1:] == ["m1#1: run r1@1.0 +2", "g1: r1@1.0 is at m1#1"]


def test_a_resume_of_a_request_that_nobody_knows_runs_it() -> None:
    plane = Plane("m0")
    assert resumed(plane) == ["m0#1: run r1@0.0 +2", "g1: r1@0.0 is at m0#1"]


def test_an_id_that_runs_at_another_gateway_is_refused_to_who_does_not_resume_it() -> None:
    plane = Plane("m0")
    plane.arrive("r1")
    said = "g1: r1 rejected, INVALID_ARGUMENT: request_id: 'r1' runs already, at gateway g0"
    assert plane.arrive("r1", gateway_id=G1) == [said]
    assert plane.where("r1") == "assigned at m0#1"


def test_a_client_without_the_key_is_denied_and_the_request_runs_on() -> None:
    plane = Plane("m0")
    plane.arrive("r1", resume_digest=77)
    said = "rejected, PERMISSION_DENIED: request_id: 'r1' belongs to another client"
    assert resumed(plane, resume_digest=78) == [f"g1: r1 {said}"]
    assert plane.drop("r1", gateway="g1") == []
    assert plane.where("r1") == "assigned at m0#1"
    assert resumed(plane, resume_digest=77)[-1] == "g1: r1@0.0 is at m0#1"


def test_the_key_outlives_the_controller() -> None:
    plane = Plane()
    plane.register("m0", view={"requests": (held("r1", resume_digest=77),)})
    assert "PERMISSION_DENIED" in resumed(plane, resume_digest=78)[0]
    assert resumed(plane, resume_digest=77)[-1] == "g1: r1@0.0 is at m0#1"


def test_a_client_denied_at_a_gateways_next_life_cannot_drop_the_request() -> None:
    plane = Plane("m0")
    plane.arrive("r1", resume_digest=77)
    died(plane)
    assert "PERMISSION_DENIED" in resumed(plane, "g0", resume_digest=78)[0]
    assert plane.drop("r1", gateway="g0") == []
    assert plane.where("r1") == "assigned at m0#1"


def test_a_dead_gateways_requests_run_on_and_end_everywhere_after_the_grace() -> None:
    plane = Plane("p0", "d0")
    plane.arrive("r1")
    plane.arrive("r2", gateway_id=G1)
    assert died(plane) == []
    said = beaten(plane, GRACE - 500 * MS, "p0")
    assert plane.where("r1") == "decode at p0#1"
    said = beaten(plane.after(0), 500 * MS, "p0")
    assert "p0#1: cancel r1@0.*" in said
    assert "p0#1: gateway g0 is lost" in said
    assert plane.where("r1") == "gone"


def test_a_client_that_comes_back_within_the_grace_keeps_its_request() -> None:
    plane = Plane("m0")
    plane.arrive("r1")
    died(plane)
    plane.after(1 * S).beat("m0", held("r1"))
    assert resumed(plane) == [
        "g0: r1 rejected, UNAVAILABLE: request r1 goes on at gateway g1",
        "m0#1: send r1 to g1 from 2",
        "g1: r1@0.0 is at m0#1",
    ]
    for _ in range(2 * GRACE // S):
        plane.after(1 * S).beat("m0", held("r1", gateway_id=G1))
        assert [line for line in plane.tick() if "cancel" in line] == []
    assert plane.where("r1") == "decode at m0#1"


def test_a_gateways_next_life_does_not_save_what_nobody_comes_back_for() -> None:
    plane = Plane("m0")
    plane.arrive("r1")
    died(plane)
    plane.arrive("r2")
    assert "m0#1: cancel r1@0.*" in beaten(plane, GRACE, "m0")
    assert plane.where("r1") == "gone"


def test_a_death_that_is_told_again_does_not_extend_the_grace() -> None:
    plane = Plane("m0")
    plane.arrive("r1")
    died(plane)
    beaten(plane, GRACE // 2, "m0")
    died(plane)
    beaten(plane, GRACE // 2, "m0")
    assert plane.where("r1") == "gone"


def test_a_dead_gateways_request_that_a_view_brings_up_waits_for_its_client_too() -> None:
    plane = Plane("m0")
    died(plane)
    assert plane.beat("m0", held("r1")) == []
    assert plane.where("r1") == "decode at m0#1"
    assert "m0#1: gateway g0 is lost" in beaten(plane, GRACE, "m0")
    assert plane.where("r1") == "gone"


def test_a_request_of_a_gateway_that_is_dead_for_good_is_ended_at_once() -> None:
    plane = Plane("m0")
    died(plane)
    beaten(plane, 0, "m0")
    plane.after(GRACE).tick()
    plane.register("m1")
    assert plane.beat("m1", held("r1")) == ["m1#1: gateway g0 is lost"]
    assert plane.where("r1") == "gone"


def test_a_gateway_that_submits_again_is_not_dead() -> None:
    plane = Plane("m0")
    died(plane)
    plane.arrive("r1")
    assert plane.beat("m0", held("r2")) == []
    plane.after(GRACE).tick()
    assert plane.core._cluster.dead_gateways == {}


def test_dead_gateways_are_remembered_up_to_the_limit() -> None:
    plane = Plane("m0", limits=ClusterLimits(gateways_max=1))
    for name in ("g0", "g1", "g2"):
        died(plane, GatewayId(name))
    cluster = plane.core._cluster
    assert list(cluster.dying_gateways) == ["g2"]
    assert list(cluster.dead_gateways) == ["g1"]
    plane.beat("m0", held("r1"))
    assert plane.where("r1") == "decode at m0#1"


def test_a_drop_from_the_dead_does_not_end_what_its_client_may_resume() -> None:
    plane = Plane("m0")
    plane.arrive("r1")
    died(plane)
    assert plane.drop("r1") == []
    assert plane.where("r1") == "assigned at m0#1"


def test_an_ended_request_leaves_no_orphan_behind() -> None:
    plane = Plane("m0")
    plane.arrive("r1")
    died(plane)
    resumed(plane)
    assert plane.drop("r1", gateway="g1") == ["m0#1: cancel r1@0.*"]
    assert plane.core._cluster.orphans == {}


def test_a_new_controller_takes_the_resume_of_what_a_worker_reports_later() -> None:
    plane = Plane()
    plane.tell(ClusterStarted())
    assert resumed(plane) == ["g1: r1@0.0 waits"]
    said = plane.register("m0", view={"requests": (held("r1", Phase.DECODE),)})
    assert "m0#1: send r1 to g1 from 2" in said
    assert request_of("r1").resumes == 0
