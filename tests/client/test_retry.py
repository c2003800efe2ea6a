"""When to try again, and how long to wait: bounds that hold for every policy and history."""

import contextlib
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from splitweave.client import errors
from splitweave.client.errors import Overloaded, SplitweaveError, Unavailable
from splitweave.client.retry import Retry, RetryPolicy

SECONDS = st.floats(0.0, 1e4)
POLICIES = st.builds(
    RetryPolicy, tries_max=st.integers(1, 8), backoff_s=SECONDS, backoff_max_s=SECONDS
)
FINAL = [
    errors.InvalidRequest, errors.NotFound, errors.Refused, errors.DeadlineExceeded,
    errors.Cancelled, errors.Denied, errors.ServerError,
]  # fmt: skip


def retry(policy: RetryPolicy, deadline_s: float | None = None, seed: int = 0) -> Retry:
    return Retry(policy, deadline_s, random.Random(seed))


@given(POLICIES, st.integers(0, 2**32), st.none() | SECONDS)
def test_every_wait_is_within_the_bounds_of_its_try(
    policy: RetryPolicy, seed: int, asked_s: float | None
) -> None:
    sut = retry(policy, seed=seed)
    for number in range(policy.tries_max - 1):
        wait_s = sut.failed(Overloaded("full", asked_s), 0.0)
        full_s = min(policy.backoff_s * 2.0**number, policy.backoff_max_s)
        least_s = asked_s or 0.0
        assert max(full_s / 2, least_s) <= wait_s <= max(full_s, least_s)


@given(st.lists(st.booleans(), max_size=40), st.integers(1, 6), st.integers(1, 9))
def test_patience_is_counted_in_failures_in_a_row_and_grows_with_the_first_token(
    progress: list[bool], tries_max: int, resume_tries_max: int
) -> None:
    """True: something new came; False: a try failed."""
    sut = retry(RetryPolicy(tries_max=tries_max, resume_tries_max=resume_tries_max))
    in_a_row = failures = 0
    limit = tries_max
    for came in progress:
        if came:
            sut.progressed()
            in_a_row = 0
            limit = 1 if tries_max == 1 else max(tries_max, resume_tries_max)
            continue
        in_a_row += 1
        if in_a_row == limit:
            with pytest.raises(Unavailable):
                sut.failed(Unavailable("x"), 0.0)
            return
        sut.failed(Unavailable("x"), 0.0)
        failures += 1
        assert sut.retries == failures


@given(POLICIES, SECONDS, SECONDS, st.none() | SECONDS)
def test_no_wait_reaches_the_deadline(
    policy: RetryPolicy, deadline_s: float, now_s: float, asked_s: float | None
) -> None:
    sut = retry(policy, deadline_s)
    error = Unavailable("x", asked_s)
    with contextlib.suppress(Unavailable):
        assert sut.failed(error, now_s) < deadline_s - now_s
        assert sut.retries == 1
        return
    assert sut.retries == 0
    assert policy.tries_max == 1 or max(policy.backoff_s, asked_s or 0.0) >= deadline_s - now_s


@given(SECONDS, SECONDS)
def test_what_remains_is_never_negative(deadline_s: float, now_s: float) -> None:
    assert retry(RetryPolicy(), deadline_s).remaining_s(now_s) == max(0.0, deadline_s - now_s)
    assert retry(RetryPolicy()).remaining_s(now_s) is None


@pytest.mark.parametrize("kind", FINAL)
def test_what_retrying_cannot_mend_is_raised_as_it_is(kind: type[SplitweaveError]) -> None:
    error = kind("no")
    sut = retry(RetryPolicy(tries_max=99))
    with pytest.raises(kind) as caught:
        sut.failed(error, 0.0)
    assert caught.value is error
    assert sut.retries == 0


def test_every_error_of_the_tree_is_either_final_or_retried() -> None:
    assert set(SplitweaveError.__subclasses__()) == {*FINAL, Overloaded, Unavailable}


def test_one_try_is_no_retry() -> None:
    with pytest.raises(Unavailable):
        retry(RetryPolicy(tries_max=1)).failed(Unavailable("x"), 0.0)


def test_patience_without_end_has_waits_with_an_end() -> None:
    """2^1024 is no float: a policy that waits for a gateway for days gets there."""
    sut = retry(RetryPolicy(tries_max=10**9, backoff_max_s=5.0))
    waits = [sut.failed(Unavailable("x"), 0.0) for _ in range(2_000)]
    assert max(waits) <= 5.0
    assert min(waits[100:]) >= 2.5


def test_clients_that_fail_together_do_not_come_back_together() -> None:
    policy = RetryPolicy()
    waits = {retry(policy, seed=seed).failed(Unavailable("x"), 0.0) for seed in range(50)}
    assert len(waits) == 50


def test_a_negative_wish_of_the_server_shortens_nothing() -> None:
    assert retry(RetryPolicy()).failed(Overloaded("full", -9.0), 0.0) >= 0.05


def test_whoever_wants_to_know_is_told_before_each_wait_of_a_stream_that_had_begun() -> None:
    told: list[tuple[str, float]] = []
    policy = RetryPolicy(on_retry=lambda error, wait_s: told.append((error.message, wait_s)))
    sut = retry(policy)
    sut.failed(Unavailable("nobody is there"), 0.0)
    sut.progressed()
    waits = [sut.failed(Unavailable("it is gone"), 0.0) for _ in range(3)]
    assert told == [("it is gone", wait_s) for wait_s in waits]


def test_a_wait_for_room_is_told_from_the_first() -> None:
    told: list[float] = []
    sut = retry(RetryPolicy(on_retry=lambda _, wait_s: told.append(wait_s)))
    assert sut.failed(Overloaded("full", 7.0), 0.0) == 7.0
    assert told == [7.0]


def test_nobody_is_told_of_an_error_that_is_final() -> None:
    told: list[object] = []
    sut = retry(RetryPolicy(tries_max=1, on_retry=lambda *what: told.append(what)))
    with pytest.raises(Unavailable):
        sut.failed(Unavailable("it is gone"), 0.0)
    assert told == []
