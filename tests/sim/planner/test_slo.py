"""What is typed for --slo and --budget, and what is refused."""

import pytest
from splitweave.proto.toml_file import ConfigError
from splitweave.sim.planner.slo import Budget, Slo, Unit, budget_of, slo_of


@pytest.mark.parametrize(
    ("text", "slo"),
    [
        ("ttft=2,tpot=0.05@p90", Slo(ttft_s=2.0, tpot_s=0.05, percent=90)),
        ("tpot=50ms,ttft=2s@p99.5", Slo(ttft_s=2.0, tpot_s=0.05, percent=99.5)),
        ("TTFT=500ms, TPOT=0.1", Slo(ttft_s=0.5, tpot_s=0.1, percent=90)),
        ("ttft=1,tpot=1@100", Slo(ttft_s=1.0, tpot_s=1.0, percent=100)),
    ],
)
def test_an_slo_is_two_bounds_and_a_share(text: str, slo: Slo) -> None:
    assert slo_of(text) == slo


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "cannot be read"),
        ("ttft", "'ttft' cannot be read; write it as ttft=2,tpot=0.05@p90"),
        ("ttft=2", "tpot must be given"),
        ("ttft=0,tpot=1", "ttft must be given, above 0"),
        ("ttft=2,tpot=0.05@p0", r"p0 is not in \(0, 100\]"),
        ("ttft=2,tpot=0.05@p101", "p101 is not in"),
        ("ttft=2,tpot=0.05@fast", "cannot be read"),
        ("ttft=1.2.3,tpot=1", "'1.2.3' is no number"),
        ("ttft=-1,tpot=1", "'ttft=-1' cannot be read"),
        ("itl=1,ttft=1,tpot=1", "'itl=1' cannot be read"),
    ],
)
def test_a_malformed_slo_says_how_to_write_it(text: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        slo_of(text)


@pytest.mark.parametrize(
    ("text", "budget"),
    [
        ("50$/h", Budget(50.0, Unit.DOLLARS)),
        ("12.5 $", Budget(12.5, Unit.DOLLARS)),
        ("20000W", Budget(20000.0, Unit.WATTS)),
        ("20kw", Budget(20000.0, Unit.WATTS)),
        ("300watts", Budget(300.0, Unit.WATTS)),
    ],
)
def test_a_budget_is_dollars_per_hour_or_watts(text: str, budget: Budget) -> None:
    assert budget_of(text) == budget


@pytest.mark.parametrize("text", ["50", "$50", "0$/h", "-3W", "20 horses", ""])
def test_a_malformed_budget_says_how_to_write_it(text: str) -> None:
    with pytest.raises(ConfigError, match=r"budget: .* write dollars per hour as '50\$/h'"):
        budget_of(text)


@pytest.mark.parametrize(
    ("percent", "requests", "misses"),
    [(90, 100, 10), (90, 99, 9), (99, 50, 0), (100, 1000, 0), (99.9, 1000, 1)],
)
def test_so_many_requests_may_miss_it(percent: float, requests: int, misses: int) -> None:
    assert Slo(ttft_s=1, tpot_s=1, percent=percent).misses_max(requests) == misses
