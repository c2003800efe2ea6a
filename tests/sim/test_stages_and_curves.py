"""Stages, bands, distributions and timelines, worked out by hand on a few requests."""

import numpy as np
import pytest
from ended_requests import MS, row, table
from hypothesis import given, settings
from hypothesis import strategies as st
from splitweave.sim.results.curves import PERCENTS, quantiles_of, timeline_of
from splitweave.sim.results.records import UNKNOWN, Ending
from splitweave.sim.results.stages import STAGES, bands_of, spans_of
from splitweave.sim.results.table import Table

ONE = row(0, 1, 3, 8, 9, 30)  # queue 1, wait 2, prefill 5, delivery 1
REFUSED = row(5, ending=Ending.REJECTED, output_tokens=0)


# ---- stages


def test_each_stage_lies_between_two_stations() -> None:
    (whole, band) = bands_of(table(ONE))
    assert whole.label == "all"
    assert whole.ttft_s == pytest.approx(0.009)
    assert whole.stages_s == pytest.approx(
        {"queue": 0.001, "fetch": 0, "wait": 0.002, "prefill": 0.005, "delivery": 0.001}
    )
    assert band.stages_s == whole.stages_s


def test_a_fetch_is_part_of_the_wait_and_never_more_than_it() -> None:
    spans = spans_of(table(ONE._replace(fetch_ns=MS), ONE._replace(fetch_ns=50 * MS)))
    assert spans.fetch is not None
    assert spans.wait is not None
    assert (spans.fetch.p50_s, spans.fetch.max_s) == (0.001, 0.002)
    assert (spans.wait.p50_s, spans.wait.max_s) == (0.0, 0.001)


def test_requests_that_did_not_complete_are_in_no_stage() -> None:
    failed = ONE._replace(ending=Ending.FAILED)
    assert bands_of(table(ONE, failed, REFUSED))[0].requests == 1
    assert bands_of(table(REFUSED)) == ()
    assert spans_of(table(REFUSED)).queue is None


def test_a_request_that_was_not_followed_all_the_way_is_left_out_of_the_stages() -> None:
    lost = ONE._replace(began_ns=UNKNOWN)
    spans = spans_of(table(ONE, lost))
    assert bands_of(table(ONE, lost))[0].requests == 1
    assert spans.prefill is not None
    assert spans.prefill.mean_s == 0.005


def test_transfers_are_of_those_that_moved_alone() -> None:
    moved = ONE._replace(transfer_ns=10 * MS, exposed_ns=2 * MS)
    spans = spans_of(table(ONE, moved, moved._replace(ending=Ending.CANCELLED)))
    assert spans.transfer is not None
    assert spans.exposed is not None
    assert (spans.transfer.mean_s, spans.exposed.mean_s) == (0.01, 0.002)


def test_bands_go_by_the_ttft_from_percentile_to_percentile() -> None:
    rows = [row(0, 1, 2, 2 + n, 3 + n, 300) for n in range(1, 201)]
    bands = {band.label: band for band in bands_of(table(*reversed(rows)))}
    assert {label: band.requests for label, band in bands.items()} == {
        "all": 200, "p0–p50": 100, "p50–p90": 80, "p90–p95": 10, "p95–p99": 8, "p99–p100": 2,
    }  # fmt: skip
    assert bands["p0–p50"].stages_s["prefill"] == pytest.approx(sum(range(1, 101)) / 100 / 1e3)
    assert bands["p99–p100"].stages_s["prefill"] == pytest.approx(0.1995)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.integers(0, 10**10), min_size=5, max_size=5), min_size=1, max_size=60))
def test_stages_of_any_requests_add_up_and_no_request_is_in_two_bands(
    lengths: list[list[int]],
) -> None:
    rows = []
    for each in lengths:
        stations = np.cumsum([7, *each]).tolist()
        names = ("asked_ns", "placed_ns", "began_ns", "computed_ns", "first_ns", "last_ns")
        rows.append(ONE._replace(**dict(zip(names, stations, strict=True))))
    bands = bands_of(table(*rows))
    assert sum(band.requests for band in bands[1:]) == bands[0].requests == len(rows)
    for band in bands:
        assert tuple(band.stages_s) == STAGES
        assert min(band.stages_s.values()) >= 0
        assert sum(band.stages_s.values()) == pytest.approx(band.ttft_s)


# ---- tables


