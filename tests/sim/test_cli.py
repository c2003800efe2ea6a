"""What `splitweave simulate` prints, and how it ends."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from splitweave.sim import campaign, cli
from splitweave.sim.campaign import SeedResult
from splitweave.sim.results import html
from splitweave.sim.results.files import File
from splitweave.sim.results.results import ResultsError
from splitweave.sim.run import simulate

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SMALL = """
[hardware.a]
kind = "affine"
iteration_us = 5000
token_us = 20
[[pools]]
name = "prefill"
role = "prefill"
hardware = "a"
blocks = 200
[[pools]]
name = "decode"
role = "decode"
hardware = "a"
blocks = 200
[workload]
kind = "poisson"
rate_per_s = 20
requests = 25
prompt = { kind = "fixed", tokens = 40 }
output = { kind = "fixed", tokens = 9 }
"""


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small.toml"
    path.write_text(SMALL)
    return path


def test_a_run_prints_its_tables(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(small) == 0
    shown = capsys.readouterr().out
    for word in ("TTFT", "TPOT", "ITL", "E2E", "goodput", "handoff", "25 / 0 / 0 / 0"):
        assert word in shown


def test_json_goes_to_stdout_and_to_a_file(
    small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {File.RESULTS: tmp_path / "out.json"}
    assert cli.run(small, as_json=True, files=files) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown == json.loads((tmp_path / "out.json").read_text())["metrics"]
    assert shown["requests"] == shown["completed"] == 25
    assert shown["output_tokens"] == 225
    assert shown["ttft"]["p50_s"] > 0.005


def test_recordings_are_written_one_per_core(small: Path, tmp_path: Path) -> None:
    assert cli.run(small, record=tmp_path / "tapes") == 0
    names = {path.name for path in (tmp_path / "tapes").iterdir()}
    assert names == {"controller#1.jsonl", "gateway.0#1.jsonl", "prefill-0#1.jsonl"} | {
        "decode-0#1.jsonl"
    }


def test_a_campaign_that_holds_says_so(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(small, seeds=3) == 0
    shown = capsys.readouterr().out
    assert "3 seeds, no rule broken" in shown
    assert " events, 75 requests, 0 faults" in shown


def test_a_failing_seed_ends_with_its_replay_and_status_1(
    small: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_seed(_: object, seed: int) -> SeedResult:
        return SeedResult(seed=seed, error="broken" if seed == 7 else "")

    monkeypatch.setattr(cli, "run_seed", run_seed)
    assert cli.run(small, seed=5, seeds=4) == 1
    shown = capsys.readouterr().out
    assert "seed 7: broken" in shown
    assert f"replay: splitweave simulate {small} --seed 7" in shown.replace("\n", "")


def test_an_unfinished_run_is_a_broken_rule(
    small: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small.write_text("end_within_s = 0.01\n" + SMALL.replace("tokens = 9", "tokens = 900"))
    assert cli.run(small) == 1
    shown = capsys.readouterr().out
    assert "did not end within 0.01 s" in shown
    assert "--seed 1" in shown


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1", "unknown key x"),
        (SMALL.replace("blocks = 200", "blocks = 0"), "pools[0].blocks"),
        (SMALL + "[limits.worker]\nnope = 1", "unknown key limits.worker.nope"),
    ],
)
def test_bad_input_ends_with_a_message_and_status_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, message: str
) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(text)
    assert cli.run(path) == 2
    assert message in capsys.readouterr().err.replace("\n", "")


def test_a_missing_scenario_or_trace_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(tmp_path / "gone.toml") == 2
    assert "gone.toml: no such file" in capsys.readouterr().err.replace("\n", "")
    path = tmp_path / "trace.toml"
    head = SMALL[: SMALL.index("[workload]")]
    path.write_text(head + '[workload]\nkind = "trace"\nformat = "azure"\npath = "gone.csv"\n')
    assert cli.run(path) == 2
    assert "gone.csv: No such file" in capsys.readouterr().err.replace("\n", "")


def test_the_module_runs(small: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-m", "splitweave.sim", str(small), "--seed", "3"],
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": ":".join(part for part in sys.path if part)},
    )
    assert done.returncode == 0, done.stderr
    assert "goodput" in done.stdout


def test_a_core_that_raises_is_a_failed_seed() -> None:
    class Builder(campaign.CoreBuilder):
        def worker(self, info: object) -> object:  # type: ignore[override]
            raise LookupError("no such thing")

    result = campaign.run_seed(cli.load_scenario(EXAMPLES / "faults.toml"), 1, Builder)
    assert result.error == "LookupError: no such thing"
    assert "Traceback" in result.trace


def test_nothing_but_results_is_printed_where_nobody_watches(
    small: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(small) == 0
    alone = capsys.readouterr()
    assert alone.err == ""
    assert "\x1b" not in alone.out
    assert alone.out.splitlines()[0].strip() == "Latency, seconds"
    assert cli.run(small, seeds=2) == 0
    assert capsys.readouterr().out == (
        "2 seeds, no rule broken, every admitted request ended\n"
        "1890 events, 50 requests, 0 faults\n"
    )


def test_json_leaves_stdout_to_the_program_that_reads_it(
    small: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(small, as_json=True) == 0
    shown = capsys.readouterr()
    assert "goodput" in shown.err  # the tables
    first = json.loads(shown.out)
    assert set(first["ttft"]) == {"mean_s", "p50_s", "p90_s", "p95_s", "p99_s", "max_s"}
    assert first["migrations"]["downtime"] is None
    assert cli.run(small, as_json=True, seed=1) == 0  # the scenario's own seed
    assert json.loads(capsys.readouterr().out) == first
    assert cli.run(small, as_json=True, seed=2) == 0
    assert json.loads(capsys.readouterr().out) != first


def test_main_reads_its_arguments(small: Path, tmp_path: Path) -> None:
    out, tapes = tmp_path / "out", tmp_path / "tapes"
    given = [str(small), "--seed", "3", "--out", str(out), "--record", str(tapes)]
    assert cli.main(given) == 0
    assert json.loads((out / "results.json").read_text())["metrics"]["requests"] == 25
    assert (tapes / "controller#1.jsonl").is_file()
    assert cli.main([str(small), "--seed", "3", "--seeds", "2"]) == 0


@pytest.mark.parametrize(
    ("option", "value", "least"), [("--seed", "-1", 0), ("--seeds", "0", 1), ("--seeds", "-3", 1)]
)
def test_a_number_of_seeds_or_a_seed_that_cannot_be_is_refused_by_name(
    small: Path, capsys: pytest.CaptureFixture[str], option: str, value: str, least: int
) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main([str(small), option, value])
    assert caught.value.code == 2
    assert f"{option} ({value}) must be at least {least}" in capsys.readouterr().err


def test_an_output_path_that_cannot_be_written_is_named(
    small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "file"
    file.touch()
    assert cli.run(small, files={File.RESULTS: file / "results.json"}) == 2
    assert str(file) in capsys.readouterr().err
    assert cli.run(small, record=file) == 2
    assert str(file) in capsys.readouterr().err


def test_progress_counts_up_to_all_requests() -> None:
    seen: list[tuple[int, int]] = []
    simulate(cli.load_scenario(EXAMPLES / "faults.toml"), progress=lambda *now: seen.append(now))
    assert seen == sorted(seen)
    assert seen[-1] == (32, 32)
    assert seen[0][0] < 32


@pytest.fixture(name="no_plotly")
def _no_plotly(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> str:
        raise ResultsError("plotly is not installed")

    monkeypatch.setattr(cli, "plotly_js", none)
    monkeypatch.setattr(html, "plotly_js", none)


def test_a_folder_gets_every_file_but_a_report_that_nothing_is_installed_for(
    small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], no_plotly: None
) -> None:
    files = cli.files_of(tmp_path / "out", html=None, csv=None, trace=tmp_path / "t.json")
    assert cli.run(small, files=files) == 0
    shown = capsys.readouterr().out.replace("\n", "")
    assert "report.html: plotly is not installed" in shown
    assert f"wrote {tmp_path / 'out' / 'results.json'}" in shown
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"results.json", "requests.csv", "samples.csv"}
    assert (tmp_path / "t.json").is_file()  # elsewhere, as it was asked for


def test_a_report_alone_that_cannot_be_made_is_refused_before_the_run(
    small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], no_plotly: None
) -> None:
    files = cli.files_of(None, html=tmp_path / "r.html", csv=None, trace=None)
    assert cli.run(small, files=files) == 2
    said = capsys.readouterr()
    assert "plotly is not installed" in said.err
    assert "TTFT" not in said.out
