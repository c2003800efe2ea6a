"""The fewest late requests, counted in one pass, are those of the best choice of all."""

from itertools import combinations
from random import Random

import numpy as np
import pytest
from splitweave.sim.planner.late import Floats, enough, least_workers, likely_workers


def fewest_late(at_s: Floats, work_s: Floats, within_s: float) -> int:
    """By trying every choice of those that are done in time."""
    for kept_len in range(len(at_s), 0, -1):
        for kept in combinations(range(len(at_s)), kept_len):
            free_s, in_time = 0.0, True
            for index in kept:
                free_s = max(free_s, at_s[index]) + work_s[index]
                in_time &= free_s <= at_s[index] + within_s
            if in_time:
                return len(at_s) - kept_len
    return len(at_s)


def drawn(seed: int, whole: bool) -> tuple[Floats, Floats, float]:
    """Up to nine requests; of whole seconds, so that many are alike, or of any."""
    dice = Random(seed)
    count, spread = dice.randint(1, 9), dice.choice((2.0, 8.0, 20.0))
    at_s = sorted(dice.uniform(0, spread) for _ in range(count))
    work_s = [dice.uniform(0.1, 5.0) for _ in range(count)]
    if whole:
        at_s, work_s = [round(at) for at in at_s], [max(1, round(work)) for work in work_s]
    return np.array(at_s, dtype=float), np.array(work_s, dtype=float), dice.choice((1.0, 3.0, 6.0))


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("seed", range(60))
def test_no_choice_has_fewer_late_and_the_best_has_as_many(seed: int, whole: bool) -> None:
    at_s, work_s, within_s = drawn(seed, whole)
    least = fewest_late(at_s, work_s, within_s)
    assert enough(at_s, work_s, within_s, least)
    assert least == 0 or not enough(at_s, work_s, within_s, least - 1)


@pytest.mark.parametrize("seed", range(20))
def test_the_least_workers_are_enough_and_one_fewer_is_not(seed: int) -> None:
    at_s, work_s, within_s = drawn(seed, whole=False)
    for late_max in (0, 1, 3):
        workers = least_workers(at_s, work_s * 4, within_s, late_max)
        assert enough(at_s, work_s * 4 / workers, within_s, late_max)
        assert workers == 1 or not enough(at_s, work_s * 4 / (workers - 1), within_s, late_max)


def test_what_asks_for_no_work_is_never_late() -> None:
    at_s, work_s = np.array([0.0, 0.0, 0.1, 0.2]), np.array([4.0, 0.0, 0.0, 0.0])
    assert least_workers(at_s, work_s, 2.0, 0) == 2
    assert least_workers(at_s, np.zeros(4), 2.0, 0) == 0


def test_a_burst_behind_a_pause_begins_with_idle_workers() -> None:
    at_s = np.array([0.0, 0.0, 100.0, 100.0])
    assert enough(at_s, np.ones(4), 2.0, 0)
    assert not enough(at_s, np.ones(4), 1.5, 1)
    assert enough(at_s, np.ones(4), 1.5, 2)


def test_the_request_left_out_may_be_an_earlier_one() -> None:
    at_s = np.array([0.0, 1.0, 2.0, 3.0])
    assert not enough(at_s, np.array([4.0, 2.0, 2.0, 2.0]), 4.0, 0)
    assert enough(at_s, np.array([4.0, 2.0, 2.0, 2.0]), 4.0, 1)


@pytest.mark.parametrize("seed", range(20))
def test_a_guess_is_no_fewer_than_the_least(seed: int) -> None:
    at_s, work_s, _ = drawn(seed, whole=False)
    for late_max in (0, 2):
        least = least_workers(at_s, work_s, 6.0, late_max)
        assert least <= likely_workers(at_s, work_s, 6.0, late_max) <= len(at_s)
