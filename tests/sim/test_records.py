"""What is kept of ended requests: enough for every figure, and not more than one row each."""

import gc
import tracemalloc
from typing import Any

import pytest
from sim_worlds import key, poisson, pool, request, scenario, tokens
from splitweave.proto.effects import DeliverTokens, EndStream, FailStream, StreamAccount
from splitweave.proto.gateway_events import RejectCode
from splitweave.proto.ids import RequestId
from splitweave.proto.requests import FinishReason
from splitweave.sim import clients as module
from splitweave.sim.clients import Clients
from splitweave.sim.metrics import measure
from splitweave.sim.results.records import UNKNOWN, Ending, Row
from splitweave.sim.run import simulate

ACCOUNT = StreamAccount(
    workers=(key("p"), key("d")), moves=(), downtimes_ns=(), prompt_tokens=10, cached_tokens=8,
    output_tokens=2, attempts=1, arrived_ns=0, first_token_ns=None, last_token_ns=None,
)  # fmt: skip


def _clients(**more: Any) -> Clients:
    return Clients(checked=False, context_tokens_max=100, **more)


def _serve(clients: Clients, name: str, at_ns: int) -> None:
    """A request of two tokens, asked at `at_ns`."""
    request_id = RequestId(name)
    clients.ask(request(name, max_tokens=2), at_ns)
    for index in range(2):
        effect = DeliverTokens(
            request_id=request_id, first_index=index, tokens=tokens(1), worker=key("d")
        )
        clients.deliver(effect, at_ns + 100 * (index + 1))
    clients.end(EndStream(request_id=request_id, finish=FinishReason.LENGTH, account=ACCOUNT))


def _rows(clients: Clients) -> dict[str, Row]:
    return dict(clients.records.by_arrival())


def test_an_ended_request_leaves_its_row() -> None:
    clients = _clients(ended_max=0)
    _serve(clients, "a", 1_000)
    row = _rows(clients)["a"]
    assert (row.asked_ns, row.first_ns, row.last_ns) == (1_000, 1_100, 1_200)
    assert (row.prompt_tokens, row.output_tokens, row.cached_tokens) == (10, 2, 8)
    assert (row.ending, row.attempts, row.placed_ns) == (Ending.COMPLETED, 1, UNKNOWN)
    assert (row.ttft_s, row.tpot_s, row.e2e_s) == (1e-7, 1e-7, 2e-7)
    assert list(clients.records.workers) == ["p", "d"]
    assert (row.source, row.target) == (0, 1)
    assert clients.streams == {}


def test_rows_come_in_order_of_arrival_though_they_ended_in_another() -> None:
    clients = _clients()
    for name, at_ns in (("late", 5_000), ("early", 10), ("middle", 700)):
        _serve(clients, name, at_ns)
    assert list(_rows(clients)) == ["early", "middle", "late"]


def test_only_so_many_ended_streams_are_kept() -> None:
    clients = _clients(ended_max=2)
    for number in range(5):
        _serve(clients, f"r{number}", number)
    assert list(clients.streams) == ["r0", "r1"]
    assert (len(clients.records), clients.asked, clients.open) == (5, 5, 0)


def test_a_stream_that_is_gone_still_ends_only_once() -> None:
    clients = _clients(ended_max=0)
    _serve(clients, "a", 0)
    again = EndStream(request_id=RequestId("a"), finish=FinishReason.LENGTH, account=ACCOUNT)
    with pytest.raises(module.InvariantBroken, match="ended twice"):
        clients.end(again)
    more = DeliverTokens(request_id=RequestId("a"), first_index=2, tokens=(), worker=key("d"))
    with pytest.raises(module.InvariantBroken, match="after the end"):
        clients.deliver(more, 9)
    assert not clients.hang_up(RequestId("a"))


def test_endings_are_told_apart_and_who_hung_up_is_cancelled() -> None:
    clients = _clients()
    for name, code in (("full", RejectCode.RESOURCE_EXHAUSTED), ("bad", RejectCode.UNAVAILABLE)):
        clients.ask(request(name), 0)
        clients.fail(FailStream(request_id=RequestId(name), code=code, message=""))
    clients.ask(request("gone"), 0)
    clients.hang_up(RequestId("gone"))
    failed = FailStream(request_id=RequestId("gone"), code=RejectCode.UNAVAILABLE, message="")
    clients.fail(failed)
    endings = {name: row.ending for name, row in _rows(clients).items()}
    assert endings == {"full": Ending.REJECTED, "bad": Ending.FAILED, "gone": Ending.CANCELLED}


