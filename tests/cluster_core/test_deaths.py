"""Deaths that this controller did not see: what workers tell of them, and what follows."""

from control_plane import MS, Plane, S, held, key
from splitweave.cluster.core.limits import ClusterLimits


def silent_for(plane: Plane, ns: int, *awaited: str, step_ns: int = 200 * MS) -> list[str]:
    """`d0` beats with blocks in quarantine for that long; what was ordered meanwhile."""
    said: list[str] = []
    for _ in range(ns // step_ns):
        plane.after(step_ns)
        keys = tuple(key(name) for name in awaited)
        said += plane.beat("d0", blocks_quarantined=3, awaited=keys)
    return said


def test_a_worker_that_an_earlier_controller_gave_up_is_fenced_by_the_next() -> None:
    """Its peers refuse it: adopted, it could do nothing until it ended."""
    plane = Plane("p0", "d0")
    plane.beat("d0", held("r1"))
    said = plane.register("d1", lost=(key("d0"),))
    assert "d1#1: be decode" in said
    assert "p0#1: d0#1 is lost" in said
    reason = "worker d0#1 is dead: an earlier controller gave it up"
    assert f"g0: r1@0.0 displaced: {reason}" in said
    assert plane.states()["d0"] == "dead"
    assert plane.beat("d0", held("r1")) == ["d0#1: d0#1 is lost"]


def test_one_that_registers_after_its_death_was_told_is_fenced_too() -> None:
    plane = Plane("p0")
    plane.register("d1", lost=(key("d0"),))
    assert plane.register("d0") == ["d0#1: d0#1 is lost"]
    assert "d0" not in plane.states()


def test_the_next_life_of_a_fenced_worker_is_welcome() -> None:
    plane = Plane("p0")
    plane.register("d1", lost=(key("d0"),))
    assert "d0#2: be decode" in plane.register("d0", 2)
    assert plane.states()["d0"] == "alive"


def test_a_death_of_a_later_life_ends_the_earlier_one_too() -> None:
    plane = Plane("p0", "d0")
    plane.register("d1", lost=(key("d0", 2),))
    assert plane.states()["d0"] == "dead"
    assert plane.register("d0", 2) == ["d0#2: d0#2 is lost"]
    assert "d0#3: be decode" in plane.register("d0", 3)


def test_a_death_that_is_known_is_not_told_again() -> None:
    plane = Plane("p0", "d0", "d1")
    plane.lose("d0")
    assert plane.register("d1", lost=(key("d0"),)) == ["d1#1: be decode"]


def test_a_writer_that_died_without_a_controller_lets_its_blocks_go() -> None:
    plane = Plane("p0", "d0")
    assert not [line for line in silent_for(plane, 1_600 * MS, "d9") if "d9" in line]
    assert "d0#1: d9#1 is lost" in silent_for(plane, 600 * MS, "d9")
    assert plane.register("d9") == ["d9#1: d9#1 is lost"]


def test_a_writer_that_registers_meanwhile_is_not_given_up() -> None:
    plane = Plane("p0", "d0")
    silent_for(plane, 1 * S, "d9")
    plane.register("d9")
    plane.after(200 * MS).beat("d9")
    said = silent_for(plane, 1 * S, "d9")
    assert "d0#1: d9#1 is lost" not in said
    assert plane.states()["d9"] == "alive"


def test_writers_that_are_waited_for_are_bounded() -> None:
    plane = Plane("d0", limits=ClusterLimits(deaths_max=3))
    many = tuple(key(f"d{n}") for n in range(10, 30))
    plane.beat("d0", blocks_quarantined=9, awaited=many)
    assert len(plane.core._cluster.unheard) == 3


def test_fences_are_bounded() -> None:
    plane = Plane("p0", limits=ClusterLimits(deaths_max=3))
    plane.register("d0", lost=tuple(key(f"d{n}") for n in range(1, 9)))
    assert len(plane.core._cluster.members.deaths()) == 3
    assert plane.register("d8") == ["d8#1: d8#1 is lost"]
    assert "d1#1: be decode" in plane.register("d1")
