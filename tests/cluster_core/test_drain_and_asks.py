"""What operators ask: drain, migrate, give a role; and every way to be told no."""

from typing import Any

import pytest
from control_plane import MS, Plane, S, held, report_of
from splitweave.cluster.core.limits import ClusterLimits
from splitweave.proto.cluster_events import DrainAsked, MigrateAsked, MoveEnded, RoleAsked
from splitweave.proto.ids import Epoch, RequestId, WorkerId
from splitweave.proto.move import Stage
from splitweave.proto.views import Phase, Role


def drain(plane: Plane, name: str, ask_id: str = "a") -> list[str]:
    return plane.tell(DrainAsked(ask_id=ask_id, worker_id=WorkerId(name)))


def migrate(plane: Plane, target: str | None = None, name: str = "r1") -> list[str]:
    worker_id = None if target is None else WorkerId(target)
    return plane.tell(MigrateAsked(ask_id="a", request_id=RequestId(name), target=worker_id))


def give(plane: Plane, name: str, role: Role) -> list[str]:
    return plane.tell(RoleAsked(ask_id="a", worker_id=WorkerId(name), role=role))


# ---- drain


def test_an_empty_worker_is_drained_as_soon_as_its_view_says_that_it_knows() -> None:
    plane = Plane("p0", "d0", "d1")
    assert drain(plane, "d0") == ["d0#1: be decode, draining"]
    assert plane.states()["d0"] == "draining"
    assert plane.beat("d0") == ["d0#1: be decode, draining"]  # a view from before
    assert plane.beat("d0", draining=True) == ["a: done", "retire d0#1"]
    assert plane.beat("d0", draining=True) == []


def test_a_drain_moves_every_decode_off_and_waits_for_the_rest() -> None:
    plane = Plane("p0", "d0", "d1")
    plane.beat("d0", held("r1"), held("r2", Phase.FINISHED))
    assert drain(plane, "d0") == ["d0#1: be decode, draining", "d0#1: move r1 to d1#1"]
    order = plane.order()
    assert plane.beat("d0", held("r1"), held("r2", Phase.FINISHED), draining=True) == []
    plane.tell(MoveEnded(report=report_of(order)))
    assert plane.beat("d0", held("r2", Phase.FINISHED), draining=True) == []
    assert plane.drop("r2") == ["d0#1: cancel r2@0.*"]
    assert plane.beat("d0", draining=True) == ["a: done", "retire d0#1"]


def test_a_draining_worker_gets_nothing_new() -> None:
    plane = Plane("m0", "m1")
    drain(plane, "m0")
    assert plane.arrive("r1")[0] == "m1#1: run r1@0.0"


def test_a_prefill_on_a_draining_worker_ends_with_its_handoff() -> None:
    plane = Plane("p0", "p1", "d0")
    plane.arrive("r1")
    order = plane.order()
    plane.beat("p0", held("r1", Phase.PREFILL))
    drain(plane, "p0")
    assert plane.beat("p0", held("r1", Phase.PREFILL), draining=True) == []
    plane.tell(MoveEnded(report=report_of(order)))
    assert plane.beat("p0", draining=True) == ["a: done", "retire p0#1"]


def test_a_lease_keeps_a_draining_worker() -> None:
    plane = Plane("p0", "d0", "d1")
    drain(plane, "d0")
    assert plane.beat("d0", draining=True, blocks_leased=2) == []
    assert plane.beat("d0", draining=True) == ["a: done", "retire d0#1"]


def test_two_asks_for_one_drain_are_both_answered() -> None:
    plane = Plane("p0", "d0", "d1")
    drain(plane, "d0", "a")
    drain(plane, "d0", "b")
    assert plane.beat("d0", draining=True) == ["a: done", "b: done", "retire d0#1"]
    assert drain(plane, "d0", "c") == ["d0#1: be decode, draining", "c: done"]


def test_a_worker_that_dies_while_it_drains_answers_the_operator() -> None:
    plane = Plane("p0", "d0", "d1")
    drain(plane, "d0")
    assert plane.lose("d0")[-1] == "a: worker d0#1 died while it drained: it crashed"
    assert plane.register("d0", 2) == ["d0#2: be decode"]
    assert plane.states()["d0"] == "alive"


def test_an_aborted_move_is_ordered_again_until_the_drain_is_done() -> None:
    plane = Plane("p0", "d0", "d1")
    plane.beat("d0", held("r1"))
    drain(plane, "d0")
    plane.tell(MoveEnded(report=report_of(plane.order(), Stage.ABORTED)))
    plane.after(500 * MS)
    assert plane.tick() == ["d0#1: move r1 to d1#1"]


