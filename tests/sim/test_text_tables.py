"""Tables, plots and traces on a run made by hand: what is shown is what was measured."""

from dataclasses import replace
from typing import Any

import pytest
from ended_requests import move
from rich.console import Console
from sim_worlds import key, poisson, pool, scenario
from splitweave.proto.effects import StreamAccount
from splitweave.proto.move import MoveKind, Stage
from splitweave.sim.report import shown, tables
from splitweave.sim.results import perfetto, plots
from splitweave.sim.results.api import simulate
from splitweave.sim.results.bill import Bill
from splitweave.sim.results.perfetto import trace_of
from splitweave.sim.results.plots import plots_of
from splitweave.sim.results.results import Results
from splitweave.sim.results.text_tables import NOTHING, tables_of

NO_BILL = Bill(
    gpus=None, dollars_per_hour=None, dollars_per_million_tokens=None, goodput_per_gpu=None,
    slo_met_per_dollar=None, mean_w=None, token_j=None,
)  # fmt: skip


@pytest.fixture(name="ran", scope="module")
def _ran() -> Results:
    return simulate(scenario(workload=poisson(20, 40, 40, 20)), name="forty")


def _rows(results: Results, title: str) -> dict[str, tuple[str, ...]]:
    (table,) = [each for each in tables_of(results) if each.title == title]
    return {row[0]: tuple(row[1:]) for row in table.rows}


def test_latencies_stand_beside_their_bounds(ran: Results) -> None:
    rows = _rows(ran, "Latency, seconds")
    ttft = ran.metrics.ttft
    assert ttft is not None
    assert rows["TTFT"] == (
        *(f"{value:.4f}" for value in (
            ttft.mean_s, ttft.p50_s, ttft.p90_s, ttft.p95_s, ttft.p99_s, ttft.max_s
        )),
        "≤ 2",
    )  # fmt: skip
    assert rows["ITL"][-1] == rows["E2E"][-1] == ""


def test_what_there_is_no_figure_for_is_a_dash_or_left_out(ran: Results) -> None:
    none = replace(ran, metrics=replace(ran.metrics, tpot=None), bill=NO_BILL)
    assert _rows(none, "Latency, seconds")["TPOT"][:-1] == (NOTHING,) * 6
    run = _rows(none, "Run")
    for word in ("$/h", "W (mean)", "goodput per GPU"):
        assert word not in run
    assert _rows(ran, "KV moves")["migration"][-3:] == (NOTHING,) * 3


def test_money_and_power_are_shown_where_they_are_known(ran: Results) -> None:
    bill = Bill(
        gpus=8, dollars_per_hour=12.5, dollars_per_million_tokens=0.5, goodput_per_gpu=1.25,
        slo_met_per_dollar=300.0, mean_w=5000.4, token_j=0.75,
    )  # fmt: skip
    run = _rows(replace(ran, bill=bill, metrics=replace(ran.metrics, energy_j=2500.0)), "Run")
    assert run["$/h"] == ("12.50",)
    assert run["$ per million output tokens"] == ("0.500",)
    assert run["goodput per GPU"] == ("1.250",)
    assert run["requests within SLO per $"] == ("300.0",)
    assert run["W (mean)"] == ("5000",)
    assert run["energy, kJ"] == ("2.5",)
    assert run["J per token, prompt and output"] == ("0.750",)


def test_the_fleet_is_named_with_its_blocks(ran: Results) -> None:
    fleet = _rows(ran, "Run")["pools (KV blocks per worker)"]
    assert fleet == ("1×prefill(400) 1×decode(400)",)
    unsampled = replace(ran, pools=(), samples=None)
    assert _rows(unsampled, "Run")["pools (KV blocks per worker)"] == fleet
    assert "Pools" not in [table.title for table in tables_of(unsampled)]


def test_the_terminal_shows_every_table_with_its_definitions(ran: Results) -> None:
    whole = Console(width=140)
    with whole.capture() as caught:
        whole.print(tables(ran))
    text = caught.get()
    for table in tables_of(ran):
        assert table.title in text
    assert "TPOT: time per output token" in text
    assert "the TTFT is no part of it" in text.replace("\n", " ")


def test_a_table_without_heads_shows_none(ran: Results) -> None:
    (run,) = [table for table in tables_of(ran) if table.title == "Run"]
    assert shown(run).show_header is False
    assert shown(tables_of(ran)[0]).show_header is True


