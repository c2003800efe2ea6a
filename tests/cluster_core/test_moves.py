"""When a move is ordered, how it ends, and how long a failed one rests."""

import pytest
from control_plane import MS, Plane, S, held, report_of
from splitweave.cluster.core.limits import ClusterLimits
from splitweave.proto.cluster_events import MigrateAsked, MoveEnded, RoleAsked
from splitweave.proto.ids import Epoch, MoveId, RequestId, WorkerId
from splitweave.proto.move import MoveKind, Stage
from splitweave.proto.views import Phase, Role


def keep(
    plane: Plane, name: str, *requests: object, ns: int = 100 * MS, **view: object
) -> list[str]:
    """Time goes by with all alive; the tick's orders."""
    plane.after(ns)
    for record in plane.core.status(plane.now_ns).workers:
        if record.state != "dead":
            mine = requests if record.worker_id == name else record.view.requests
            plane.beat(str(record.worker_id), *mine, role=record.role, **view)  # type: ignore[arg-type]
    return plane.tick()


def aborted_handoff() -> Plane:
    """r1 decodes on p0 after its handoff to d0 came to nothing."""
    plane = Plane("p0", "d0")
    plane.arrive("r1")
    order = plane.order()
    plane.beat("p0", held("r1"))
    plane.tell(MoveEnded(report=report_of(order, Stage.ABORTED)))
    return plane


def test_a_request_that_decodes_on_a_prefill_worker_is_migrated_after_a_rest() -> None:
    plane = aborted_handoff()
    assert keep(plane, "p0", held("r1"), ns=400 * MS) == []
    assert keep(plane, "p0", held("r1")) == ["p0#1: move r1 to d0#1"]
    assert plane.order().kind is MoveKind.MIGRATION
    assert plane.core.status(plane.now_ns).moves[0].why == "misplaced"


