"""A run as files: each holds what the run did, and says nothing that it did not."""

import csv
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from sim_worlds import poisson, pool, scenario
from splitweave.sim.results import html, perfetto
from splitweave.sim.results.api import simulate
from splitweave.sim.results.files import File, write, write_all
from splitweave.sim.results.results import Results, ResultsError, read_results


@pytest.fixture(name="ran", scope="module")
def _ran() -> Results:
    return simulate(scenario(workload=poisson(20, 40, 40, 20)), name="forty")


@pytest.fixture(name="plotly")
def _plotly() -> None:
    pytest.importorskip(
        "plotly", reason="plotly is not installed: pip install 'splitweave[report]'"
    )


def _lines(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_all_files_are_written_into_a_new_folder(
    ran: Results, tmp_path: Path, plotly: None
) -> None:
    paths = write_all(ran, tmp_path / "deep" / "out")
    assert {path.name for path in paths} == {file.value for file in File}
    assert all(path.stat().st_size > 100 for path in paths)
    assert read_results(tmp_path / "deep" / "out") == ran


def test_requests_csv_has_a_line_per_request_whose_stages_add_up(
    ran: Results, tmp_path: Path
) -> None:
    path = tmp_path / "requests.csv"
    write(ran, File.REQUESTS, path)
    lines = _lines(path)
    assert len(lines) == ran.metrics.requests
    assert [float(line["arrival_s"]) for line in lines] == sorted(
        float(line["arrival_s"]) for line in lines
    )
    for line in lines:
        stages = ("queue_s", "fetch_s", "wait_s", "prefill_s", "delivery_s")
        assert sum(float(line[name]) for name in stages) == pytest.approx(float(line["ttft_s"]))
        assert (line["ending"], line["class"]) == ("completed", "standard")
        assert (line["first_worker"], line["last_worker"]) == ("prefill-0", "decode-0")
        assert (line["prompt_tokens"], line["output_tokens"]) == ("40", "20")
    assert sum(int(line["slo_met"]) for line in lines) == ran.metrics.slo_met
    assert sum(float(line["ttft_s"]) for line in lines) / 40 == pytest.approx(
        ran.metrics.ttft.mean_s if ran.metrics.ttft else 0
    )


def test_a_request_that_got_nothing_has_empty_cells(tmp_path: Path) -> None:
    tight: Any = {"cluster": {"queue_len_max": 1}, "worker": {"queue_len_max": 1}}
    refused = simulate(scenario(pools=[pool("m", "mixed", blocks=1)], limits=tight))
    path = tmp_path / "requests.csv"
    write(refused, File.REQUESTS, path)
    lines = _lines(path)
    assert len(lines) == refused.metrics.requests
    assert {line["ttft_s"] for line in lines} == {""}
    assert {line["slo_met"] for line in lines} == {"0"}
    assert "completed" not in {line["ending"] for line in lines}


def test_samples_csv_has_a_line_per_sample_and_worker(ran: Results, tmp_path: Path) -> None:
    path = tmp_path / "samples.csv"
    write(ran, File.SAMPLES, path)
    lines = _lines(path)
    assert ran.samples is not None
    assert len(lines) == ran.samples.count * 2
    assert Counter(line["worker"] for line in lines) == {
        "prefill-0": ran.samples.count, "decode-0": ran.samples.count,
    }  # fmt: skip
    assert float(lines[0]["time_s"]) == ran.samples.period_s
    assert max(int(line["running"]) for line in lines) > 1


def test_files_are_the_same_for_the_same_seed(ran: Results, tmp_path: Path) -> None:
    again = simulate(scenario(workload=poisson(20, 40, 40, 20)), name="forty")
    for file in (File.RESULTS, File.REQUESTS, File.SAMPLES, File.TRACE):
        one, other = tmp_path / f"1{file}", tmp_path / f"2{file}"
        write(ran, file, one)
        write(again, file, other)
        assert one.read_bytes() == other.read_bytes()


# ---- the trace


def _spans(trace: dict[str, Any]) -> dict[tuple[str, int, str], list[dict[str, Any]]]:
    spans: dict[tuple[str, int, str], list[dict[str, Any]]] = {}
    for event in trace["traceEvents"]:
        if event["ph"] in "be":
            spans.setdefault((event["id"], event["pid"], event["cat"]), []).append(event)
    return spans


def test_every_span_of_the_trace_begins_and_ends_once_on_a_named_worker(ran: Results) -> None:
    trace = perfetto.trace_of(ran)
    named = {
        event["pid"]: event["args"]["name"]
        for event in trace["traceEvents"]
        if event["ph"] == "M" and event["name"] == "process_name"
    }
    assert list(named.values()) == ["clients", "prefill-0", "decode-0"]
    kinds: Counter[tuple[str, str]] = Counter()
    for (_, process, kind), events in _spans(trace).items():
        assert [event["ph"] for event in events] == ["b", "e"]
        assert events[0]["ts"] <= events[1]["ts"]
        kinds[named[process], kind] += 1
    assert kinds["clients", "request"] == 40
    assert kinds["prefill-0", "prefill"] == kinds["prefill-0", "handoff"] == 40
    assert kinds["decode-0", "decode"] == 40
    json.dumps(trace)


def test_a_requests_spans_follow_it_from_worker_to_worker(ran: Results) -> None:
    spans = _spans(perfetto.trace_of(ran))
    row = dict(ran.requests())["r7"]  # type: ignore[index]
    (request,) = [
        events for (name, _, kind), events in spans.items() if (name, kind) == ("r7", "request")
    ]
    assert (request[0]["ts"], request[1]["ts"]) == (row.asked_ns / 1e3, row.last_ns / 1e3)
    decodes = [
        events for (name, _, kind), events in spans.items() if (name, kind) == ("r7", "decode")
    ]
    assert decodes[-1][1]["ts"] == row.last_ns / 1e3


def test_the_trace_says_how_many_requests_it_shows(
    ran: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(perfetto, "REQUESTS_MAX", 7)
    trace = perfetto.trace_of(ran)
    assert trace["otherData"]["shown"].startswith("7 of 40 requests")
    assert len({event.get("id") for event in trace["traceEvents"]} - {None}) == 7


def test_the_trace_counts_load_where_it_was_sampled(ran: Results) -> None:
    counters = [event for event in perfetto.trace_of(ran)["traceEvents"] if event["ph"] == "C"]
    assert ran.samples is not None
    assert len(counters) == ran.samples.count * 2 * 2
    assert {event["name"] for event in counters} == {"running", "KV occupancy"}


# ---- what a file of results cannot give


@pytest.mark.parametrize("file", [File.REQUESTS, File.TRACE])
def test_what_needs_the_run_is_refused_of_read_results(
    ran: Results, tmp_path: Path, file: File
) -> None:
    write(ran, File.RESULTS, tmp_path / "results.json")
    with pytest.raises(ResultsError, match="read from a file"):
        write(read_results(tmp_path), file, tmp_path / file)


def test_without_plotly_a_report_says_what_to_install(
    ran: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(name: str) -> Any:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(html, "files", none)
    html.plotly_js.cache_clear()
    with pytest.raises(ResultsError, match=r"pip install 'splitweave\[report\]'"):
        write(ran, File.REPORT, tmp_path / "report.html")
