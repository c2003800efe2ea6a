"""Who waits for a worker: by class, by age, up to a bound of its own, and until when."""

from typing import Any

import pytest
from control_plane import MS, Plane, S, held, request_of
from splitweave.cluster.core.limits import ClusterLimits
from splitweave.cluster.core.queue import AdmissionQueue
from splitweave.cluster.core.requests import Requests
from splitweave.proto.gateway_events import RejectCode, RequestRejected
from splitweave.proto.ids import Epoch
from splitweave.proto.requests import RequestClass

INTERACTIVE, STANDARD, BATCH = RequestClass
AGE = ClusterLimits().queue_age_ns


def queued(plane: Plane, name: str, request_class: RequestClass, **more: Any) -> list[str]:
    return plane.arrive(name, request_class=request_class, **more)


def placed(said: list[str]) -> list[str]:
    """The names of the requests that were given to a worker, in order."""
    return [line.split("run ")[1].split("@")[0] for line in said if " run " in line]


def rejection(plane: Plane) -> RequestRejected:
    (effect,) = [e for e in plane.effects if isinstance(getattr(e, "event", 0), RequestRejected)]
    event = effect.event
    assert isinstance(event, RequestRejected)
    return event


def test_who_waits_is_placed_by_class_and_within_it_by_arrival() -> None:
    plane = Plane()
    for name, request_class in (
        ("b1", BATCH), ("s1", STANDARD), ("i1", INTERACTIVE), ("b2", BATCH), ("i2", INTERACTIVE),
    ):  # fmt: skip
        queued(plane, name, request_class)
    assert placed(plane.register("m0")) == ["i1", "i2", "s1", "b1", "b2"]


def test_a_request_that_was_placed_before_goes_first_whatever_its_class() -> None:
    plane = Plane("m0")
    queued(plane, "b1", BATCH)
    plane.lose("m0")
    queued(plane, "i1", INTERACTIVE)
    queued(plane, "b1", BATCH, epoch=Epoch(1))
    assert placed(plane.register("m0", 2)) == ["b1", "i1"]


def test_a_client_that_has_tokens_goes_first_and_is_not_turned_away() -> None:
    """Its controller may be new, or its request was forgotten: it did run."""
    plane = Plane(limits=ClusterLimits(queue_len_max=1))
    queued(plane, "s1", STANDARD)
    assert queued(plane, "s2", STANDARD, emitted=(1, 2)) == ["g0: s2@0.0 waits"]
    assert placed(plane.register("m0")) == ["s2", "s1"]


@pytest.mark.parametrize("low", [STANDARD, BATCH])
def test_waiting_lifts_a_request_above_what_comes_later(low: RequestClass) -> None:
    lifts = 1 if low is STANDARD else 2
    plane = Plane()
    queued(plane, "low", low)
    plane.after(lifts * AGE - 1)
    queued(plane, "early", INTERACTIVE)
    plane.after(1)
    queued(plane, "late", INTERACTIVE)
    assert placed(plane.register("m0")) == ["low", "early", "late"]


def test_what_has_waited_less_is_not_lifted() -> None:
    plane = Plane()
    queued(plane, "low", STANDARD)
    plane.after(AGE - 1)
    queued(plane, "high", INTERACTIVE)
    assert placed(plane.register("m0")) == ["high", "low"]


def test_each_class_has_its_own_bound() -> None:
    plane = Plane(limits=ClusterLimits(queue_len_max=1))
    queued(plane, "b1", BATCH)
    said = "1 batch requests wait for a worker (queue_len_max 1)"
    assert queued(plane, "b2", BATCH) == [f"g0: b2 rejected, RESOURCE_EXHAUSTED: {said}"]
    assert queued(plane, "i1", INTERACTIVE) == ["g0: i1@0.0 waits"]


def drained(every_ns: int, waiting: int) -> AdmissionQueue:
    """A queue that placed one each `every_ns`; so many standard ones wait."""
    queue, table = AdmissionQueue(AGE), Requests(8)
    for index in range(5):
        queue.note_placed(index * every_ns)
    for index in range(waiting):
        queue.add(table.queue(request_of(f"s{index}"), 0))
    return queue


def test_the_wait_is_what_is_ahead_at_the_rate_of_late() -> None:
    queue = drained(2 * S, waiting=3)
    assert queue.wait_ns(STANDARD, 8 * S) == 3 * 2 * S
    assert queue.wait_ns(BATCH, 8 * S) == 3 * 2 * S
    assert queue.wait_ns(INTERACTIVE, 8 * S) == 0