# ---- plots


def test_an_axis_is_logarithmic_where_values_lie_far_apart(ran: Results) -> None:
    near = replace(ran.quantiles, ttft_s=(0.1, 0.2, 0.3))
    far = replace(ran.quantiles, ttft_s=(0.1, 0.2, 30.0))
    kinds = []
    for quantiles in (near, far):
        layout = plots_of(replace(ran, quantiles=quantiles))["ttft"]["layout"]
        kinds.append((layout["xaxis"]["type"], layout["annotations"][0]["x"]))
    assert kinds[0] == ("linear", 2.0)
    assert kinds[1] == ("log", pytest.approx(0.30103))  # labels of a log axis go by exponent


def test_lines_over_samples_are_means_of_a_few_at_a_time(
    ran: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ran.samples is not None
    monkeypatch.setattr(plots, "LINE_POINTS_MAX", ran.samples.count // 2)
    (prefill, _) = plots_of(ran)["busy"]["data"]
    used = ran.samples.workers[0].utilisation
    first, second = used[0], used[1]
    assert first is not None
    assert second is not None
    assert prefill["y"][0] == pytest.approx(50 * (first + second), abs=0.01)
    assert len(prefill["x"]) == len(prefill["y"]) == -(-ran.samples.count // 2)


def test_without_moves_or_samples_there_are_no_plots_of_them() -> None:
    alone = simulate(scenario(pools=[pool("m", "mixed")]))
    assert "moves" not in plots_of(alone)
    assert "heat" not in plots_of(replace(alone, samples=None))
    assert "rates" not in plots_of(replace(alone, timeline=None))


def test_a_worker_that_was_down_leaves_a_hole(ran: Results) -> None:
    assert ran.samples is not None
    one, other = ran.samples.workers
    gone = replace(
        one, kv_occupancy=(None,) * ran.samples.count, utilisation=(None,) * ran.samples.count
    )
    drawn = plots_of(replace(ran, samples=replace(ran.samples, workers=(gone, other))))
    assert set(drawn["heat"]["data"][0]["z"][0]) == {None}
    assert set(drawn["busy"]["data"][0]["y"]) == {None}


# ---- traces


def _stream(results: Results, *moves: Any) -> Any:
    """The first request's stream, with other moves in its account."""
    stream = next(iter(results.run().world.clients.streams.values()))
    account = stream.account
    assert isinstance(account, StreamAccount)
    return replace(stream, account=replace(account, moves=moves))


def test_a_request_that_migrated_is_on_each_worker_in_turn(ran: Results) -> None:
    a, b = key("prefill-0"), key("decode-0")
    stream = _stream(ran)
    since = stream.stages.computed_ns
    there = move(MoveKind.HANDOFF, a, b, asked_ns=since - 5, ended_ns=since + 1_000)
    back = move(MoveKind.MIGRATION, b, a, asked_ns=since + 2_000, ended_ns=since + 9_000)
    lost = move(
        MoveKind.MIGRATION, a, b, outcome=Stage.ABORTED, asked_ns=since + 9_500,
        ended_ns=since + 9_900,
    )  # fmt: skip
    events = list(perfetto._request(_stream(ran, there, back, lost), {
        "clients": 1, "prefill-0": 2, "decode-0": 3,
    }))  # fmt: skip
    begins = [(event["cat"], event["pid"]) for event in events if event["ph"] == "b"]
    assert begins == [
        ("request", 1), ("wait", 2), ("prefill", 2), ("handoff", 2), ("decode", 2),
        ("migration", 3), ("decode", 3), ("migration", 2), ("decode", 2),
    ]  # fmt: skip
    last = [event for event in events if event["ph"] == "e"][-1]
    assert last["ts"] == stream.last_ns / 1e3


def test_a_request_that_was_refused_is_on_no_worker() -> None:
    tight: Any = {"cluster": {"queue_len_max": 1}, "worker": {"queue_len_max": 1}}
    refused = simulate(scenario(pools=[pool("m", "mixed", blocks=1)], limits=tight))
    spans = [event for event in trace_of(refused)["traceEvents"] if event["ph"] == "b"]
    assert {event["pid"] for event in spans} == {1}
    assert {event["cat"] for event in spans} == {"request"}
