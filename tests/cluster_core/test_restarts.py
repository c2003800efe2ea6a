"""Dead workers that do not come back: ended from outside, more and more rarely, then no more."""

from control_plane import MS, Plane, S
from splitweave.cluster.core.limits import ClusterLimits
from splitweave.proto.cluster_events import ClusterStarted, DrainAsked
from splitweave.proto.ids import WorkerId

LIMITS = ClusterLimits(restart_after_ns=10 * S, restarts_max=3, short_life_ns=20 * S)


def plane_of(limits: ClusterLimits = LIMITS) -> Plane:
    """`p0` and `d0`, long alive."""
    plane = Plane("p0", "d0", limits=limits)
    for _ in range(30):
        plane.after(1 * S).beats("p0", "d0")
    return plane


def seconds(plane: Plane, count: int) -> list[str]:
    """`count` seconds of ticks; what was ordered about processes, with the second."""
    said = []
    for second in range(1, count + 1):
        plane.after(1 * S).beats("p0")
        said += [f"{second}: {line}" for line in plane.tick() if line.startswith(("re",))]
    return said


def test_a_worker_that_does_not_come_back_is_ended_from_outside_and_later_again() -> None:
    plane = plane_of()
    plane.lose("d0")
    assert seconds(plane, 200) == ["10: restart d0#1", "30: restart d0#1", "70: restart d0#1"]


def test_one_that_comes_back_is_left_alone() -> None:
    plane = plane_of()
    plane.lose("d0")
    assert seconds(plane, 9) == []
    plane.register("d0", 2)
    for _ in range(30):
        plane.after(1 * S).beats("p0")
        plane.beat("d0", incarnation=2)
        assert plane.tick() == []


def test_a_silent_worker_is_noticed_in_two_seconds_and_restarted_if_it_stays_away() -> None:
    plane = plane_of()
    states = []
    for _ in range(20):
        plane.after(100 * MS).beats("p0")
        plane.tick()
        states.append(plane.states()["d0"])
    assert states[8:10] == ["alive", "suspect"]
    assert states.index("dead") == 17  # 1.8 s
    assert "restart d0#1" in seconds(plane, 12)[0]


def test_a_worker_that_always_dies_young_is_given_up() -> None:
    plane = plane_of()
    plane.lose("d0")
    for life in (2, 3, 4):
        plane.after(5 * S).beats("p0")
        plane.register("d0", life)
        assert "retire" not in str(plane.lose("d0", life))
    plane.after(5 * S).beats("p0")
    plane.register("d0", 5)
    assert "retire d0#5" in plane.lose("d0", 5)
    assert plane.states()["d0"] == "retired"
    assert seconds(plane, 100) == []


def test_a_long_life_forgives_the_short_ones() -> None:
    plane = plane_of()
    plane.lose("d0")
    life = 1
    for _ in range(5):
        for length_s in (5, 25):
            life += 1
            plane.register("d0", life)
            for _ in range(length_s):
                plane.after(1 * S).beats("p0")
                plane.beat("d0", incarnation=life)
            assert "retire" not in str(plane.lose("d0", life))


def test_a_drained_worker_is_not_missed() -> None:
    plane = Plane("p0", "d0", "d1", limits=LIMITS)
    plane.tell(DrainAsked(ask_id="a", worker_id=WorkerId("d0")))
    plane.beat("d0", draining=True)
    plane.lose("d0")
    assert not [line for line in seconds(plane, 100) if "d0" in line]


def test_workers_that_are_expected_show_as_starting_until_they_register() -> None:
    plane = Plane()
    plane.tell(ClusterStarted(worker_ids=(WorkerId("p0"), WorkerId("d0"))))
    assert plane.core.status(0).starting == ("p0", "d0")
    plane.register("d0")
    assert plane.core.status(0).starting == ("p0",)


# ---- lives that hang while they load


STUCK = ClusterLimits(restart_after_ns=300 * S, load_ns_max=30 * S, restarts_max=3)


def test_a_life_that_does_not_load_in_time_is_ended_unasked_and_so_is_the_next() -> None:
    plane = plane_of(STUCK)
    plane.lose("d0")
    said = seconds(plane, 200)
    assert said == [f"{second}: restart starting d0" for second in (30, 60, 90)]


def test_a_life_that_loads_slowly_but_in_time_is_left_alone() -> None:
    plane = plane_of(STUCK)
    plane.lose("d0")
    assert seconds(plane, 29) == []
    plane.register("d0", 2)
    for _ in range(60):
        plane.after(1 * S).beats("p0")
        plane.beat("d0", incarnation=2)
        assert plane.tick() == []


def test_each_life_has_the_whole_time_to_load() -> None:
    plane = plane_of(STUCK)
    plane.lose("d0")
    assert seconds(plane, 20) == []
    plane.register("d0", 2)
    plane.lose("d0", 2)
    assert seconds(plane, 31) == ["30: restart starting d0"]


def test_a_worker_that_never_came_up_is_waited_for_from_the_controllers_start() -> None:
    plane = Plane("p0", limits=STUCK)
    plane.tell(ClusterStarted(worker_ids=(WorkerId("p0"), WorkerId("d0"))))
    plane.register("p0")
    assert seconds(plane, 31) == ["30: restart starting d0"]


def test_a_retired_worker_is_not_waited_for() -> None:
    plane = Plane("p0", "d0", "d1", limits=STUCK)
    plane.tell(DrainAsked(ask_id="a", worker_id=WorkerId("d0")))
    plane.beat("d0", draining=True)
    plane.lose("d0")
    assert not [line for line in seconds(plane, 100) if "d0" in line]
