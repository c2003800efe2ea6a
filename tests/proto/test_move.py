"""The table of a move's legal steps, and what follows from it."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from splitweave.proto.move import NEXT, Stage, advance

ENDS = {Stage.COMMITTED, Stage.ABORTED}
# docs/protocol.md, "Life of a move", read as pairs.
LEGAL = {
    (Stage.RESERVE, Stage.COPY),
    (Stage.RESERVE, Stage.ABORTED),
    (Stage.COPY, Stage.COPY),
    (Stage.COPY, Stage.HANDOVER),
    (Stage.COPY, Stage.ABORTED),
    (Stage.HANDOVER, Stage.COMMITTED),
    (Stage.HANDOVER, Stage.ABORTED),
}
PAIRS = list(itertools.product(Stage, Stage))


@pytest.mark.parametrize(("stage", "to"), [pair for pair in PAIRS if pair in LEGAL])
def test_a_legal_step_is_taken(stage: Stage, to: Stage) -> None:
    assert advance(stage, to) is to


@pytest.mark.parametrize(("stage", "to"), [pair for pair in PAIRS if pair not in LEGAL])
def test_any_other_step_is_a_programmers_error_that_names_both(stage: Stage, to: Stage) -> None:
    with pytest.raises(AssertionError, match=f"illegal move {stage} -> {to}"):
        advance(stage, to)


def test_the_table_has_a_row_for_every_stage() -> None:
    assert set(NEXT) == set(Stage)


def test_exactly_the_ends_lead_nowhere() -> None:
    assert {stage for stage, following in NEXT.items() if not following} == ENDS


def test_a_move_can_be_aborted_at_every_stage_before_its_end() -> None:
    assert all(Stage.ABORTED in NEXT[stage] for stage in Stage if stage not in ENDS)


def test_nothing_commits_but_a_handover() -> None:
    assert [stage for stage in Stage if Stage.COMMITTED in NEXT[stage]] == [Stage.HANDOVER]


def test_only_copying_repeats() -> None:
    assert [stage for stage in Stage if stage in NEXT[stage]] == [Stage.COPY]


@given(st.randoms(use_true_random=False))
def test_every_way_through_the_table_ends_and_never_turns_back(rng: object) -> None:
    order = list(Stage)
    stage, way = Stage.RESERVE, [Stage.RESERVE]
    while NEXT[stage]:
        choices = sorted(NEXT[stage] - ({Stage.COPY} if way.count(Stage.COPY) > 5 else set()))
        stage = advance(stage, rng.choice(choices))  # type: ignore[attr-defined]
        way.append(stage)
    assert stage in ENDS
    assert [order.index(item) for item in way] == sorted(order.index(item) for item in way)
    if stage is Stage.COMMITTED:
        assert way[-2] is Stage.HANDOVER
        assert Stage.COPY in way
