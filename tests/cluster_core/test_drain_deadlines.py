"""A drain's report, its deadline, what it does with the rest, and what comes after it."""

from typing import Any

from control_plane import MS, Plane, S, held, key, report_of
from splitweave.cluster.core.status import DrainStatus
from splitweave.proto.cluster_events import AfterDrain, AtDeadline, DrainAsked, MoveEnded
from splitweave.proto.effects import AnswerAsk, DrainReport
from splitweave.proto.ids import Incarnation, WorkerId
from splitweave.proto.views import Phase


def drain(plane: Plane, name: str, **wish: Any) -> list[str]:
    ask_id = wish.pop("ask_id", "a")
    return plane.tell(DrainAsked(ask_id=ask_id, worker_id=WorkerId(name), **wish))


def empty(plane: Plane, name: str, incarnation: int = 1) -> list[str]:
    return plane.beat(name, incarnation=incarnation, draining=True)


def progress(plane: Plane) -> list[DrainStatus]:
    return list(plane.core.status(plane.now_ns).drains)


def answer(plane: Plane) -> AnswerAsk:
    return next(effect for effect in plane.effects if isinstance(effect, AnswerAsk))


# ---- the report


def test_a_drain_tells_how_far_it_is() -> None:
    plane = Plane("p0", "d0", "d1")
    plane.beat("d0", held("r1"), held("r2"))
    drain(plane, "d0")
    order = plane.order()
    [status] = progress(plane)
    assert (status.worker, status.report.requests, status.report.left) == (key("d0"), 2, 2)
    plane.tell(MoveEnded(report=report_of(order)))
    plane.beat("d0", held("r2"), draining=True)
    report = progress(plane)[0].report
    assert (report.requests, report.left, report.moved) == (2, 1, 1)
    assert report.transfer_bytes == 7_000_000


def test_what_was_assigned_since_the_last_view_counts_as_there() -> None:
    plane = Plane("m0", "m1")
    plane.arrive("r1")
    assert plane.where() == "assigned at m0#1"
    drain(plane, "m0")
    assert progress(plane)[0].report.requests == 1


def test_the_end_carries_the_whole_count() -> None:
    plane = Plane("p0", "d0", "d1")
    plane.beat("d0", held("r1"))
    drain(plane, "d0")
    plane.tell(MoveEnded(report=report_of(plane.order())))
    empty(plane, "d0")
    assert answer(plane).drained == DrainReport(
        requests=1, left=0, moved=1, recomputed=0, transfer_bytes=7_000_000
    )


# ---- the deadline


def test_at_the_deadline_it_says_what_is_left_and_goes_on() -> None:
    plane = Plane("p0", "d0", "d1")
    plane.beat("d0", held("r1", Phase.PREFILL), held("r2", Phase.PREFILL))
    drain(plane, "d0", within_ns=500 * MS)
    plane.after(400 * MS)
    assert plane.tick() == []
    plane.after(100 * MS)
    said = (
        "a: worker d0 is not empty after 0.5 s: 2 requests are left (r1, r2); it goes on draining"
    )
    assert plane.tick() == [said]
    assert plane.states()["d0"] == "draining"
    assert plane.tick() == []
    plane.drop("r1")
    plane.drop("r2")
    assert empty(plane, "d0") == ["retire d0#1"]


def test_at_the_deadline_what_is_left_can_go_on_elsewhere() -> None:
    plane = Plane("p0", "d0", "d1")
    plane.beat("d0", held("r1", Phase.PREFILL), held("r2", Phase.FINISHED))
    drain(plane, "d0", within_ns=500 * MS, at_deadline=AtDeadline.RECOMPUTE)
    plane.after(500 * MS)
    said = plane.tick()
    assert said[0] == "d0#1: cancel r1@0.*"
    assert said[1].startswith("g0: r1@0.0 displaced: worker d0#1 drains")
    assert not any("r2" in line for line in said)
    plane.drop("r2")
    empty(plane, "d0")
    assert answer(plane).drained == DrainReport(
        requests=2, left=0, moved=0, recomputed=1, transfer_bytes=0
    )