def test_latencies_are_of_completed_requests_and_tpot_of_several_tokens() -> None:
    single = row(0, 1, 2, 3, 4, 4, output_tokens=1)
    made = table(ONE, single, REFUSED, ONE._replace(ending=Ending.CANCELLED))
    assert made.ttft_ns.tolist() == [9 * MS, 4 * MS]
    assert made.e2e_ns.tolist() == [30 * MS, 4 * MS]
    assert made.tpot_ns.tolist() == [7 * MS]
    assert [made.count(ending) for ending in Ending] == [2, 1, 1, 0]


def test_both_bounds_must_hold_and_a_bound_that_is_met_to_the_point_is_met() -> None:
    made = table(ONE, REFUSED, row(0, 1, 2, 3, 4, 4, output_tokens=1))
    assert made.meets(0.009, 0.007).tolist() == [True, False, True]
    assert made.meets(0.0089, 0.007).tolist() == [False, False, True]
    assert made.meets(0.009, 0.0069).tolist() == [False, False, True]
    assert made.meets(0.0039, 1.0).tolist() == [False, False, False]


def test_a_run_lasts_from_its_first_arrival_to_its_last_token() -> None:
    assert table(row(5, 6, 7, 8, 9, 11), REFUSED, row(2, 3, 4, 5, 6, 8)).span_s() == 0.009
    assert table(REFUSED).span_s() == 0.0
    assert table().span_s() == 0.0


# ---- distributions


def test_quantiles_are_nearest_rank_and_begin_with_the_least() -> None:
    rows = [row(0, 1, 2, 3, n, n + 3) for n in range(4, 104)]
    values = dict(zip(PERCENTS, quantiles_of(table(*rows)).ttft_s, strict=True))
    assert (values[0], values[1], values[50], values[99], values[100]) == (
        0.004, 0.004, 0.053, 0.102, 0.103,
    )  # fmt: skip
    assert values[99.5] == 0.103


def test_nothing_has_no_distribution() -> None:
    none = quantiles_of(table(REFUSED))
    assert (none.ttft_s, none.tpot_s, none.e2e_s) == ((), (), ())


# ---- timelines


def _line(made: Table) -> dict[str, list[float]]:
    line = timeline_of(made, made.done)
    assert line is not None
    names = ("arrivals_per_s", "ended_per_s", "tokens_per_s", "in_flight")
    return {name: list(getattr(line, name)) for name in names}


def test_a_single_slice_has_everything() -> None:
    line = _line(table(row(0, 1, 2, 3, 10, 100), row(50, 51, 52, 53, 60, 90)))
    assert line["arrivals_per_s"] == [pytest.approx(2 / 0.1)]
    assert line["ended_per_s"] == [pytest.approx(2 / 0.1)]
    assert line["tokens_per_s"] == [pytest.approx(8 / 0.1)]
    assert line["in_flight"] == [0]


def test_tokens_are_spread_evenly_from_the_first_to_the_last(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("splitweave.sim.results.curves._bins", lambda _: 4)
    # 21 tokens: one at 20 ms, twenty over 60 ms; slices of 20 ms: 20..40, 40..60, 60..80.
    line = _line(table(row(0, 1, 2, 3, 20, 80, output_tokens=21)))
    assert line["tokens_per_s"] == pytest.approx([0, (1 + 20 / 3) / 0.02, 1000 / 3, 1000 / 3])
    assert line["in_flight"] == [1, 1, 1, 0]
    assert line["arrivals_per_s"] == pytest.approx([50, 0, 0, 0])


def test_a_request_that_got_nothing_is_in_flight_for_no_time() -> None:
    line = _line(table(row(0, 1, 2, 3, 10, 100), REFUSED))
    assert line["in_flight"] == [0]
    assert line["ended_per_s"] == [pytest.approx(10)]
    assert line["arrivals_per_s"] == [pytest.approx(20)]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 10**6), st.integers(1, 10**6), st.integers(0, 10**6),
                  st.integers(1, 500)),
        min_size=1, max_size=80,
    )
)  # fmt: skip
def test_no_token_and_no_request_is_lost_whatever_the_slices(
    lives: list[tuple[int, int, int, int]],
) -> None:
    rows = [
        row(at, at, at, at, at + first, at + first + (rest if tokens > 1 else 0),
            output_tokens=tokens)
        for at, first, rest, tokens in lives
    ]  # fmt: skip
    made = table(*rows)
    line = timeline_of(made, made.done)
    assert line is not None
    wanted = sum(each.output_tokens for each in rows)
    assert sum(line.tokens_per_s) * line.slice_s == pytest.approx(wanted, rel=1e-6)
    assert sum(line.arrivals_per_s) * line.slice_s == pytest.approx(len(rows))
    assert sum(line.met_per_s) * line.slice_s == pytest.approx(len(rows))
    assert min(line.in_flight) >= 0
    assert line.in_flight[-1] == 0
