"""The vector functions under every kernel: accuracy in ulps, order of sums, lane by lane."""

import numpy as np
import pytest
from emitted import LANES, Floats, exponential, fma, fold_add, indices_by_three, transpose
from splitweave.kernels.cpu import emit, vector_math

EXP_ULPS = 1.0  # of the float nearest to e^x; Cephes' polynomial, and one rounding to scale it


def ulps(actual: Floats, exact: np.ndarray) -> np.ndarray:
    """The error in units of the last place of the exact value, as a float32."""
    return np.abs(actual.astype(np.float64) - exact) / np.spacing(exact.astype(np.float32))


def test_the_exponential_is_within_an_ulp_over_its_whole_range() -> None:
    x = np.linspace(-87, 88, 1_000_003, dtype=np.float32)
    assert ulps(exponential(x), np.exp(x.astype(np.float64))).max() <= EXP_ULPS


def test_the_exponential_is_within_an_ulp_of_one_near_zero() -> None:
    tiny = np.geomspace(1e-45, 1, 50_001).astype(np.float32)
    x = np.concatenate([tiny, -tiny])
    assert ulps(exponential(x), np.exp(x.astype(np.float64))).max() <= EXP_ULPS


def test_the_exponential_of_zero_is_exactly_one() -> None:
    """A running maximum that stays must leave the sums as they are, to the bit."""
    assert exponential(np.array([0.0, -0.0], np.float32)).tolist() == [1.0, 1.0]


def test_the_exponential_never_falls_where_n_or_the_sign_changes() -> None:
    """A larger score never weighs less, also where the power of two steps up."""
    halves = (np.arange(-125, 126) + 0.5) * np.log(2)
    steps = np.nextafter(halves.astype(np.float32), np.float32(np.inf))
    around = [steps]
    for _ in range(40):
        around.append(np.nextafter(around[-1], np.float32(-np.inf)))
    x = np.sort(np.concatenate([*around, np.linspace(-1e-6, 1e-6, 999, dtype=np.float32)]))
    x = x[np.abs(x) < vector_math.EXPONENT_MAX - 1]
    y = exponential(x).astype(np.float64)
    falls = (y[:-1] - y[1:]) / y[1:]
    assert falls.max() <= 2**-23, "a fall of more than the last place"


def test_the_exponential_is_clamped_at_its_limits_and_never_infinite_or_zero() -> None:
    far = np.array([88.1, 1e4, np.finfo(np.float32).max, np.inf], np.float32)
    least, most = exponential(np.array([-87.0, 88.0], np.float32)).tolist()
    assert exponential(far).tolist() == [most] * 4
    assert exponential(-far).tolist() == [least] * 4
    assert 0 < least < 2e-38
    assert 1e38 < most < np.inf


def test_the_exponential_of_nan_is_nan_and_no_other_lane_notices() -> None:
    x = np.linspace(-3, 3, LANES, dtype=np.float32)
    expected = exponential(x)
    x[5] = np.nan
    y = exponential(x)
    assert np.isnan(y[5])
    assert np.array_equal(np.delete(y, 5), np.delete(expected, 5))


def test_a_lane_of_the_exponential_is_the_same_in_every_place() -> None:
    x = np.linspace(-20, 20, LANES, dtype=np.float32)
    y = exponential(x)
    for turn in range(1, LANES):
        assert np.array_equal(exponential(np.roll(x, turn)), np.roll(y, turn))


def test_a_fused_multiply_add_rounds_once() -> None:
    a = np.full(LANES, 1 + 2**-12, np.float32)
    c = -(a * a)
    assert fma(a, a, c).tolist() == [2.0**-24] * LANES


def test_lanes_are_folded_as_halves_quarters_pairs() -> None:
    """Each half absorbs its own: any other order gives another sum than this tree."""
    x = np.array([1e8, 3.0, 1.0, -7.0, 5e7, 11.0, -2.0, 0.5] * 2, np.float32)
    x[8:] *= np.float32(-0.7)
    tree = x
    while tree.size > 1:
        half = tree.size // 2
        tree = tree[:half] + tree[half:]
    assert fold_add(x).tolist() == [tree[0]] * LANES
    assert tree[0] != x.sum(dtype=np.float64)


def test_transpose_exchanges_rows_and_lanes() -> None:
    x = np.arange(LANES * LANES, dtype=np.float32).reshape(LANES, LANES)
    assert np.array_equal(transpose(x), x.T)


@pytest.mark.parametrize("stop", [-5, 0, 1, 2, 3, 4, 9, 10])
def test_a_counted_loop_visits_what_range_visits(stop: int) -> None:
    assert indices_by_three(stop) == list(range(0, stop, 3))


@pytest.mark.parametrize("number", [0.1, vector_math.LOG2_E, -vector_math.LN2_LOW, 1e-45, -0.0])
def test_a_constant_in_the_code_is_the_float_that_numpy_rounds_to(number: float) -> None:
    assert np.float32(emit.scalar(number).constant).tobytes() == np.float32(number).tobytes()