@pytest.mark.parametrize(
    ("workers", "name", "said"),
    [
        (("p0", "d0"), "d9", "unknown worker d9"),
        (("p0", "d0"), "d0", "worker d0 is the last one able to decode; it is not drained"),
        (("p0", "d0"), "p0", "worker p0 is the last one able to prefill; it is not drained"),
        (
            ("m0",),
            "m0",
            "worker m0 is the last one able to prefill and decode; it is not drained",
        ),
        (("m0", "d0"), "m0", "worker m0 is the last one able to prefill; it is not drained"),
    ],
)
def test_a_drain_that_cannot_be_is_refused(workers: tuple[str, ...], name: str, said: str) -> None:
    assert drain(Plane(*workers), name) == [f"a: {said}"]


def test_a_dead_worker_cannot_be_drained() -> None:
    plane = Plane("d0", "d1")
    plane.lose("d0")
    assert drain(plane, "d0") == ["a: worker d0 is dead"]


def test_a_suspect_does_not_count_as_able() -> None:
    plane = Plane("m0", "m1").after(1 * S)
    plane.beats("m0")
    plane.tick()
    assert "last one able" in drain(plane, "m0")[0]


def test_asks_that_wait_are_bounded() -> None:
    plane = Plane("p0", "d0", "d1", "d2", limits=ClusterLimits(asks_max=1))
    drain(plane, "d0")
    assert drain(plane, "d1", "b") == ["b: 1 asks wait for an answer (asks_max 1)"]
    plane.beat("d1", held("r1"))
    assert migrate(plane) == ["a: 1 asks wait for an answer (asks_max 1)"]


# ---- roles


def test_a_role_is_given_and_answered_at_once() -> None:
    plane = Plane("p0", "d0", "d1")
    assert give(plane, "d1", Role.PREFILL) == ["d1#1: be prefill", "a: done"]
    roles = {worker.worker_id: worker.role for worker in plane.core.status(0).workers}
    assert roles == {"p0": Role.PREFILL, "d0": Role.DECODE, "d1": Role.PREFILL}


def test_a_role_ends_a_drain() -> None:
    plane = Plane("p0", "d0", "d1")
    drain(plane, "d0", "b")
    assert give(plane, "d0", Role.DECODE) == [
        "b: worker d0 was given the role decode",
        "d0#1: be decode",
        "a: done",
    ]
    assert plane.states()["d0"] == "alive"


@pytest.mark.parametrize(
    ("workers", "name", "role", "said"),
    [
        (("p0", "d0"), "d9", Role.MIXED, "unknown worker d9"),
        (("p0", "d0"), "d0", Role.PREFILL, "worker d0 is the last one able to decode"),
        (("p0", "d0"), "p0", Role.DECODE, "worker p0 is the last one able to prefill"),
        (("m0",), "m0", Role.DECODE, "worker m0 is the last one able to prefill"),
        (("m0",), "m0", Role.PREFILL, "worker m0 is the last one able to decode"),
        (("p0", "d0"), "d0", Role.MIXED, "done"),
        (("m0", "d0"), "d0", Role.PREFILL, "done"),
    ],
)
def test_the_last_of_a_kind_keeps_its_kind(
    workers: tuple[str, ...], name: str, role: Role, said: str
) -> None:
    assert give(Plane(*workers), name, role)[-1].startswith(f"a: {said}")


def test_a_dead_worker_gets_no_role() -> None:
    plane = Plane("d0", "d1")
    plane.lose("d0")
    assert give(plane, "d0", Role.MIXED) == ["a: worker d0 is dead"]


def test_a_new_role_lets_waiting_requests_in() -> None:
    plane = Plane("p0", "d0", infos={"p0": {"blocks_total": 20}})
    plane.beat("p0", blocks_held=19)
    assert plane.arrive("r1") == ["g0: r1@0.0 waits"]
    assert give(plane, "d0", Role.MIXED)[-2:] == ["d0#1: run r1@0.0", "g0: r1@0.0 is at d0#1"]


# ---- migrations


def decoding(*workers: str, **kwargs: Any) -> Plane:
    """r1 decodes on the first of these workers."""
    plane = Plane(*workers, **kwargs)
    plane.beat(workers[0], held("r1"))
    return plane


