"""Watts by phase, joules per token, and what a cap costs."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from splitweave.proto.batch import Batch, Chunk
from splitweave.proto.ids import BlockId, RequestId
from splitweave.sim.costs.catalogue import load_catalogue
from splitweave.sim.costs.errors import CostError
from splitweave.sim.costs.meter import Meter
from splitweave.sim.costs.plain import Affine
from splitweave.sim.costs.power import Capped, Power, power_of
from splitweave.sim.costs.work import Prefill, Work, work_of

H100 = load_catalogue().device("H100")
FREE = power_of(H100, 1, None)
CAPPED = power_of(H100, 1, 0.7 * 700)
PREFILL = Work(prefills=(Prefill(512, 0),))


def decodes(count: int) -> Work:
    return Work(decodes=count, decode_keys=count, longest=1, draws=count)


def batch(tokens: int) -> Batch:
    chunk = Chunk(
        request_id=RequestId("r"), token_ids=(1,) * tokens, start=0, block_table=(BlockId(0),),
        draw=None,
    )  # fmt: skip
    return Batch(iteration=1, chunks=(chunk,))


def test_each_phase_draws_its_own() -> None:
    assert FREE.wanted_w(Work()) == 70
    assert FREE.wanted_w(PREFILL) == 700
    assert FREE.wanted_w(PREFILL._replace(decodes=4)) == 700
    middle = FREE.wanted_w(decodes(round(2**4.2)))
    assert middle == pytest.approx(450, abs=3)  # the logistic's midpoint, 300 to 600 W


@given(st.integers(1, 500))
@settings(deadline=None)
def test_decode_power_rises_with_the_batch_within_its_bounds(count: int) -> None:
    watts = FREE.wanted_w(decodes(count))
    assert 300 <= watts <= FREE.wanted_w(decodes(count + 1)) <= 600


def test_gpus_of_one_worker_add_up() -> None:
    eight = power_of(H100, 8, 490)
    assert eight.idle_w == 560
    assert eight.cap_w == 3920
    assert eight.wanted_w(decodes(16)) == pytest.approx(8 * FREE.wanted_w(decodes(16)))


def test_a_70_percent_cap_makes_h100_prefills_1_3_times_as_long() -> None:
    assert CAPPED.lengthening(PREFILL) == pytest.approx(1.30, abs=0.005)
    assert CAPPED.lengthening(decodes(64)) == 1
    assert FREE.lengthening(PREFILL) == 1


def test_no_more_is_drawn_than_the_cap() -> None:
    assert CAPPED.drawn_w(PREFILL) == pytest.approx(490)
    assert CAPPED.drawn_w(decodes(1)) == FREE.drawn_w(decodes(1))


def test_a_capped_model_takes_longer_and_says_so() -> None:
    model = Capped(Affine(iteration_base_ns=0, token_ns=1000), CAPPED)
    assert model.iteration_ns(batch(1)) == 1000
    assert model.iteration_ns(batch(100)) == pytest.approx(130_000, rel=0.01)
    assert model.describe()[-1] == "power cap 490 W: prefill x 1.301"
    loose = Capped(Affine(iteration_base_ns=0, token_ns=1000), power_of(H100, 1, 700))
    assert loose.iteration_ns(batch(100)) == 100_000


def test_energy_is_watts_times_seconds_by_token() -> None:
    assert FREE.iteration_j(PREFILL, 0.5) == 350
    assert FREE.token_j(PREFILL, 0.512) == pytest.approx(0.7)
    assert FREE.token_j(decodes(64), 0.01) < FREE.token_j(decodes(1), 0.01)


def test_a_cap_below_idle_is_refused() -> None:
    with pytest.raises(CostError, match=r"power_cap_w \(60\) is not above idle \(70 W\)"):
        replace(FREE, cap_w=60)
    assert isinstance(FREE, Power)


def test_a_meter_counts_iterations_by_phase_and_idle_between() -> None:
    meter = Meter(FREE)
    meter.add(work_of(batch(100)), 500_000_000)
    meter.add(work_of(batch(1)), 250_000_000)
    assert meter.busy_j == pytest.approx(0.5 * 700 + 0.25 * FREE.drawn_w(decodes(1)))
    assert meter.total_j(1_000_000_000) == pytest.approx(meter.busy_j + 0.25 * 70)
    assert meter.total_j(10) == meter.busy_j  # the last iteration may outlast the span
