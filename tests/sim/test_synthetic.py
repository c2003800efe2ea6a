"""What is drawn after a public trace is like it: rate, bursts, lengths, shared prefixes."""

from itertools import islice, pairwise
from statistics import fmean, pstdev

import pytest
from public_traces import needs_data, public_trace
from splitweave.proto.toml_file import load
from splitweave.sim.workloads.arrivals import Arrival
from splitweave.sim.workloads.fitted import PATH, Fits, fit_of
from splitweave.sim.workloads.specs import SyntheticSpec
from splitweave.sim.workloads.synthetic import HISTORY_MAX, synthetic

S = 1_000_000_000
NAMES = ("azure-code", "azure-conversation", "mooncake-conversation", "mooncake-synthetic")
# Between those of fitted.toml, so that interpolation is judged too.
PERCENTS = (4, 12, 22, 33, 42, 52, 58, 67, 77, 88, 94, 96)


def _drawn(name: str, count: int, seed: int = 1, **changes: float) -> list[Arrival]:
    spec = SyntheticSpec(kind="synthetic", like=name, requests=count, **changes)  # type: ignore[arg-type]
    return list(islice(synthetic(spec, seed), count))


def _at(ordered: list[int], percent: float) -> int:
    return ordered[round(percent / 100 * (len(ordered) - 1))]


def _farthest(values: list[int], others: list[int]) -> float:
    """The greatest distance between two distributions (Kolmogorov and Smirnov)."""
    steps = sorted([(v, 1 / len(values)) for v in values] + [(v, -1 / len(others)) for v in others])
    height = farthest = 0.0
    for place, (value, step) in enumerate(steps):
        height += step
        if place + 1 == len(steps) or steps[place + 1][0] != value:
            farthest = max(farthest, abs(height))
    return farthest


def _hit(arrivals: list[Arrival]) -> float:
    """The share of all prompt tokens that an endless cache would have held."""
    seen: set[str] = set()
    held = 0
    for arrival in arrivals:
        for segment in arrival.segments:
            if segment.name not in seen:
                break
            held += segment.tokens
        seen.update(segment.name for segment in arrival.segments)
    return held / sum(arrival.prompt_tokens for arrival in arrivals)


def test_every_likeness_has_its_figures() -> None:
    assert tuple(load(Fits, PATH).traces) == NAMES
    for name in NAMES:
        assert fit_of(name).gap_mean == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("name", NAMES)
def test_lengths_lie_at_their_percentiles(name: str) -> None:
    fit, drawn = fit_of(name), _drawn(name, 6000)
    outputs = sorted(a.output_tokens for a in drawn)
    for percent, tokens in fit.output[3:-3]:
        low, high = (max(0, min(5999, round(60 * percent) + step)) for step in (-180, 180))
        assert outputs[low] <= tokens <= outputs[high]


def test_azures_code_is_far_burstier_than_its_conversations() -> None:
    variation = {}
    for name in NAMES[:2]:
        times = [a.at_ns / S for a in _drawn(name, 6000)]
        gaps = [b - a for a, b in pairwise(times)]
        variation[name] = pstdev(gaps) / fmean(gaps)
    assert variation["azure-code"] > 6
    assert variation["azure-conversation"] < 1.5


def test_another_rate_is_the_same_requests_on_another_scale() -> None:
    slow = _drawn("mooncake-conversation", 500)
    quick = _drawn("mooncake-conversation", 500, rate_per_s=33.98)
    own = fit_of("mooncake-conversation").rate_per_s
    assert [a.segments for a in quick] == [a.segments for a in slow]
    for one, other in zip(slow, quick, strict=True):
        assert other.at_ns == pytest.approx(one.at_ns * own / 33.98, abs=1)


def test_prompts_of_mooncakes_likeness_share_a_head_and_take_up_earlier_ones() -> None:
    drawn = _drawn("mooncake-conversation", 3000)
    assert {a.segments[0].name for a in drawn} == {"block/0"}
    assert 0.2 < _hit(drawn) < 0.5
    assert _hit(_drawn("azure-code", 500)) == 0


def test_a_long_draw_goes_on_sharing_after_the_oldest_prompts_are_forgotten() -> None:
    drawn = _drawn("mooncake-synthetic", HISTORY_MAX + 2000)
    assert _hit(drawn[-2000:]) > 0.3


@needs_data
@pytest.mark.parametrize("name", NAMES)
def test_its_percentiles_lie_near_the_traces(name: str) -> None:
    real = list(public_trace(name))
    drawn = _drawn(name, len(real))
    for what in ("prompt_tokens", "output_tokens"):
        theirs = sorted(getattr(a, what) for a in real)
        ours = sorted(getattr(a, what) for a in drawn)
        assert _farthest(theirs, ours) < 0.05
        assert fmean(ours) == pytest.approx(fmean(theirs), rel=0.12)
        for percent in PERCENTS:  # a distribution may leap: near in rank, then, not in value
            low, high = _at(ours, percent - 3), _at(ours, percent + 3)
            assert 0.98 * low <= _at(theirs, percent) <= 1.02 * high, (what, percent)
    assert _hit(drawn) == pytest.approx(_hit(real), abs=0.08)
    rate = len(real) / real[-1].at_ns
    assert len(drawn) / drawn[-1].at_ns == pytest.approx(rate, rel=0.2)