def test_the_rest_doubles_with_every_abort_up_to_a_bound() -> None:
    plane = aborted_handoff()
    rests = []
    for _ in range(8):
        begun_ns = plane.now_ns
        while keep(plane, "p0", held("r1")) == []:
            pass
        rests.append((plane.now_ns - begun_ns) // MS)
        plane.tell(MoveEnded(report=report_of(plane.order(), Stage.ABORTED)))
    assert rests == [500, 1000, 2000, 4000, 8000, 16000, 16000, 16000]


def test_a_committed_move_clears_the_rest() -> None:
    plane = aborted_handoff()
    while keep(plane, "p0", held("r1")) == []:
        pass
    plane.tell(MoveEnded(report=report_of(plane.order())))
    tracked = plane.core._cluster.requests.get(RequestId("r1"))
    assert tracked is not None
    assert (tracked.aborts, tracked.next_move_ns) == (0, 0)


def test_a_request_in_prefill_is_not_moved() -> None:
    plane = aborted_handoff()
    assert keep(plane, "p0", held("r1", Phase.PREFILL), ns=1 * S) == []


def test_a_worker_that_was_made_prefill_loses_its_decodes() -> None:
    plane = Plane("p0", "d0", "d1")
    plane.beat("d0", held("r1"))
    plane.tell(RoleAsked(ask_id="a", worker_id=WorkerId("d0"), role=Role.PREFILL))
    assert keep(plane, "d0", held("r1")) == ["d0#1: move r1 to d1#1"]


def test_with_nowhere_to_go_nothing_is_ordered() -> None:
    plane = Plane("p0")
    plane.beat("p0", held("r1"))
    assert keep(plane, "p0", held("r1")) == []


def test_a_worker_has_a_bounded_number_of_migrations() -> None:
    plane = Plane("p0", "d0", limits=ClusterLimits(moves_per_worker_max=2))
    requests = [held(f"r{n}") for n in range(4)]
    plane.beat("p0", *requests)
    assert keep(plane, "p0", *requests) == ["p0#1: move r0 to d0#1", "p0#1: move r1 to d0#1"]
    assert keep(plane, "p0", *requests) == []
    plane.tell(MoveEnded(report=report_of(plane.core._cluster.moves.all()[0].order)))
    assert keep(plane, "p0", *requests[1:]) == ["p0#1: move r2 to d0#1"]


def test_a_target_is_spared_too() -> None:
    plane = Plane("p0", "p1", "d0", limits=ClusterLimits(moves_per_worker_max=1))
    plane.beat("p0", held("r0"))
    plane.beat("p1", held("r1"))
    assert plane.tick() == ["p0#1: move r0 to d0#1"]


def test_a_request_has_at_most_one_move() -> None:
    plane = Plane("p0", "d0")
    plane.beat("p0", held("r1"))
    assert plane.tick() == ["p0#1: move r1 to d0#1"]
    assert keep(plane, "p0", held("r1"), ns=5 * S) == []


def test_a_move_of_which_nothing_is_heard_ends_and_is_ordered_again_later() -> None:
    plane = Plane("p0", "d0")
    plane.beat("p0", held("r1"))
    plane.tick()
    first = plane.order().move_id
    said: list[str] = []
    while not said:
        said = keep(plane, "p0", held("r1"))
    assert plane.now_ns >= 20 * S + 500 * MS
    assert said == ["p0#1: move r1 to d0#1"]
    assert plane.order().move_id != first


@pytest.mark.parametrize("phase", [Phase.WAITING, Phase.PREFILL, Phase.DECODE, Phase.HANDOVER])
def test_a_move_that_its_source_lists_may_take_its_time(phase: Phase) -> None:
    plane = Plane("p0", "d0")
    plane.arrive("r1")
    move_id = plane.order().move_id
    for _ in range(300):
        keep(plane, "p0", held("r1", phase, move_id=move_id))
    assert len(plane.core.status(plane.now_ns).moves) == 1


def test_a_move_that_its_source_lists_no_more_ends() -> None:
    plane = Plane("p0", "d0")
    plane.arrive("r1")
    move_id = plane.order().move_id
    keep(plane, "p0", held("r1", move_id=move_id))
    counts = []
    for _ in range(210):
        keep(plane, "p0", held("r1", Phase.HANDOVER, move_id=MoveId("an older one")))
        counts.append(len(plane.core.status(plane.now_ns).moves))
    assert counts.index(0) in (199, 200), counts


def test_a_long_migration_that_an_operator_asked_for_is_waited_for() -> None:
    """A paced copy of 4 096 positions took 19 s on a busy machine: its limit was 20 s."""
    plane = Plane("d0", "d1")
    plane.beat("d0", held("r1"))
    plane.tell(MigrateAsked(ask_id="a", request_id=RequestId("r1")))
    order = plane.order()
    for _ in range(600):
        assert keep(plane, "d0", held("r1", move_id=order.move_id)) == []
    assert plane.tell(MoveEnded(report=report_of(order))) == ["a: done, committed"]


def test_a_commit_that_only_a_view_told_ends_well_without_a_report() -> None:
    plane = Plane("d0", "d1")
    plane.beat("d0", held("r1"))
    plane.tell(MigrateAsked(ask_id="a", request_id=RequestId("r1")))
    plane.beat("d1", held("r1", epoch=Epoch(0, 1)))
    assert plane.where("r1") == "decode at d1#1"
    said = []
    for _ in range(201):
        said += keep(plane, "d0")
    assert said == ["a: done"]


def test_a_report_after_the_view_answers_the_operator() -> None:
    plane = Plane("d0", "d1")
    plane.beat("d0", held("r1"))
    plane.tell(MigrateAsked(ask_id="a", request_id=RequestId("r1")))
    order = plane.order()
    plane.beat("d1", held("r1", epoch=Epoch(0, 1)))
    assert plane.tell(MoveEnded(report=report_of(order))) == ["a: done, committed"]
    assert plane.where("r1") == "decode at d1#1"


def test_a_moved_request_that_ends_ends_its_move() -> None:
    plane = Plane("d0", "d1")
    plane.beat("d0", held("r1"))
    plane.tell(MigrateAsked(ask_id="a", request_id=RequestId("r1")))
    move = plane.order().move_id
    assert plane.drop("r1") == [
        "d0#1: cancel r1@0.*",
        "d1#1: cancel r1@0.*",
        f"a: move {move}: the request has ended",
    ]
    assert plane.core.status(0).moves == ()


def test_move_ids_of_two_lives_of_the_controller_differ() -> None:
    ids = []
    for start_ns in (0, 7):
        plane = Plane("p0", "d0").after(start_ns)
        plane.arrive("r1")
        ids.append(plane.order().move_id)
    assert len(set(ids)) == 2


def test_the_policy_learns_from_every_report() -> None:
    plane = aborted_handoff()
    policy = plane.core._cluster.policy
    learned = policy.links.bytes_per_s(WorkerId("p0"), WorkerId("d0"))  # type: ignore[attr-defined]
    assert learned == 1_000_000 * S / (2 * MS)
