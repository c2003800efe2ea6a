"""Gaps in buckets: as exact as they promise, whatever the values."""

from math import ceil
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from splitweave.sim.results import gaps as module
from splitweave.sim.results.gaps import Gaps

HOURS_NS = 10_000_000_000_000


def _of(gaps_ns: list[int], together: int = 0) -> Gaps:
    gaps = Gaps()
    gaps.add(gaps_ns, together)
    return gaps


def _nearest_rank(values: list[int], percent: float) -> int:
    return sorted(values)[ceil(len(values) * percent / 100) - 1]


def test_no_gap_has_no_figure() -> None:
    gaps = Gaps()
    assert (gaps.count, gaps.mean_ns, gaps.max_ns, gaps.percentile_ns(50)) == (0, 0.0, 0, 0.0)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, HOURS_NS), min_size=1, max_size=200), st.integers(0, 20))
def test_percentiles_are_within_a_thousandth_of_the_nearest_rank(
    values: list[int], together: int
) -> None:
    gaps = _of(values, together)
    whole = values + [0] * together
    assert gaps.count == len(whole)
    assert gaps.max_ns == max(whole)
    assert gaps.mean_ns == sum(whole) / len(whole)
    for percent in (50, 90, 95, 99, 100):
        exact = _nearest_rank(whole, percent)
        assert gaps.percentile_ns(percent) == pytest.approx(exact, rel=1e-3, abs=0)


def test_short_gaps_and_equal_gaps_are_exact() -> None:
    short = list(range(2048))
    assert [_of(short).percentile_ns(p) for p in (50, 90, 99)] == [1023, 1843, 2027]
    assert _of([20_000_123] * 7 + [90_000_777] * 3).percentile_ns(99) == 90_000_777


def test_tokens_that_came_together_are_gaps_of_zero() -> None:
    gaps = _of([1000], together=9)
    assert (gaps.percentile_ns(90), gaps.percentile_ns(91)) == (0.0, 1000.0)
    assert gaps.mean_ns == 100.0


def test_what_is_kept_does_not_grow_with_the_gaps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PENDING_MAX", 100)
    random, gaps, values = Random(3), Gaps(), []
    for _ in range(40):
        some = [random.randrange(HOURS_NS) for _ in range(30)]
        values += some
        gaps.add(some, 0)
        assert len(gaps._pending) < 100
    assert gaps.mean_ns == sum(values) / len(values)
    assert gaps.percentile_ns(50) == pytest.approx(_nearest_rank(values, 50), rel=1e-3)
