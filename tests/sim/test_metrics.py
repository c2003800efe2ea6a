"""Metric definitions on cases worked out by hand."""

from typing import Any

import pytest
from splitweave.proto.effects import DeliverTokens
from splitweave.proto.ids import GatewayId, Incarnation, RequestId, WorkerId, WorkerKey
from splitweave.proto.requests import Request, SampledToken
from splitweave.sim import metrics
from splitweave.sim.clients import Clients
from splitweave.sim.errors import InvariantBroken

S = 1_000_000_000
KEY = WorkerKey(WorkerId("w"), Incarnation(1))


def _stream(deliveries: Any, asked_s: Any = 1.0) -> Any:
    """A stream that got `deliveries`: (second, how many tokens)."""
    clients = Clients(checked=False, context_tokens_max=100)
    request = Request(
        request_id=RequestId("r"), gateway_id=GatewayId("g"), token_ids=(1,), max_tokens=50
    )
    stream = clients.ask(request, int(asked_s * S))
    for at_s, count in deliveries:
        clients.deliver(_tokens(stream.tokens, count), int(at_s * S))
    return clients, stream


def _tokens(first_index: Any, count: int) -> Any:
    return DeliverTokens(
        request_id=RequestId("r"),
        first_index=first_index,
        tokens=(SampledToken(token_id=1),) * count,
        worker=KEY,
    )


def test_ttft_tpot_e2e_of_one_stream() -> None:
    _, stream = _stream([(3.0, 1), (3.5, 1), (5.0, 2)])
    assert metrics.ttft_s(stream) == 2.0
    assert metrics.tpot_s(stream) == pytest.approx(2.0 / 3)
    assert metrics.e2e_s(stream) == 4.0
    assert list(metrics.gaps_s(stream)) == [(0.0, 1), (0.5, 1), (1.5, 1)]


def test_several_tokens_at_once_have_no_gap_between_them() -> None:
    _, stream = _stream([(3.0, 3), (4.0, 1)])
    assert list(metrics.gaps_s(stream)) == [(0.0, 2), (1.0, 1)]


def test_a_single_token_has_no_tpot_and_meets_its_slo_by_ttft_alone() -> None:
    _, stream = _stream([(3.0, 1)])
    assert metrics.meets(stream, 2.0, 0.001)
    assert not metrics.meets(stream, 1.9, 0.001)


def test_both_bounds_must_hold() -> None:
    _, stream = _stream([(2.0, 1), (4.0, 2)])
    assert metrics.meets(stream, 1.0, 1.0)
    assert not metrics.meets(stream, 1.0, 0.99)
    assert not metrics.meets(stream, 0.99, 1.0)


def test_percentiles_are_nearest_rank_and_weighted() -> None:
    spread = metrics.spread_of((float(n), 1) for n in range(1, 101))
    assert (spread.p50_s, spread.p90_s, spread.p99_s, spread.max_s) == (50, 90, 99, 100)
    assert spread.mean_s == 50.5
    weighted = metrics.spread_of([(5.0, 1), (1.0, 9)])
    assert (weighted.p50_s, weighted.p90_s, weighted.p99_s) == (1, 1, 5)
    assert weighted.mean_s == pytest.approx(1.4)
    assert metrics.spread_of([]) is None


@pytest.mark.parametrize("first_index", [0, 2])
def test_a_token_twice_or_a_gap_is_noticed(first_index: Any) -> None:
    clients, _ = _stream([(2.0, 1)])
    with pytest.raises(InvariantBroken, match=f"token {first_index} delivered .* 1 was next"):
        clients.deliver(_tokens(first_index, 1), 3 * S)
