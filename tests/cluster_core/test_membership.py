"""Who is alive, and the fence around the dead."""

import pytest
from control_plane import MS, Plane, S, held, key
from splitweave.cluster.core.limits import ClusterLimits
from splitweave.proto.cluster_events import ClusterStarted, RoleAsked
from splitweave.proto.ids import WorkerId
from splitweave.proto.timers import SetTimer, TimerKey
from splitweave.proto.views import Role


def test_a_start_sets_the_tick_and_every_tick_the_next() -> None:
    plane = Plane()
    plane.tell(ClusterStarted())
    assert plane.effects == [SetTimer(TimerKey("tick"), 100 * MS)]
    plane.after(100 * MS).tick()
    assert plane.effects == [SetTimer(TimerKey("tick"), 200 * MS)]


def test_a_registration_is_answered_with_the_role_every_time() -> None:
    plane = Plane()
    assert plane.register("p0") == ["p0#1: be prefill"]
    assert plane.register("p0") == ["p0#1: be prefill"]


def test_an_unknown_sender_is_asked_to_register() -> None:
    plane = Plane("p0")
    plane.infos[key("d0")] = plane.infos[key("p0")].__class__(
        **{f: getattr(plane.infos[key("p0")], f) for f in plane.infos[key("p0")].__slots__}
        | {"key": key("d0")}
    )
    plane.numbers[key("d0")] = 41
    assert plane.beat("d0") == ["d0#1: register"]
    assert plane.states() == {"p0": "alive"}


def test_a_gap_in_the_numbers_asks_for_registration_until_it_comes() -> None:
    plane = Plane("d0")
    assert plane.beat("d0") == []
    assert plane.beat("d0", number=3) == ["d0#1: register"]
    assert plane.beat("d0") == ["d0#1: register"]
    plane.register("d0")
    assert plane.beat("d0") == []


def test_a_doubled_or_overtaken_heartbeat_is_ignored() -> None:
    plane = Plane("d0")
    plane.beat("d0", running=1)
    plane.beat("d0", running=2)
    assert plane.beat("d0", number=1, running=9) == []
    assert plane.core.status(0).workers[0].view.running == 2


def test_a_registration_that_a_view_overtook_changes_nothing_but_must_be_repeated() -> None:
    plane = Plane("d0").after(10)
    plane.beat("d0", running=2)
    assert plane.register("d0", view={"observed_at_ns": 5, "running": 7}) == ["d0#1: be decode"]
    assert plane.core.status(0).workers[0].view.running == 2
    assert plane.beat("d0", running=2) == ["d0#1: register"]


@pytest.mark.parametrize(
    ("silence_ns", "state"),
    [
        (999 * MS, "alive"),
        (1000 * MS, "suspect"),
        (1799 * MS, "suspect"),
        (1800 * MS, "dead"),
    ],
)
def test_silence_makes_suspect_then_dead(silence_ns: int, state: str) -> None:
    plane = Plane("d0").after(silence_ns)
    plane.tick()
    assert plane.states() == {"d0": state}


def test_a_suspect_that_is_heard_again_is_alive() -> None:
    plane = Plane("d0").after(1 * S)
    plane.tick()
    plane.beat("d0")
    assert plane.states() == {"d0": "alive"}


def test_a_suspect_gets_no_new_request() -> None:
    plane = Plane("m0", "m1").after(1 * S)
    plane.beat("m1")
    plane.tick()
    assert plane.arrive("r1")[0].startswith("m1#1: run r1")


def test_a_dead_worker_is_told_to_all_others_and_never_heard_again() -> None:
    plane = Plane("p0", "d0", "d1")
    assert plane.lose("d0") == ["p0#1: d0#1 is lost", "d1#1: d0#1 is lost"]
    assert plane.states()["d0"] == "dead"
    assert plane.beat("d0", held("r9")) == ["d0#1: d0#1 is lost"]
    assert plane.lose("d0") == []
    assert plane.where("r9") == "gone"


