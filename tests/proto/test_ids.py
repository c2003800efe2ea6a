"""Names of things: their order is the protocol's order of authority."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from splitweave.proto.ids import Epoch, Incarnation, WorkerId, WorkerKey
from splitweave.proto.timers import TimerKey

EPOCHS = st.builds(Epoch, st.integers(0, 5), st.integers(0, 5))
KEYS = st.builds(
    lambda name, life: WorkerKey(WorkerId(name), Incarnation(life)),
    st.sampled_from(["", "w", "w-1", "w-10", "w-2", "w#1"]),
    st.integers(0, 4),
)


@given(EPOCHS, EPOCHS)
def test_a_new_attempt_outranks_every_hop_of_an_older_one(one: Epoch, other: Epoch) -> None:
    if one.attempt != other.attempt:
        assert (one < other) == (one.attempt < other.attempt)
    else:
        assert (one < other) == (one.hop < other.hop)


@given(st.lists(EPOCHS))
def test_the_newest_epoch_seen_does_not_depend_on_the_order_of_arrival(seen: list[Epoch]) -> None:
    for order in itertools.islice(itertools.permutations(seen), 24):
        assert max(order, default=None) == max(seen, default=None)


def test_a_first_attempt_has_made_no_hop() -> None:
    assert Epoch(0) == Epoch(0, 0) < Epoch(0, 1) < Epoch(1)


@given(KEYS, KEYS)
def test_a_death_covers_its_life_and_the_earlier_ones_of_that_worker_only(
    dead: WorkerKey, other: WorkerKey
) -> None:
    same = dead.worker_id == other.worker_id
    assert dead.covers(other) == (same and other.incarnation <= dead.incarnation)


@given(KEYS, KEYS, KEYS)
def test_covering_is_a_partial_order(one: WorkerKey, two: WorkerKey, three: WorkerKey) -> None:
    assert one.covers(one)
    if one.covers(two) and two.covers(one):
        assert one == two
    if one.covers(two) and two.covers(three):
        assert one.covers(three)


@given(KEYS, KEYS)
def test_a_restarted_worker_is_another_key(one: WorkerKey, two: WorkerKey) -> None:
    again = WorkerKey(one.worker_id, Incarnation(one.incarnation + 1))
    assert again.covers(one)
    assert not one.covers(again)
    assert len({one, again}) == 2
    assert (one == two) == (hash(one) == hash(two))


@given(st.lists(KEYS, max_size=6))
def test_ties_go_to_the_lower_worker_then_to_the_older_life(keys: list[WorkerKey]) -> None:
    assert sorted(keys) == sorted(keys, key=lambda key: (key.worker_id, key.incarnation))


@pytest.mark.parametrize(
    ("key", "text"),
    [(WorkerKey(WorkerId("decode-0"), Incarnation(3)), "decode-0#3")],
)
def test_a_key_is_written_as_worker_and_life(key: WorkerKey, text: str) -> None:
    assert str(key) == f"{key}" == text


def test_timers_of_one_kind_are_told_apart_by_their_subject() -> None:
    assert TimerKey("lease") == TimerKey("lease", "")
    assert len({TimerKey("lease", "a"), TimerKey("lease", "b"), TimerKey("view", "a")}) == 3
    assert min(TimerKey("b"), TimerKey("a", "z")).kind == "a"
