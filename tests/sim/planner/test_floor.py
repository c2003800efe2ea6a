"""The straight lines lie under the cost model, whatever an iteration computes."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plan_questions import small_types
from splitweave.sim.costs.build import power_model
from splitweave.sim.costs.work import Prefill, Work
from splitweave.sim.planner.budgets import Budgets, stall_free
from splitweave.sim.planner.floor import Floor, Line, floor_of
from splitweave.sim.planner.machines import Offer, WorkerType
from splitweave.sim.planner.models import model_of

MODEL = model_of("Llama-3.1-8B")
KINDS = tuple(
    small_types(Offer(machines=("L40S", "H100"), tp_sizes=(1, 4), caps=(1.0, 0.6))).values()
)
BUDGETS = Budgets().of_tokens(512)


@st.composite
def works(draw: st.DrawFn) -> Work:
    """Anything that a worker with a budget of 512 tokens may compute."""
    prefills = []
    left = 512
    while left > 1 and len(prefills) < 4 and draw(st.booleans()):
        tokens = draw(st.integers(2, left))
        prefills.append(Prefill(tokens, draw(st.integers(0, 20_000))))
        left -= tokens
    decodes = draw(st.integers(0 if prefills else 1, max(left, 0 if prefills else 1)))
    keys = decodes * draw(st.integers(1, 8000))
    draws = decodes + draw(st.integers(0, len(prefills)))
    return Work(tuple(prefills), decodes, keys, 8000, draws)


def least_s(floor: Floor, line: Line, work: Work) -> float:
    beside = work.pairs * floor.pair_s + work.decode_keys * floor.key_s
    rows = work.prefill_tokens * line.token_s + work.decodes * line.decode_s
    host = len(work.prefills) * floor.request_s
    drawn = line.head_s if work.draws else 0.0
    return line.iteration_s + drawn + rows + work.draws * line.draw_s + beside + host


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
@settings(max_examples=60, deadline=None)
@given(work=works())
def test_no_line_is_above_the_cost(kind: WorkerType, work: Work) -> None:
    floor = floor_of(kind, MODEL, BUDGETS)
    cost_s = kind.costs(MODEL).parts(work).total_s
    for line in floor.lines:
        assert least_s(floor, line, work) <= cost_s * (1 + 1e-9)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_some_line_is_near_the_cost_of_a_full_iteration(kind: WorkerType) -> None:
    floor = floor_of(kind, MODEL, BUDGETS)
    for work in (
        Work(prefills=(Prefill(512, 0),), draws=1),
        Work(decodes=16, decode_keys=16 * 500, longest=500, draws=16),
        Work(decodes=512, decode_keys=512 * 500, longest=500, draws=512),
    ):
        best_s = max(least_s(floor, line, work) for line in floor.lines)
        assert best_s > 0.85 * kind.costs(MODEL).parts(work).total_s


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_cap_stretches_prefills_as_the_power_model_does(kind: WorkerType) -> None:
    power = power_model(kind.spec)
    assert power is not None
    floor = floor_of(kind, MODEL, BUDGETS)
    assert floor.longer == power.lengthening(Work(prefills=(Prefill(100, 0),)))
    assert (floor.longer > 1) == (kind.spec.power_cap_w is not None)


def test_a_mixed_worker_takes_the_longest_iteration_that_its_tpot_allows() -> None:
    kind = KINDS[0]
    sizes = [
        stall_free(Budgets(), kind, MODEL, tpot_s, 1000.0).batched_tokens_max
        for tpot_s in (0.001, 0.05, 0.1, 0.2, 10.0)
    ]
    assert sizes == sorted(sizes)
    assert sizes[0] == 128
    assert sizes[-1] == 2048
