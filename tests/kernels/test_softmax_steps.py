"""Attention's steps beside the matmul: the running softmax, its rescaling, its end."""

import numpy as np
import pytest
from emitted import Floats, normalise_row, softmax_step, transpose_keys
from hypothesis import given, settings
from hypothesis import strategies as st
from splitweave.kernels.cpu.tile import PANEL

SIZE = 32
SEEDED = settings(derandomize=True, deadline=None, max_examples=60)
# e^x is within an ulp, a sum of n positive terms within n / 2: far below this.
BOUND = 5e-6
Step = tuple[Floats, Floats, Floats]


def step(scores: Floats, seen: int, state: Floats, out: Floats) -> Step:
    """(weights, state, out) after one tile; the arguments stay as they are."""
    weights, state, out = scores.copy(), state.copy(), out.copy()
    softmax_step(weights.ctypes.data, seen, state.ctypes.data, out.ctypes.data, out.size)
    return weights, state, out


def fresh() -> tuple[Floats, Floats]:
    return np.array([-np.inf, 0], np.float32), np.zeros(SIZE, np.float32)


@SEEDED
@given(
    lengths=st.lists(st.integers(1, PANEL), min_size=1, max_size=5),
    spread=st.sampled_from([0.0, 1e-3, 1.0, 30.0, 1e4]),
    seed=st.integers(0, 2**32 - 1),
)
def test_tiles_in_any_number_give_the_softmax_of_all_their_scores(
    lengths: list[int], spread: float, seed: int
) -> None:
    random = np.random.default_rng(seed)
    scores = [(random.standard_normal(PANEL) * spread).astype(np.float32) for _ in lengths]
    values = [random.standard_normal((PANEL, SIZE)).astype(np.float32) for _ in lengths]
    state, out = fresh()
    for tile, value, seen in zip(scores, values, lengths, strict=True):
        weights, state, out = step(tile, seen, state, out)
        out += weights @ value
    y = np.empty(SIZE, np.float32)
    normalise_row(out.ctypes.data, state.ctypes.data, y.ctypes.data, SIZE)
    cut = [tile[:seen] for tile, seen in zip(scores, lengths, strict=True)]
    flat = np.concatenate(cut).astype(np.float64)
    exact = np.exp(flat - flat.max())
    rows = np.concatenate([v[:seen] for v, seen in zip(values, lengths, strict=True)])
    assert state[0] == flat.max()
    np.testing.assert_allclose(y, exact @ rows / exact.sum(), rtol=BOUND, atol=BOUND)


@pytest.mark.parametrize("seen", [1, 2, 15, 16, 17, 31, 32])
@pytest.mark.parametrize("unseen", [np.nan, np.inf, -np.inf, 3e38])
def test_what_lies_beyond_the_seen_scores_weighs_nothing(seen: int, unseen: float) -> None:
    scores = np.linspace(-2, 2, PANEL, dtype=np.float32)
    state, out = fresh()
    expected = step(scores, seen, state, out)
    scores[seen:] = unseen
    for actual, known in zip(step(scores, seen, state, out), expected, strict=True):
        assert np.array_equal(actual, known)
    assert (expected[0][:seen] > 0).all()
    assert expected[0][seen:].tolist() == [0.0] * (PANEL - seen)


def test_a_maximum_that_stays_leaves_the_output_bits_alone() -> None:
    state = np.array([5.0, 2.5], np.float32)
    out = np.array([1e-40, -0.0, np.inf, 3.0] * (SIZE // 4), np.float32)
    weights, after, kept = step(np.full(PANEL, 5.0, np.float32), 32, state, out)
    assert kept.tobytes() == out.tobytes()
    assert after.tolist() == [5.0, 34.5]
    assert weights.tolist() == [1.0] * PANEL


def test_a_higher_maximum_rescales_the_sum_and_the_output_alike() -> None:
    state, out = np.array([1.0, 8.0], np.float32), np.full(SIZE, 8.0, np.float32)
    _, after, scaled = step(np.full(PANEL, 3.0, np.float32), 1, state, out)
    assert after[0] == 3.0
    assert after[1] - 1 == pytest.approx(8 * np.exp(-2.0), rel=1e-6)
    assert scaled.tolist() == [pytest.approx(8 * np.exp(-2.0), rel=1e-6)] * SIZE


@pytest.mark.parametrize("place", [0, 7, 16, 31])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_seen_score_that_is_not_finite_makes_the_row_nan(place: int, bad: float) -> None:
    """As plain softmax does: a broken model must not look like a working one."""
    scores = np.linspace(-2, 2, PANEL, dtype=np.float32)
    scores[place] = bad
    weights, state, out = step(scores, PANEL, *fresh())
    assert np.isnan(weights).any()
    assert np.isnan(state[1])
    y = np.zeros(SIZE, np.float32)
    normalise_row(out.ctypes.data, state.ctypes.data, y.ctypes.data, SIZE)
    assert np.isnan(y).all()


def test_a_normalised_row_has_no_negative_zero() -> None:
    """Masked lanes add +0 or nothing, by chunking: the sign of a zero must not tell."""
    out, state = np.full(SIZE, -0.0, np.float32), np.array([0.0, 4.0], np.float32)
    y = np.ones(SIZE, np.float32)
    normalise_row(out.ctypes.data, state.ctypes.data, y.ctypes.data, SIZE)
    assert not np.signbit(y).any()


@pytest.mark.parametrize("size", [16, 32, 80, 128])
def test_keys_are_transposed_for_any_head_size_in_sixteens(size: int) -> None:
    keys = np.arange(PANEL * size, dtype=np.float32).reshape(PANEL, size)
    target = np.full((size, PANEL), np.nan, np.float32)
    transpose_keys(keys.ctypes.data, target.ctypes.data, size)
    assert np.array_equal(target, keys.T)