def test_a_dead_worker_that_speaks_is_told_that_it_is_lost_each_time() -> None:
    """Frozen and thawed, its process would else live on and never be replaced."""
    plane = Plane("p0", "d0", "d1")
    plane.lose("d0")
    assert plane.beat("d0") == ["d0#1: d0#1 is lost"]
    assert plane.register("d0") == ["d0#1: d0#1 is lost"]
    assert plane.states()["d0"] == "dead"
    assert plane.register("d0", 2) == ["d0#2: be decode"]
    assert plane.beat("d0", incarnation=1) == ["d0#1: d0#1 is lost"]


def test_a_higher_incarnation_buries_the_one_before() -> None:
    plane = Plane("p0", "d0")
    plane.beat("d0", held("r1"))
    assert plane.register("d0", 2) == [
        "p0#1: d0#1 is lost",
        "g0: r1@0.0 displaced: worker d0#1 is dead: d0#2 took its place",
        "d0#2: be decode",
    ]
    assert plane.beat("d0", held("r1")) == ["d0#1: d0#1 is lost"]
    assert plane.where("r1") == "displaced"


def test_an_older_incarnation_is_fenced_though_it_never_registered_here() -> None:
    plane = Plane()
    plane.register("d0", 5)
    plane.infos[key("d0", 4)] = plane.infos[key("d0", 5)]
    assert plane.register("d0", 4) == ["d0#4: d0#4 is lost"]
    assert plane.core.status(0).workers[0].incarnation == 5


def test_a_role_given_by_an_operator_outlives_the_incarnation() -> None:
    plane = Plane("p0", "d0", "d1")
    plane.tell(RoleAsked(ask_id="a", worker_id=WorkerId("d1"), role=Role.MIXED))
    plane.lose("d1")
    assert plane.register("d1", 2) == ["d1#2: be mixed"]


def test_a_view_with_another_role_is_corrected() -> None:
    plane = Plane("p0", "d0", "d1")
    plane.tell(RoleAsked(ask_id="a", worker_id=WorkerId("d1"), role=Role.MIXED))
    assert plane.beat("d1") == ["d1#1: be mixed"]  # its view still says decode
    assert plane.beat("d1", role=Role.MIXED) == []


def test_a_new_controller_takes_role_and_drain_from_the_view() -> None:
    plane = Plane()
    assert plane.register("d0", view={"role": Role.MIXED, "draining": True}) == [
        "d0#1: be mixed, draining",
        "retire d0#1",
    ]
    assert plane.states() == {"d0": "retired"}


def test_workers_beyond_the_limit_are_not_taken() -> None:
    plane = Plane("d0", limits=ClusterLimits(workers_max=1))
    assert plane.register("d1") == []
    assert plane.states() == {"d0": "alive"}


def test_the_oldest_death_is_forgotten_beyond_the_limit() -> None:
    plane = Plane("d0", "d1", "d2", limits=ClusterLimits(deaths_max=2))
    for name in ("d0", "d1", "d2"):
        plane.lose(name)
    assert plane.states() == {"d1": "dead", "d2": "dead"}


def test_who_waits_for_a_dead_peer_is_told_again_but_not_with_every_view() -> None:
    plane = Plane("p0", "d0")
    plane.lose("p0")
    assert plane.beat("d0", blocks_quarantined=3) == ["d0#1: p0#1 is lost"]
    assert plane.beat("d0", blocks_quarantined=3) == []
    plane.after(1 * S)
    assert plane.beat("d0", blocks_quarantined=3) == ["d0#1: p0#1 is lost"]
    assert plane.beat("d0") == []


def test_who_is_alive_proves_its_earlier_lives_dead_to_those_who_wait_for_them() -> None:
    plane = Plane("d0")
    plane.register("p0", 7)  # a controller before this one may have buried p0#6, or p0#2
    assert plane.beat("d0", blocks_quarantined=1) == ["d0#1: p0#6 is lost"]
    assert plane.beat("p0", blocks_quarantined=0, incarnation=7) == []
