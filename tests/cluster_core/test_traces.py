"""What the controller remembers of one request: its moves, and its end for a while."""

from control_plane import Plane, S, held, order_of, report_of
from splitweave.cluster.core.limits import ClusterLimits
from splitweave.cluster.core.status import RequestTrace
from splitweave.proto.cluster_events import MoveEnded
from splitweave.proto.ids import RequestId
from splitweave.proto.move import MoveKind, MoveOrder, Stage


def trace(plane: Plane, name: str = "r1") -> RequestTrace | None:
    return plane.core.trace(RequestId(name), plane.now_ns)


def running() -> tuple[Plane, MoveOrder]:
    plane = Plane("p0", "d0")
    plane.arrive("r1")
    order = plane.order()
    plane.beat("p0", held("r1"))
    return plane, order


def test_a_running_request_is_where_its_worker_says_with_the_move_in_progress() -> None:
    plane, _ = running()
    found = trace(plane)
    assert found is not None
    assert (found.ended, found.request.state, found.moves) == (False, "decode", ())
    assert found.running is not None
    assert found.running.kind is MoveKind.HANDOFF


def test_every_move_that_ended_is_kept_also_the_aborted_ones() -> None:
    plane, order = running()
    plane.tell(MoveEnded(report=report_of(order, Stage.ABORTED)))
    found = trace(plane)
    assert found is not None
    assert [move.outcome for move in found.moves] == [Stage.ABORTED]
    assert found.running is None


def test_an_ended_request_is_still_known_with_a_report_that_came_late() -> None:
    plane, order = running()
    plane.drop("r1")
    plane.tell(MoveEnded(report=report_of(order)))
    plane.after(1 * S)
    found = trace(plane)
    assert found is not None
    assert (found.ended, found.request.state) == (True, "ended")
    assert (found.request.worker, found.request.age_ns) == (order.source, 1 * S)
    assert [move.move_id for move in found.moves] == [order.move_id]


def test_the_same_report_twice_is_one_move() -> None:
    plane, order = running()
    plane.tell(MoveEnded(report=report_of(order)))
    plane.tell(MoveEnded(report=report_of(order)))
    found = trace(plane)
    assert found is not None
    assert len(found.moves) == 1


def test_unknown_requests_have_no_trace() -> None:
    assert trace(running()[0], "r9") is None


def test_what_is_remembered_is_bounded_the_oldest_goes_first() -> None:
    plane = Plane("p0", "d0", limits=ClusterLimits(traces_max=2, trace_moves_max=1))
    for name in ("r1", "r2", "r3"):
        plane.arrive(name)
        plane.drop(name)
    assert [trace(plane, name) is not None for name in ("r1", "r2", "r3")] == [False, True, True]
    for move_id in ("a", "b", "c"):
        order = order_of("r3", "p0", "d0", MoveKind.MIGRATION, move_id)
        plane.tell(MoveEnded(report=report_of(order, Stage.ABORTED)))
    found = trace(plane, "r3")
    assert found is not None
    assert (len(found.moves), found.moves_left_out) == (1, 2)
