"""Bookings: what was placed counts until a view shows it, and no longer."""

from dataclasses import replace

import pytest
from control_plane import MS, Plane, S, held, key, policy_of, report_of
from splitweave.cluster.core.bookings import Booking, Bookings
from splitweave.cluster.core.limits import ClusterLimits
from splitweave.proto.cluster_events import MoveEnded
from splitweave.proto.effects import ToWorker
from splitweave.proto.ids import Epoch, MoveId, RequestId
from splitweave.proto.move import MoveKind, Stage
from splitweave.proto.views import Phase
from splitweave.proto.worker_events import RequestAssigned


def booked(plane: Plane, name: str) -> tuple[int, int, int, int]:
    total = plane.core._cluster.bookings.sum_of(key(name))
    return total.tokens, total.prefills, total.blocks, total.streams


def placed() -> Plane:
    """r1 is prefilled on p0 and handed off to d0: 100 tokens, 7 blocks with the next one."""
    plane = Plane("p0", "d0")
    plane.arrive("r1")
    return plane


def test_a_placement_is_booked_on_both_workers() -> None:
    plane = placed()
    assert (booked(plane, "p0"), booked(plane, "d0")) == ((100, 1, 7, 0), (0, 0, 7, 1))


def test_in_place_both_halves_are_booked_on_one() -> None:
    plane = Plane("m0")
    plane.arrive("r1")
    assert booked(plane, "m0") == (100, 1, 7, 1)


def test_cached_tokens_are_not_booked() -> None:
    plane = Plane()
    plane.register("m0", cached=(1, 2, 3))
    plane.arrive("r1", block_hashes=(1, 2, 3, 4))
    assert booked(plane, "m0") == (52, 1, 7, 1)


def test_a_prefix_that_a_peer_has_is_to_be_fetched_by_the_worker_and_is_not_booked() -> None:
    plane = Plane("p0", "d0", policy=policy_of(in_place_tokens_max=0))
    plane.register("p1", cached=tuple(range(1, 25)))
    plane.beat("p1", backlog_tokens=20_000)
    plane.arrive("r1", token_ids=tuple(range(400)), block_hashes=tuple(range(1, 26)))
    told = [e.event for e in plane.effects if isinstance(e, ToWorker) and e.key == key("p0")]
    (assigned,) = [event for event in told if isinstance(event, RequestAssigned)]
    assert assigned.fetch is not None
    assert (assigned.fetch.source, assigned.fetch.blocks) == (key("p1"), 24)
    assert booked(plane, "p0") == (16, 1, 26, 0)


def test_the_end_of_a_fetch_moves_no_request() -> None:
    plane = placed()
    order = replace(plane.order(), kind=MoveKind.FETCH, move_id=MoveId("f1"))
    plane.tell(MoveEnded(report=replace(report_of(order), source=key("p0"))))
    tracked = plane.core._cluster.requests.get(RequestId("r1"))
    assert tracked is not None
    assert tracked.owner == key("p0")


def test_a_view_that_lists_the_request_ends_the_booking_there() -> None:
    plane = placed()
    plane.beat("p0", held("r1", Phase.WAITING))
    assert (booked(plane, "p0"), booked(plane, "d0")) == ((0, 0, 0, 0), (0, 0, 7, 1))
    plane.beat("d0", held("r1", epoch=Epoch(0, 1)))
    assert booked(plane, "d0") == (0, 0, 0, 0)


def test_a_view_that_does_not_list_it_leaves_the_booking() -> None:
    plane = placed()
    plane.beats("p0", "d0")
    assert (booked(plane, "p0"), booked(plane, "d0")) == ((100, 1, 7, 0), (0, 0, 7, 1))


def test_a_commit_keeps_the_targets_booking_until_its_view() -> None:
    plane = placed()
    plane.tell(MoveEnded(report=report_of(plane.order())))
    assert (booked(plane, "p0"), booked(plane, "d0")) == ((0, 0, 0, 0), (0, 0, 7, 1))
    plane.beat("d0", held("r1", epoch=Epoch(0, 1)))
    assert booked(plane, "d0") == (0, 0, 0, 0)


def test_an_aborted_handoff_frees_the_targets_booking() -> None:
    plane = placed()
    plane.tell(MoveEnded(report=report_of(plane.order(), Stage.ABORTED)))
    assert booked(plane, "d0") == (0, 0, 0, 0)


@pytest.mark.parametrize("end", ["drop", "source", "target"])
def test_no_booking_outlives_its_request_or_worker(end: str) -> None:
    plane = placed()
    if end == "drop":
        plane.drop("r1")
    else:
        plane.lose("p0" if end == "source" else "d0")
    zero = (0, 0, 0, 0)
    left = {"p0": booked(plane, "p0"), "d0": booked(plane, "d0")}
    assert left == {"p0": (100, 1, 7, 0) if end == "target" else zero, "d0": zero}


def test_what_no_view_ever_shows_stops_counting() -> None:
    plane = Plane("p0", "d0", limits=ClusterLimits(booking_ns_max=1 * S))
    plane.arrive("r1")
    plane.after(999 * MS).tick()
    assert booked(plane, "d0") == (0, 0, 7, 1)
    plane.beats("p0", "d0")
    plane.after(1 * MS).tick()
    assert booked(plane, "d0") == (0, 0, 0, 0)


def test_requests_that_arrive_together_are_spread_before_any_view() -> None:
    plane = Plane("p0", "p1", "d0", "d1")
    placed_on = [plane.arrive(f"r{n}")[0].split(": run")[0] for n in range(4)]
    assert sorted(placed_on) == ["p0#1", "p0#1", "p1#1", "p1#1"]
    assert booked(plane, "d0")[3] == booked(plane, "d1")[3] == 2


def test_a_second_booking_of_a_request_replaces_the_first() -> None:
    table = Bookings(booking_ns_max=10)
    for tokens in (5, 7):
        booking = Booking(tokens=tokens, prefills=1, blocks=1, streams=1, booked_ns=0)
        table.book(key("m0"), RequestId("r1"), booking)
    table.check()
    assert table.sum_of(key("m0")).tokens == 7
    table.expire(10)
    table.check()
    assert table.sum_of(key("m0")).tokens == 0
