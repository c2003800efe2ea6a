"""Deaths: what is displaced, at which epoch, and how often it is said."""

from control_plane import MS, Plane, S, held, key
from splitweave.cluster.core.limits import ClusterLimits
from splitweave.proto.cluster_events import MigrateAsked
from splitweave.proto.ids import Epoch, RequestId
from splitweave.proto.views import Phase


def test_a_dead_prefill_workers_requests_are_displaced() -> None:
    plane = Plane("p0", "d0")
    plane.arrive("r1")
    assert plane.lose("p0") == [
        "d0#1: p0#1 is lost",
        "g0: r1@0.0 displaced: worker p0#1 is dead: it crashed",
    ]


def test_silence_displaces_like_a_crash() -> None:
    plane = Plane("m0")
    plane.arrive("r1")
    said = plane.after(1800 * MS).tick()
    reason = "silent for 1800000000 ns (dead_after_ns 1800000000)"
    assert said == [f"g0: r1@0.0 displaced: worker m0#1 is dead: {reason}"]


def test_a_dead_target_displaces_nothing_its_source_goes_on() -> None:
    plane = Plane("p0", "d0")
    plane.arrive("r1")
    assert plane.lose("d0") == ["p0#1: d0#1 is lost"]
    assert plane.where("r1") == "assigned at p0#1"
    assert plane.core.status(0).moves == ()


def test_a_dead_source_whose_targets_commit_is_known_displaces_nothing() -> None:
    plane = Plane("p0", "d0")
    plane.arrive("r1")
    plane.beat("d0", held("r1", epoch=Epoch(0, 1)))
    assert plane.lose("p0") == ["d0#1: p0#1 is lost"]
    assert plane.where("r1") == "decode at d0#1"


def test_a_target_that_committed_unheard_takes_the_request_back_from_displacement() -> None:
    plane = Plane("p0", "d0")
    plane.arrive("r1")
    plane.lose("p0")
    plane.beat("d0", held("r1", epoch=Epoch(0, 1)))
    assert plane.where("r1") == "decode at d0#1"


def test_source_and_target_dead_displaces_also_at_the_epoch_of_the_commit() -> None:
    plane = Plane("p0", "d0", "d1")
    plane.arrive("r1")
    target = plane.order().target
    assert "g0: r1@0.0 displaced: worker p0#1 is dead: it crashed" in plane.lose("p0")
    assert f"g0: r1@0.1 displaced: worker {target} is dead too" in plane.lose(str(target.worker_id))


def test_a_dead_target_that_committed_unheard_is_found_when_the_source_lets_go() -> None:
    plane = Plane("p0", "d0")
    plane.arrive("r1")
    plane.beat("p0", held("r1", Phase.PREFILL))
    plane.lose("d0")
    plane.beat("p0")
    plane.after(1 * S + 1)
    assert plane.beat("p0") == ["g0: r1@0.1 displaced: worker p0#1 does not hold it"]


def test_a_displacement_is_said_again_until_the_gateway_answers() -> None:
    plane = Plane("m0", "m1")
    plane.arrive("r1")
    plane.lose("m0")
    plane.beats("m1")
    assert plane.after(999 * MS).tick() == []
    plane.beats("m1")
    assert plane.after(1 * MS).tick() == ["g0: r1@0.0 displaced: no worker holds it"]
    assert plane.arrive("r1", epoch=Epoch(1), emitted=(4,))[0] == "m1#1: run r1@1.0 +1"
    plane.beat("m1", held("r1", epoch=Epoch(1)))
    assert plane.after(1 * S).tick() == []


def test_a_question_about_a_displaced_request_is_answered_with_its_displacement() -> None:
    plane = Plane("m0")
    plane.arrive("r1")
    plane.lose("m0")
    assert plane.arrive("r1") == ["g0: r1@0.0 displaced: no worker holds it"]


def test_a_gateway_that_never_answers_is_given_up() -> None:
    plane = Plane("m0", limits=ClusterLimits(displaced_tells_max=2))
    plane.arrive("r1")
    plane.lose("m0")
    said = [line for _ in range(4) for line in plane.after(1 * S).tick()]
    assert said == ["g0: r1@0.0 displaced: no worker holds it"] * 2
    assert plane.where("r1") == "gone"


def test_a_displaced_request_can_be_dropped() -> None:
    plane = Plane("p0", "d0")
    plane.arrive("r1")
    plane.lose("p0")
    assert plane.drop("r1") == ["d0#1: cancel r1@0.*"]  # it may have committed there
    assert plane.where("r1") == "gone"


def test_prefixes_of_a_dead_worker_attract_nothing() -> None:
    hashes = tuple(range(6))
    plane = Plane("m0", "m1")
    plane.register("m1", cached=hashes)
    assert plane.arrive("r1", block_hashes=hashes)[0] == "m1#1: run r1@0.0"
    plane.lose("m1")
    plane.register("m1", 2)
    assert plane.arrive("r2", block_hashes=hashes)[0] == "m0#1: run r2@0.0"


def test_evicted_prefixes_attract_nothing_and_cached_ones_do() -> None:
    hashes = tuple(range(6))
    plane = Plane("m0", "m1")
    plane.beat("m1", cached=hashes)
    assert plane.arrive("r1", block_hashes=hashes)[0] == "m1#1: run r1@0.0"
    plane.drop("r1")
    plane.beat("m1", evicted=hashes)
    assert plane.arrive("r2", block_hashes=hashes)[0] == "m0#1: run r2@0.0"


def test_a_dead_sides_move_answers_its_operator() -> None:
    plane = Plane("d0", "d1")
    plane.beat("d0", held("r1"))
    plane.tell(MigrateAsked(ask_id="a", request_id=RequestId("r1")))
    move = plane.order().move_id
    assert plane.lose("d1") == [
        "d0#1: d1#1 is lost",
        f"a: move {move}: worker d1#1 is dead: it crashed",
    ]
    assert plane.where("r1") == "decode at d0#1"


def test_all_workers_of_a_request_lost_it_ends_up_where_there_is_life() -> None:
    plane = Plane("p0", "d0", "m0")
    plane.lose("m0")
    plane.arrive("r1")
    plane.lose("p0")
    plane.arrive("r1", epoch=Epoch(1))
    assert plane.where("r1") == "assigned at d0#1"  # any role can do all of it when it must
    plane.lose("d0")
    plane.arrive("r1", epoch=Epoch(2))
    assert plane.where("r1") == "queued"
    plane.register("p0", 2)
    assert plane.where("r1") == f"assigned at {key('p0', 2)}"
