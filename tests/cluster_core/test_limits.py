"""Limits refuse what cannot work, by name, value and bound."""

from dataclasses import fields

import pytest
from splitweave.cluster.core.limits import ClusterLimits, GatewayLimits, LimitsError
from splitweave.cluster.policy.links import LinkEstimates
from splitweave.cluster.policy.placement import SLO
from splitweave.cluster.policy.predicted_seconds import PredictedSeconds

S = 1_000_000_000


@pytest.mark.parametrize("cls", [ClusterLimits, GatewayLimits])
def test_every_limit_refuses_zero_by_name(cls: type[ClusterLimits] | type[GatewayLimits]) -> None:
    for field in fields(cls):
        with pytest.raises(LimitsError) as caught:
            cls(**{field.name: 0})
        assert str(caught.value) == f"{field.name} (0) must be at least 1"


@pytest.mark.parametrize(
    ("cls", "values", "message"),
    [
        (
            ClusterLimits,
            {"suspect_after_ns": 5, "dead_after_ns": 5, "tick_ns": 1},
            "suspect_after_ns (5) must be below dead_after_ns (5)",
        ),
        (
            ClusterLimits,
            {"tick_ns": 3 * S},
            "tick_ns (3000000000) must be below dead_after_ns (1800000000)",
        ),
        (
            ClusterLimits,
            {"queue_len_max": 10, "requests_max": 10},
            "queue_len_max (10) must be below requests_max (10)",
        ),
        (
            GatewayLimits,
            {"resend_ns": 9, "stall_ns": 9},
            "resend_ns (9) must be below stall_ns (9)",
        ),
    ],
)
def test_limits_that_contradict_each_other_are_refused(
    cls: type, values: dict[str, int], message: str
) -> None:
    with pytest.raises(LimitsError, match="must be below") as caught:
        cls(**values)
    assert str(caught.value) == message


def test_silence_is_found_within_two_seconds_by_default() -> None:
    limits = ClusterLimits()
    assert limits.dead_after_ns + limits.tick_ns < 2 * S


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: SLO(ttft_ns=0, tpot_ns=1), r"ttft_ns \(0\)"),
        (lambda: SLO(ttft_ns=1, tpot_ns=-1), r"tpot_ns \(-1\)"),
        (lambda: PredictedSeconds(slo=SLO(ttft_ns=1, tpot_ns=1), chunk_tokens=0), "chunk_tokens"),
        (
            lambda: PredictedSeconds(slo=SLO(ttft_ns=1, tpot_ns=1), in_place_tokens_max=-1),
            r"in_place_tokens_max \(-1\) must not be below 0",
        ),
        (lambda: LinkEstimates(default_bytes_per_s=0), "default_bytes_per_s"),
        (lambda: LinkEstimates(default_bytes_per_s=1, weight=2), r"weight \(2\)"),
    ],
)
def test_a_policy_refuses_knobs_that_cannot_work(build: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()  # type: ignore[operator]
