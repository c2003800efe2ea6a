"""The runner: sections in processes of their own, one table, exit codes; no GPU needed."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import run
import torch
from checkout import ROOT
from gpu_outcome import Claim, Figure, Findings, Outcome, State, judge, read_findings, table
from longer import longer
from sections import SECTIONS, TOTAL_S, chosen

SCRIPT = ROOT / "benchmarks" / "gpu" / "run.py"
ONE = SECTIONS[:1]


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_without_a_gpu_it_says_so_in_one_line_and_exits_2(capfd: pytest.CaptureFixture) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is one")
    assert run.main([]) == 2
    out, error = capfd.readouterr()
    assert out == ""
    assert error.startswith("no GPU: torch ")
    assert error.count("\n") == 1


def test_list_and_dry_run_need_nothing_but_python(tmp_path: Path) -> None:
    """As a script, with a torch that cannot be imported."""
    (tmp_path / "torch.py").write_text("raise ImportError('no torch')")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    for option in ("--list", "--dry-run"):
        done = subprocess.run(
            [sys.executable, "-P", str(SCRIPT), option],
            capture_output=True, text=True, timeout=300, env=environment,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")
        assert all(section.name in done.stdout for section in SECTIONS)
        assert ("--section" in done.stdout) == (option == "--dry-run")
    done = subprocess.run(
        [sys.executable, "-P", str(SCRIPT)],
        capture_output=True, text=True, timeout=300, env=environment,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (2, "no GPU: torch is not installed\n")


def test_the_budgets_of_all_sections_fit_into_the_whole() -> None:
    assert TOTAL_S == 480
    assert len({section.name for section in SECTIONS}) == len(SECTIONS)
    assert all(section.budget_s <= 90 for section in SECTIONS)


def test_sections_are_chosen_by_name_in_the_tables_order(
    capfd: pytest.CaptureFixture,
) -> None:
    assert chosen([]) == SECTIONS
    assert [section.name for section in chosen(["engine", "machine"])] == ["machine", "engine"]
    assert run.main(["--only", "nothing"]) == 1
    assert "one of: machine, kernels" in capfd.readouterr().err


def test_a_section_that_reports_passes_with_its_findings() -> None:
    found = Findings()
    found.figure("rate", 3.5, "GB/s")
    found.claim("equal", True, "7 sizes")
    code = f"print('noise'); print({run.FINDINGS + found.dump()!r})"
    outcome = run.run_apart("x", python(code), 300)
    assert (outcome.state, outcome.reason) == (State.PASSED, "")
    assert outcome.findings == found


def test_a_claim_that_does_not_hold_fails_its_section() -> None:
    found = Findings()
    found.claim("equal", True)
    found.claim("released", False, "3.1 s")
    outcome = run.run_apart("x", python(f"print({run.FINDINGS + found.dump()!r})"), 300)
    assert (outcome.state, outcome.reason) == (State.FAILED, "released: 3.1 s")


def test_a_section_that_dies_fails_with_its_last_words_and_keeps_what_it_found() -> None:
    found = Findings()
    found.figure("rate", 3.5, "GB/s")
    code = f"print({run.FINDINGS + found.dump()!r}); raise SystemExit('Duplicate GPU detected')"
    outcome = run.run_apart("x", python(code), 300)
    assert (outcome.state, outcome.reason) == (
        State.FAILED, "exit status 1: Duplicate GPU detected",
    )  # fmt: skip
    assert outcome.findings == found


def test_a_section_may_be_skipped_with_a_reason() -> None:
    outcome = run.run_apart("x", python(f"print('{run.SKIPPED}no second GPU')"), 300)
    assert (outcome.state, outcome.reason) == (State.SKIPPED, "no second GPU")


def test_a_section_that_hangs_is_killed_with_all_that_it_started(tmp_path: Path) -> None:
    started = tmp_path / "pid"
    code = (
        "import subprocess, sys, pathlib, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(1000)'])\n"
        f"pathlib.Path({str(started)!r}).write_text(str(child.pid))\n"
        "print('waiting', flush=True); time.sleep(1000)"
    )
    for limit_s in longer(2.0):
        began_at = time.monotonic()
        outcome = run.run_apart("x", python(code), limit_s)
        assert time.monotonic() - began_at < limit_s + 100
        assert outcome.state is State.TIMED_OUT
        if outcome.reason == f"after {limit_s:g} s: waiting":
            break
    child, deadline = int(started.read_text()), time.monotonic() + 60
    while psutil.pid_exists(child) and _status(child) != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, "its child lives"
        time.sleep(0.01)


def _status(pid: int) -> str | None:
    """None if it has ended meanwhile."""
    try:
        return str(psutil.Process(pid).status())
    except psutil.NoSuchProcess:
        return None


def test_one_bad_section_does_not_stop_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    commands = {"machine": "raise SystemExit(3)", "kernels": "pass", "copies": "pass"}
    monkeypatch.setattr(run, "command", lambda section, model: python(commands[section.name]))
    said: list[str] = []
    outcomes = run.run_all(chosen(list(commands)), "", 60, said.append)
    assert [outcome.state for outcome in outcomes] == [State.FAILED, State.PASSED, State.PASSED]
    assert [line.split(":")[0] for line in said] == [
        "[1/3] machine", "[2/3] kernels", "[3/3] copies",
    ]  # fmt: skip


def test_when_the_whole_time_is_used_up_the_rest_is_skipped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(run, "command", lambda *_: python("import time; time.sleep(60)"))
    outcomes = run.run_all(chosen(["machine", "kernels"]), "", 2.0, lambda line: None)
    assert [outcome.state for outcome in outcomes] == [State.TIMED_OUT, State.SKIPPED]
    assert "2 s" in outcomes[1].reason


def test_a_child_reports_what_it_found_before_it_failed(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    def broken(findings: Findings, settings: object) -> None:
        findings.figure("before", 1.0, "s")
        raise RuntimeError("then it broke")

    module = type(sys)("broken")
    module.machine = broken
    monkeypatch.setattr(run.importlib, "import_module", lambda name: module)
    with pytest.raises(RuntimeError, match="then it broke"):
        run.run_here("machine", run.Settings())
    line = capfd.readouterr().out.strip()
    found = read_findings(line.removeprefix(run.FINDINGS))
    assert found.figures == [Figure(name="before", value=1.0, unit="s")]


def test_the_table_has_a_line_for_each_section_figure_and_claim() -> None:
    found = Findings(
        figures=[Figure(name="rate", value=1234.5, unit="GB/s")],
        claims=[Claim(name="equal", holds=True), Claim(name="soon", holds=False, seen="3 s")],
    )
    state, reason = judge(found)
    text = table(
        [Outcome(section="copies", state=state, seconds=1.25, reason=reason, findings=found)]
    )
    assert text.splitlines() == [
        "copies          FAILED       1.2 s  soon: 3 s",
        f"    {'rate':<58}{'1,234':>10} GB/s",
        "    [ok] equal",
        "    [NO] soon  (3 s)",
    ]


def test_outcomes_are_plain_json() -> None:
    outcome = Outcome(section="x", state=State.TIMED_OUT, seconds=1.0)
    assert json.loads(json.dumps(outcome.as_json()))["state"] == "TIMED OUT"