def test_a_queue_that_stands_still_predicts_ever_more() -> None:
    queue = drained(2 * S, waiting=3)
    assert queue.wait_ns(STANDARD, 80 * S) == 3 * 20 * S


def test_a_queue_that_placed_nobody_predicts_nothing() -> None:
    assert AdmissionQueue(AGE).wait_ns(STANDARD, 5 * S) is None


def crowded(**limits: int) -> Plane:
    """One of three was placed each second; then the only worker is full and one waits."""
    plane = Plane("m0", limits=ClusterLimits(queue_len_max=1, **limits))
    for index in range(3):
        plane.after(1 * S).beat("m0")
        plane.arrive(f"r{index}")
    plane.after(1 * S).beat("m0", blocks_held=1000)
    assert plane.arrive("waits") == ["g0: waits@0.0 waits"]
    return plane


def test_a_client_that_is_turned_away_is_told_when_the_queue_will_have_drained() -> None:
    plane = crowded()
    plane.arrive("too many")
    assert rejection(plane).retry_after_ns == 1 * 3 * S // 2


@pytest.mark.parametrize(
    ("limits", "told"),
    [({"retry_after_ns": 2 * S}, 2 * S), ({"retry_after_ns": 1, "retry_after_ns_max": 7}, 7)],
)
def test_the_time_it_is_told_is_bounded(limits: dict[str, int], told: int) -> None:
    plane = crowded(**limits)
    plane.arrive("too many")
    assert rejection(plane).retry_after_ns == told


# ---- deadlines


def test_a_request_that_would_wait_beyond_its_deadline_is_shed_at_once() -> None:
    plane = crowded()
    assert queued(plane, "i1", INTERACTIVE, remaining_ns=1 * S) == ["g0: i1@0.0 waits"]
    plane = crowded()
    said = "it would wait 1.5 s for a worker, and its deadline is in 1.4 s"
    assert queued(plane, "b1", BATCH, remaining_ns=1_400 * MS) == [
        f"g0: b1 rejected, RESOURCE_EXHAUSTED: {said}"
    ]
    assert queued(plane, "b2", BATCH, remaining_ns=1_600 * MS) == ["g0: b2@0.0 waits"]


def test_a_waiting_request_ends_at_its_deadline() -> None:
    plane = Plane()
    plane.arrive("r1", remaining_ns=1 * S)
    assert plane.after(999 * MS).tick() == []
    said = "the deadline is over; the request was queued"
    assert plane.after(1 * MS).tick() == [f"g0: r1 rejected, DEADLINE_EXCEEDED: {said}"]
    assert plane.where("r1") == "gone"
    assert rejection(plane).retry_after_ns is None


def test_a_running_request_ends_at_its_deadline_wherever_it_may_be() -> None:
    plane = Plane("p0", "d0")
    plane.arrive("r1", remaining_ns=500 * MS)
    plane.beat("p0", held("r1"))
    plane.after(500 * MS)
    assert plane.tick() == [
        "g0: r1 rejected, DEADLINE_EXCEEDED: the deadline is over; the request was decode",
        "p0#1: cancel r1@0.*",
        "d0#1: cancel r1@0.*",
    ]
    assert plane.where("r1") == "gone"


def test_an_earlier_deadline_does_not_end_a_request_that_was_given_a_later_one() -> None:
    plane = Plane("m0")
    plane.arrive("r1", remaining_ns=500 * MS)
    plane.arrive("r1", remaining_ns=1 * S)
    assert plane.after(500 * MS).tick() == []
    plane.arrive("r1")
    assert plane.after(500 * MS).tick() == []
    assert plane.where("r1") == "assigned at m0#1"


def test_another_client_cannot_set_the_deadline() -> None:
    plane = Plane("m0")
    plane.arrive("r1", resume_digest=7)
    plane.arrive("r1", resume_digest=8, resumes=1, remaining_ns=1)
    assert plane.after(500 * MS).tick() == []


def test_ended_requests_leave_no_deadline() -> None:
    plane = Plane("m0")
    for index in range(500):
        plane.arrive(f"r{index}", remaining_ns=1000 * S)
        plane.drop(f"r{index}")
    deadlines = plane.core._cluster.deadlines
    assert len(deadlines) == 0
    assert len(deadlines._heap) < 100


def test_a_class_is_shown_as_its_own_code() -> None:
    assert [str(item) for item in RequestClass] == ["interactive", "standard", "batch"]
    assert RejectCode.DEADLINE_EXCEEDED == "DEADLINE_EXCEEDED"