def test_a_migration_is_ordered_and_answered_with_its_report() -> None:
    plane = decoding("d0", "d1")
    assert migrate(plane, "d1") == ["d0#1: move r1 to d1#1"]
    status = plane.core.status(0).moves[0]
    assert (status.why, status.source.worker_id, status.target.worker_id) == (
        "operator",
        "d0",
        "d1",
    )
    assert plane.tell(MoveEnded(report=report_of(plane_order(plane)))) == ["a: done, committed"]


def plane_order(plane: Plane) -> Any:
    return plane.core._cluster.moves.all()[0].order


def test_an_aborted_migration_is_answered_with_its_reason_and_report() -> None:
    plane = decoding("d0", "d1")
    migrate(plane)
    report = report_of(plane.order(), Stage.ABORTED, reason="no room at the target")
    assert plane.tell(MoveEnded(report=report)) == ["a: no room at the target"]
    assert plane.effects[0].report == report


def test_without_a_name_the_policy_picks_the_target() -> None:
    plane = decoding("d0", "d1", "d2")
    plane.beat("d1", running=30)
    assert migrate(plane) == ["d0#1: move r1 to d2#1"]


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("d9", "unknown worker d9"),
        ("d0", "request r1 is on worker d0 already"),
        ("p0", "worker p0 does not decode: its role is prefill"),
        ("d2", "worker d2 is dead"),
        ("d3", "worker d3 takes nothing new: it is draining"),
        ("d4", "worker d4 has no room: 7 blocks needed, 6 available"),
    ],
)
def test_a_target_that_cannot_take_it_is_named_with_the_reason(target: str, said: str) -> None:
    plane = decoding("d0", "p0", "d2", "d3", "d4")
    plane.lose("d2")
    drain(plane, "d3", "b")
    plane.beat("d4", blocks_held=994)
    assert migrate(plane, target) == [f"a: {said}"]


def test_a_worker_of_another_model_is_no_target() -> None:
    plane = Plane("p0", "d0", "d1", infos={"d1": {"block_bytes": 2_000_000}})
    plane.beat("d0", held("r1"))
    said = (
        "a: worker d1 serves another model: its KV blocks have 2000000 bytes, those of d0 1000000"
    )
    assert migrate(plane, "d1") == [said]
    assert migrate(plane) == ["a: no other worker can take request r1 now"]


def test_an_unknown_request_is_named() -> None:
    assert migrate(Plane("d0", "d1"), name="r9") == ["a: unknown request r9"]


@pytest.mark.parametrize(
    ("phase", "said"),
    [
        (Phase.WAITING, "waiting"),
        (Phase.PREFILL, "prefill"),
        (Phase.HANDOVER, "handover"),
        (Phase.FINISHED, "finished"),
    ],
)
def test_only_a_decoding_request_migrates(phase: Phase, said: str) -> None:
    plane = Plane("d0", "d1")
    plane.beat("d0", held("r1", phase))
    assert migrate(plane) == [f"a: request r1 does not decode now: it is {said}"]


def test_a_waiting_request_does_not_migrate() -> None:
    plane = Plane()
    plane.arrive("r1")
    assert migrate(plane) == ["a: request r1 does not decode now: it is queued"]


def test_a_request_on_its_way_is_not_moved_twice() -> None:
    plane = decoding("d0", "d1")
    migrate(plane)
    move = plane.order().move_id
    assert migrate(plane) == [f"a: request r1 is being moved already, by move {move}"]


def test_no_other_worker_is_an_error() -> None:
    assert migrate(decoding("d0", "p0")) == ["a: no other worker can take request r1 now"]


@pytest.mark.parametrize("target", [None, "d1"])
def test_a_worker_with_all_its_moves_under_way_takes_no_further(target: str | None) -> None:
    plane = Plane("d0", "d1", limits=ClusterLimits(moves_per_worker_max=1))
    plane.beat("d0", held("r1"), held("r2"))
    migrate(plane)
    said = "worker d0 has 1 moves (moves_per_worker_max 1)"
    assert migrate(plane, target, "r2") == [f"a: {said}"]


def test_a_named_target_with_all_its_moves_under_way_says_so() -> None:
    plane = Plane("d0", "d1", "d2", limits=ClusterLimits(moves_per_worker_max=1))
    plane.beat("d0", held("r1"))
    plane.beat("d2", held("r2", epoch=Epoch(0, 3)))
    migrate(plane, "d1")
    said = "worker d1 has 1 moves (moves_per_worker_max 1)"
    assert migrate(plane, "d1", "r2") == [f"a: {said}"]
