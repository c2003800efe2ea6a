"""Metric definitions on cases worked out by hand."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from sim_worlds import key, poisson, scenario
from splitweave.proto.effects import DeliverTokens, EndStream, FailStream, StreamAccount
from splitweave.proto.gateway_events import RejectCode
from splitweave.proto.ids import (
    Epoch,
    GatewayId,
    Incarnation,
    MoveId,
    RequestId,
    WorkerId,
    WorkerKey,
)
from splitweave.proto.move import MoveKind, MoveReport, Stage
from splitweave.proto.requests import FinishReason, Request, SampledToken
from splitweave.sim import metrics
from splitweave.sim.clients import Clients
from splitweave.sim.errors import InvariantBroken
from splitweave.sim.results.table import Table
from splitweave.sim.run import Outcome, simulate

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


@pytest.mark.parametrize("first_index", [0, 2])
def test_a_token_twice_or_a_gap_is_noticed(first_index: Any) -> None:
    clients, _ = _stream([(2.0, 1)])
    with pytest.raises(InvariantBroken, match=f"token {first_index} delivered .* 1 was next"):
        clients.deliver(_tokens(first_index, 1), 3 * S)


def _move(kind: MoveKind, outcome: Stage, sent: int, hidden: int) -> MoveReport:
    return MoveReport(
        move_id=MoveId("m"), kind=kind, request_id=RequestId("r"), epoch=Epoch(0), source=key("a"),
        target=key("b"), outcome=outcome, reason="", blocks=1, transfer_bytes=sent,
        hidden_bytes=hidden, reserve_ns=0, copy_ns=0, handover_ns=0, asked_ns=0, ended_ns=0,
    )  # fmt: skip


class Run:
    """Streams by hand, and their metrics with an SLO of TTFT 1 s, TPOT 0.5 s."""

    def __init__(self, *busy_s: float) -> None:
        self.clients = Clients(checked=False, context_tokens_max=100)
        self.engines = [
            SimpleNamespace(busy_ns=int(s * S), iterations=3, meter=None) for s in busy_s
        ]

    def stream(
        self, asked_s: float, *deliveries: tuple[float, int], moves: Any = (), downtimes: Any = ()
    ) -> RequestId:
        """A stream that was delivered (at second, tokens) and then ended."""
        name = RequestId(f"r{len(self.clients.streams)}")
        count = sum(tokens for _, tokens in deliveries)
        request = Request(
            request_id=name, gateway_id=GatewayId("g"), token_ids=(1,) * 10, max_tokens=count or 9
        )
        self.clients.ask(request, int(asked_s * S))
        first_index = 0
        for at_s, tokens in deliveries:
            effect = DeliverTokens(
                request_id=name, first_index=first_index,
                tokens=(SampledToken(token_id=1),) * tokens, worker=KEY,
            )  # fmt: skip
            self.clients.deliver(effect, int(at_s * S))
            first_index += tokens
        if deliveries:
            account = StreamAccount(
                workers=(), moves=moves, downtimes_ns=downtimes, prompt_tokens=10, cached_tokens=4,
                output_tokens=count, attempts=2, arrived_ns=0, first_token_ns=0, last_token_ns=0,
            )  # fmt: skip
            effect = EndStream(request_id=name, finish=FinishReason.LENGTH, account=account)
            self.clients.end(effect)
        return name

    def fail(self, name: RequestId, code: RejectCode) -> None:
        self.clients.fail(FailStream(request_id=name, code=code, message=""))

    def measure(self) -> metrics.Metrics:
        workers = {n: SimpleNamespace(engine=engine) for n, engine in enumerate(self.engines)}
        world: Any = SimpleNamespace(clients=self.clients, mail=SimpleNamespace(workers=workers))
        given = scenario(slo={"ttft_s": 1.0, "tpot_s": 0.5})
        return metrics.measure(Outcome(scenario=given, world=world, plan=[], wall_ns=0, events=0))


def _measured(*deliveries: tuple[float, int], asked_s: float = 1.0) -> Run:
    """One stream, delivered and ended."""
    run = Run()
    run.stream(asked_s, *deliveries)
    return run


def test_ttft_tpot_e2e_of_one_stream() -> None:
    run = _measured((3.0, 1), (3.5, 1), (5.0, 2))
    ((_, row),) = run.clients.records.by_arrival()
    assert (row.ttft_s, row.e2e_s) == (2.0, 4.0)
    assert row.tpot_s == pytest.approx(2.0 / 3)
    done = run.measure()
    assert (done.ttft.p50_s, done.e2e.p50_s) == (2.0, 4.0)
    assert done.tpot.p50_s == pytest.approx(2.0 / 3)


def test_several_tokens_at_once_have_no_gap_between_them() -> None:
    gaps = _measured((3.0, 3), (4.0, 1)).clients.records.gaps
    assert (gaps.count, gaps.together, gaps.max_ns) == (3, 2, S)
    assert gaps.mean_ns == S / 3


def test_a_single_token_has_no_tpot_and_meets_its_slo_by_ttft_alone() -> None:
    table = Table(_measured((3.0, 1)).clients.records)
    assert table.meets(2.0, 0.001).tolist() == [True]
    assert table.meets(1.9, 0.001).tolist() == [False]
    assert len(table.tpot_ns) == 0


def test_both_bounds_must_hold() -> None:
    table = Table(_measured((2.0, 1), (4.0, 2)).clients.records)
    assert table.meets(1.0, 1.0).tolist() == [True]
    assert table.meets(1.0, 0.99).tolist() == [False]
    assert table.meets(0.99, 1.0).tolist() == [False]


def test_percentiles_are_nearest_rank() -> None:
    spread = metrics.spread_of_ns(np.arange(100, 0, -1) * S)
    assert (spread.p50_s, spread.p90_s, spread.p99_s, spread.max_s) == (50, 90, 99, 100)
    assert spread.mean_s == 50.5
    few = metrics.spread_of_ns(np.array([5, *[1] * 9]) * S)
    assert (few.p50_s, few.p90_s, few.p95_s, few.p99_s) == (1, 1, 5, 5)
    assert metrics.spread_of_ns(np.array([], np.int64)) is None


def test_goodput_counts_those_that_meet_both_bounds_per_second_of_the_run() -> None:
    run = Run()
    run.stream(0.0, (1.0, 1), (2.0, 2))  # TTFT 1, TPOT 0.5: meets both to the point
    run.stream(0.0, (1.1, 1), (1.2, 2))  # too late a start
    run.stream(0.0, (0.5, 1), (4.0, 2))  # too slow a stream
    run.stream(3.0, (4.0, 1))  # a single token: TTFT alone
    done = run.measure()
    assert (done.requests, done.completed, done.slo_met) == (4, 4, 2)
    assert done.virtual_s == 4.0  # first arrival to last token
    assert done.goodput_per_s == 0.5
    assert done.attainment == 0.5


def test_a_rejected_or_failed_request_is_one_that_missed_its_slo() -> None:
    run = Run()
    run.stream(0.0, (1.0, 2))
    run.fail(run.stream(0.0), RejectCode.RESOURCE_EXHAUSTED)
    run.fail(run.stream(0.0), RejectCode.UNAVAILABLE)
    run.fail(run.stream(0.0), RejectCode.DEADLINE_EXCEEDED)
    done = run.measure()
    assert (done.completed, done.rejected, done.failed) == (1, 1, 2)
    assert done.attainment == 0.25


def test_a_client_that_hung_up_counts_for_nothing() -> None:
    run = Run()
    run.stream(0.0, (1.0, 2))
    gone = run.stream(0.0)
    run.clients.hang_up(gone)
    run.clients.resume(gone, GatewayId("g"))
    done = run.measure()
    assert (done.requests, done.completed, done.cancelled) == (2, 1, 1)
    assert done.attainment == 1.0
    assert done.prompt_tokens == 10


def test_tpot_leaves_single_tokens_out_and_itl_weighs_every_token() -> None:
    run = Run()
    run.stream(0.0, (1.0, 1), (1.5, 1), (2.5, 1))
    run.stream(0.0, (1.0, 1))
    run.stream(0.0, (1.0, 4), (2.0, 1))
    done = run.measure()
    assert done.tpot is not None
    assert (done.tpot.p50_s, done.tpot.max_s) == (0.25, 0.75)
    assert done.itl is not None
    assert done.itl.mean_s == pytest.approx((0.5 + 1.0 + 3 * 0.0 + 1.0) / 6)
    assert done.itl.p50_s == 0.0
    assert done.e2e is not None
    assert done.e2e.mean_s == pytest.approx((2.5 + 1.0 + 2.0) / 3)


def test_a_run_in_which_nobody_got_a_token_has_no_latencies_and_no_goodput() -> None:
    run = Run(1.0)
    run.fail(run.stream(0.0), RejectCode.UNAVAILABLE)
    done = run.measure()
    assert (done.ttft, done.tpot, done.itl, done.e2e) == (None, None, None, None)
    assert (done.virtual_s, done.goodput_per_s, done.attainment, done.busy) == (0, 0, 0, 0)


def test_moves_are_told_apart_by_kind_and_downtimes_belong_to_committed_ones() -> None:
    handoff, migration = MoveKind.HANDOFF, MoveKind.MIGRATION
    moves = (
        _move(migration, Stage.ABORTED, 10, 0),
        _move(handoff, Stage.COMMITTED, 100, 60),
        _move(migration, Stage.COMMITTED, 50, 20),
    )
    run = Run()
    run.stream(0.0, (1.0, 2), moves=moves, downtimes=(S, 3 * S))
    done = run.measure()
    assert (done.handoffs.committed, done.handoffs.aborted) == (1, 0)
    assert (done.handoffs.transfer_bytes, done.handoffs.hidden_bytes) == (100, 60)
    assert (done.migrations.committed, done.migrations.aborted) == (1, 1)
    assert (done.migrations.transfer_bytes, done.migrations.hidden_bytes) == (60, 20)
    assert done.handoffs.downtime is not None
    assert done.handoffs.downtime.max_s == 1.0
    assert done.migrations.downtime is not None
    assert done.migrations.downtime.max_s == 3.0


def test_busy_is_the_mean_share_over_all_engines() -> None:
    run = Run(1.0, 3.0)
    run.stream(7.0, (8.0, 1), (11.0, 1))
    done = run.measure()
    assert (done.busy, done.iterations) == (0.5, 6)
    assert (done.attempts, done.cached_tokens, done.output_tokens) == (2, 4, 2)


def test_a_lone_request_has_the_latency_worked_out_by_hand() -> None:
    given = scenario(
        pools=[{"name": "m", "role": "mixed", "hardware": "a", "blocks": 400}],
        workload=poisson(1, 1, 40, 3), network={"latency_us": 100},
    )  # fmt: skip
    done = metrics.measure(simulate(given))
    prefill_s, decode_s, mail_s = 0.005 + 40 * 20e-6, 0.005 + 20e-6, 100e-6
    assert done.ttft is not None
    assert done.ttft.max_s == pytest.approx(3 * mail_s + prefill_s)  # asked, placed, computed, told
    assert done.tpot is not None
    assert done.tpot.max_s == pytest.approx(decode_s)
    assert done.e2e is not None
    assert done.e2e.max_s == pytest.approx(3 * mail_s + prefill_s + 2 * decode_s)
    assert done.iterations == 3
