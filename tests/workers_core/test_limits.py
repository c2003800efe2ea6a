from dataclasses import FrozenInstanceError, fields, replace

import pytest
from splitweave.workers.core import LimitError, WorkerLimits

MAY_BE_ZERO = ("watermark_blocks", "spill_ahead_blocks", "resends_max")


def test_the_defaults_are_valid_and_frozen() -> None:
    limits = WorkerLimits()
    with pytest.raises(FrozenInstanceError):
        limits.sequences_max = 1


@pytest.mark.parametrize("name", [field.name for field in fields(WorkerLimits)])
def test_every_limit_refuses_a_value_below_its_bound_by_name_and_value(name: str) -> None:
    value = -1 if name in MAY_BE_ZERO else 0
    with pytest.raises(LimitError, match=rf"{name} \({value}\) is less than {value + 1}"):
        WorkerLimits(**{name: value})


@pytest.mark.parametrize("name", MAY_BE_ZERO)
def test_no_watermark_and_no_resends_are_allowed(name: str) -> None:
    assert getattr(WorkerLimits(**{name: 0}), name) == 0


@pytest.mark.parametrize("name", ["prefill_chunk_tokens", "sequences_max"])
def test_what_exceeds_the_token_budget_is_refused_with_both_numbers(name: str) -> None:
    small = WorkerLimits(batched_tokens_max=8, prefill_chunk_tokens=8, sequences_max=8)
    with pytest.raises(LimitError, match=rf"{name} \(9\) exceeds batched_tokens_max \(8\)"):
        replace(small, **{name: 9})


@pytest.mark.parametrize("name", [field.name for field in fields(WorkerLimits)])
def test_every_limit_is_documented(name: str) -> None:
    assert f"    {name}: " in (WorkerLimits.__doc__ or "")