def test_a_long_list_of_what_is_left_is_cut() -> None:
    plane = Plane("p0", "d0", "d1")
    plane.beat("d0", *(held(f"r{n}", Phase.PREFILL) for n in range(10)))
    drain(plane, "d0", within_ns=1 * MS)
    plane.after(100 * MS).tick()
    assert "10 requests are left (r0, r1, r2, r3, r4, r5, r6, r7 and 2 more)" in answer(plane).error


# ---- several at once


def test_workers_that_drain_together_cannot_stand_in_for_each_other() -> None:
    plane = Plane("p0", "d0", "d1")
    beside = (WorkerId("d1"),)
    assert drain(plane, "d0", beside=beside) == [
        "a: worker d0 is the last one able to decode but for d1, drained with it; it is not drained"
    ]


def test_a_whole_pool_leaves_when_others_can_do_its_work() -> None:
    plane = Plane("p0", "d0", "d1", "m0")
    assert drain(plane, "d0", beside=(WorkerId("d1"),))[0] == "d0#1: be decode, draining"
    assert drain(plane, "d1", beside=(WorkerId("d0"),))[0] == "d1#1: be decode, draining"


# ---- after it


def test_a_drained_worker_shows_as_retired_and_not_as_dead() -> None:
    plane = Plane("p0", "d0", "d1")
    drain(plane, "d0")
    empty(plane, "d0")
    assert plane.states()["d0"] == "retired"
    plane.lose("d0")
    assert plane.states()["d0"] == "retired"
    plane.register("d0", 2)
    assert plane.states()["d0"] == "alive"


def test_a_drain_with_restart_ends_in_a_new_life() -> None:
    plane = Plane("p0", "d0", "d1")
    drain(plane, "d0", then=AfterDrain.RESTART)
    assert empty(plane, "d0") == ["a: done", "restart d0#1"]
    assert empty(plane, "d0") == []
    plane.lose("d0")
    assert plane.states()["d0"] == "dead"
    assert plane.register("d0", 2)[-1] == "d0#2: be decode"
    assert plane.states()["d0"] == "alive"


def test_an_ask_whose_answer_was_lost_does_not_drain_the_next_life() -> None:
    plane = Plane("p0", "d0", "d1")
    wish = {"then": AfterDrain.RESTART, "life": Incarnation(1)}
    drain(plane, "d0", **wish)
    empty(plane, "d0")
    plane.lose("d0")
    assert drain(plane, "d0", **wish) == ["a: done"]
    plane.register("d0", 2)
    assert drain(plane, "d0", **wish) == ["a: done"]
    assert plane.states()["d0"] == "alive"


def test_an_ask_again_is_answered_once() -> None:
    plane = Plane("p0", "d0", "d1")
    drain(plane, "d0")
    drain(plane, "d0")
    assert empty(plane, "d0") == ["a: done", "retire d0#1"]


def test_a_drain_survives_the_controller_that_began_it() -> None:
    """Its worker says that it drains; the ask comes again."""
    plane = Plane("p0", "d1")
    plane.register("d0", view={"draining": True, "requests": (held("r1", Phase.PREFILL),)})
    assert plane.states()["d0"] == "draining"
    assert progress(plane)[0].report.requests == 1
    drain(plane, "d0", then=AfterDrain.RESTART)
    plane.drop("r1")
    assert empty(plane, "d0") == ["a: done", "restart d0#1"]


def test_a_role_given_takes_a_retired_worker_back() -> None:
    plane = Plane("p0", "d0", "d1").after(1 * S)
    plane.beats("p0", "d1")
    drain(plane, "d0", within_ns=1 * S)
    assert progress(plane)[0].age_ns == 0