def test_a_stream_cut_short_is_remembered_though_it_is_gone() -> None:
    clients = _clients(ended_max=0)
    clients.ask(request("a"), 0)
    first = DeliverTokens(
        request_id=RequestId("a"), first_index=0, tokens=tokens(1), worker=key("d")
    )
    clients.deliver(first, 1)
    failed = FailStream(request_id=RequestId("a"), code=RejectCode.UNAVAILABLE, message="no")
    clients.fail(failed)
    assert clients.cut_short == "a failed after 1 tokens: UNAVAILABLE no"


def test_many_tokens_at_once_are_the_same_as_one_by_one() -> None:
    one, many = _clients(), _clients()
    many.latency_ns = 5
    for clients in (one, many):
        clients.ask(request("a", max_tokens=4), 0)
    for index, at_ns in enumerate((100, 150, 250, 260)):
        one.deliver(_tokens(index, 1), at_ns)
        many.drew(RequestId("a"), [at_ns - 5])
    many.deliver(_tokens(0, 2), 155)
    many.deliver(_tokens(2, 2), 999)
    for clients in (one, many):
        end = EndStream(request_id=RequestId("a"), finish=FinishReason.LENGTH, account=ACCOUNT)
        clients.end(end)
    assert _rows(one) == _rows(many)
    assert one.records.gaps.mean_ns == many.records.gaps.mean_ns == 160 / 3


def _tokens(index: int, count: int) -> DeliverTokens:
    return DeliverTokens(
        request_id=RequestId("a"), first_index=index, tokens=tokens(*[1] * count), worker=key("d")
    )


def test_the_stages_of_a_run_add_up_to_the_time_to_first_token() -> None:
    outcome = simulate(scenario(network={"latency_us": 100}))
    for _, row in outcome.world.clients.records.by_arrival():
        stations = (row.asked_ns, row.placed_ns, row.began_ns, row.computed_ns, row.first_ns)
        assert list(stations) == sorted(stations)
        assert row.placed_ns - row.asked_ns >= 100_000  # it went over the network
        assert row.began_ns - row.placed_ns >= 100_000
        assert row.computed_ns - row.began_ns >= 5_800_000  # the iteration that computed it
        assert row.first_ns - row.computed_ns == 100_000
        assert 0 <= row.exposed_ns <= row.transfer_ns


def test_a_chunked_prompt_begins_with_its_first_chunk_and_ends_with_its_last() -> None:
    given = scenario(
        pools=[pool("m", "mixed")], workload=poisson(1, 1, 100, 3),
        limits={"worker": {"prefill_chunk_tokens": 40}},
    )  # fmt: skip
    rows = simulate(given).world.clients.records.by_arrival()
    (row,) = [row for _, row in rows]
    iterations_ns = 3 * 5_000_000 + 100 * 20_000
    assert row.computed_ns - row.began_ns == iterations_ns


def test_streams_of_a_long_unchecked_run_are_dropped_and_its_figures_stay(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given = scenario(workload=poisson(20, 60, 40, 9))
    whole = simulate(given)
    monkeypatch.setattr("splitweave.sim.world.ENDED_KEPT_MAX", 5)
    dropped = simulate(given)
    assert len(whole.world.clients.streams) == 60
    assert len(dropped.world.clients.streams) == 5
    assert measure(whole) == measure(dropped)


def _kept_bytes(monkeypatch: pytest.MonkeyPatch, requests: int) -> int:
    """What a finished run holds, its tables of bounded size kept small."""
    monkeypatch.setattr("splitweave.sim.world.ENDED_KEPT_MAX", 5)
    monkeypatch.setattr("splitweave.sim.results.gaps.PENDING_MAX", 100)
    small = {
        "cluster": {"ended_max": 20, "traces_max": 20},
        "gateway": {"ended_max": 20},
        "worker": {"ended_moves_max": 20},
    }
    given = scenario(workload=poisson(20, requests, 40, 30), limits=small)
    gc.collect()
    tracemalloc.start()
    try:
        outcome = simulate(given)
        gc.collect()
        held = tracemalloc.get_traced_memory()[0]
        assert len(outcome.world.clients.records) == requests
    finally:
        tracemalloc.stop()
    return held


def test_a_longer_trace_costs_a_row_per_request_and_nothing_per_token(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _kept_bytes(monkeypatch, 50)  # what is made once
    few, many = (_kept_bytes(monkeypatch, requests) for requests in (200, 500))
    assert (many - few) / 300 < 500
