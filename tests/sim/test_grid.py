"""Interpolation between measured points, and honesty beyond them."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from splitweave.sim.costs.errors import CostError
from splitweave.sim.costs.grid import Beyond, Edge, Grid


def plane(x: float, y: float) -> float:
    return 5 + 2 * x + 3 * y


POINTS = {(x, y): plane(x, y) for x in (1.0, 2.0, 4.0, 8.0) for y in (0.0, 16.0, 64.0)}


def grid(points: dict[tuple[float, ...], float], beyond: Beyond = Beyond.EXTEND) -> Grid:
    axes = ["batch", "context"][: len(next(iter(points)))]
    return Grid(axes, points, Edge("t", beyond), origin="t.csv")


@given(st.floats(1, 8), st.floats(0, 64))
@settings(deadline=None)
def test_a_plane_is_reproduced_between_its_points(x: float, y: float) -> None:
    assert grid(POINTS).at(x, y) == pytest.approx(plane(x, y))


@pytest.mark.parametrize("point", sorted(POINTS))
def test_a_measured_point_is_itself(point: tuple[float, float]) -> None:
    assert grid(POINTS).at(*point) == POINTS[point]


def test_between_two_points_it_goes_straight() -> None:
    assert grid({(1.0,): 10.0, (3.0,): 30.0, (5.0,): 20.0}).at(4) == 25


def test_below_the_first_point_it_stays() -> None:
    measured = grid(POINTS)
    assert measured.at(0.5, 0) == plane(1, 0)
    assert measured.edge.outside == 0


def test_beyond_the_last_point_it_goes_on_straight_and_says_so() -> None:
    measured = grid(POINTS)
    assert measured.at(16, 64) == pytest.approx(plane(16, 64))
    assert measured.at(2, 0) == plane(2, 0)
    assert measured.edge.describe() == (
        "t: 1 of 2 lookups beyond what was measured (batch; up to 2.00 x the last point), "
        "extended in a straight line"
    )


def test_without_a_lookup_beyond_it_says_that() -> None:
    measured = grid(POINTS)
    measured.at(1, 1)
    assert measured.edge.describe() == "t: 1 lookups, none beyond what was measured"


def test_beyond_may_be_refused() -> None:
    with pytest.raises(CostError, match="t: context 65 is beyond the last measured, 64"):
        grid(POINTS, Beyond.REFUSE).at(1, 65)


def test_a_single_point_is_everywhere() -> None:
    one = grid({(4.0,): 7.0})
    assert (one.at(1), one.at(4), one.at(9)) == (7, 7, 7)
    assert one.edge.outside == 1


@given(st.sets(st.sampled_from(sorted(POINTS)), max_size=3))
@settings(deadline=None)
def test_holes_are_filled_from_their_rows_and_counted(holes: set[tuple[float, ...]]) -> None:
    rest = {point: value for point, value in POINTS.items() if point not in holes}
    measured = grid(rest)
    gone = len({x for x, _ in POINTS} - {x for x, _ in rest})
    if not gone:
        assert measured.holes == len(holes)
        for point, value in POINTS.items():
            assert measured.at(*point) == pytest.approx(value)


def test_a_hole_with_nothing_in_its_rows_takes_the_nearest_point() -> None:
    measured = grid({(1.0, 1.0): 10.0, (2.0, 5.0): 50.0})
    assert measured.holes == 2
    assert (measured.at(1, 5), measured.at(2, 1)) == (50, 10)


def test_filling_never_makes_a_time_negative() -> None:
    measured = grid({(1.0, 1.0): 1.0, (1.0, 2.0): 50.0, (2.0, 2.0): 1.0, (2.0, 3.0): 90.0,
                     (1.0, 3.0): 60.0})  # fmt: skip
    assert measured.at(2, 1) == 0


def test_no_points_are_refused() -> None:
    with pytest.raises(CostError, match=r"t.csv: no points for batch x context"):
        Grid(["batch", "context"], {}, Edge("t"), origin="t.csv")


@given(st.lists(st.floats(1, 1000), min_size=2, max_size=6, unique=True), st.floats(0, 2000))
@settings(deadline=None)
def test_a_rising_row_stays_rising(ticks: list[float], x: float) -> None:
    rising = grid({(tick,): tick**1.5 for tick in ticks})
    assert rising.at(x + 1) >= rising.at(x) * (1 - 1e-9)
