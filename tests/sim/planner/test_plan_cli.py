"""`splitweave plan`: what it prints, writes and returns."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from plan_questions import mixed, pair, small_ask, small_types
from splitweave.cluster.live.config import load_config
from splitweave.sim.planner import cli
from splitweave.sim.planner.cli import Given
from splitweave.sim.planner.drafts import Plan, Tried, Watch, Weakness
from splitweave.sim.planner.findings import as_json, binding, front, strained
from splitweave.sim.planner.trial import Verdict

GIVEN = {
    "trace": "azure-conversation", "model": "Llama-3.1-8B", "slo": "ttft=1,tpot=0.06@p90",
    "rate": 3.0, "requests": 20, "confirm": 30, "machines": "L40S,A10G", "tp": "1,2",
    "gpus_max": 3, "jobs": 1,
}  # fmt: skip


def planned(**changes: object) -> int:
    return cli.run(Given(**{**GIVEN, **changes}))  # type: ignore[arg-type]


def test_a_plan_is_printed_and_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert planned(out=tmp_path / "plan", budget="4$/h", tp="1") == 0
    shown = capsys.readouterr().out
    for word in ("cheapest", "for 4 $/h", "nearest bound", "+20 % load", "worker lost", "Pareto"):
        assert word in shown
    assert "ruled out by bounds" in shown
    assert load_config(tmp_path / "plan" / "cluster.toml").workers >= 1
    values = json.loads((tmp_path / "plan" / "values.yaml").read_text())
    assert values["pools"]
    said = json.loads((tmp_path / "plan" / "plan.json").read_text())
    assert said["cheapest"]["met"]
    assert said["finished"]


def test_the_same_plan_twice_whatever_the_processes(capsys: pytest.CaptureFixture[str]) -> None:
    told = []
    for jobs in (1, 2):
        assert planned(jobs=jobs, as_json=True) == 0
        told.append(capsys.readouterr().out)
    assert told[0] == told[1]
    plan = json.loads(told[0])
    assert plan["proven"]
    assert plan["simulated"] >= 1
    assert plan["candidates"] > plan["pruned_by_bounds"]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"slo": "fast"}, "slo: 'fast' cannot be read; write it as"),
        ({"slo": "ttft=1ms,tpot=1@p90"}, "even an idle worker"),
        ({"model": "Llama-9"}, "no built-in one"),
        ({"model": "Llama-3.1-405B"}, "fits on none of these machines"),
        ({"machines": "B300"}, "not in the catalogue"),
        ({"trace": "nowhere"}, "no file 'nowhere'"),
        ({"budget": "cheap"}, "write dollars per hour as"),
        ({"budget": "0.5$/h", "requests": 5}, "the cheapest worker that holds the model"),
        ({"tp": "two"}, "tp: 'two' is no whole number"),
        ({"caps": "1.5"}, "caps: '1.5' is no share"),
        ({"roles": "both"}, "roles: 'both' (known: prefill, decode, mixed)"),
        ({"rate": 400.0, "requests": 40, "confirm": 60}, "allow more GPUs"),
        ({"catalogue": Path("/nowhere.toml")}, "/nowhere.toml: no such file"),
    ],
)
def test_bad_input_is_one_message_and_status_2(
    changes: dict[str, object], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert planned(**changes) == 2
    shown = capsys.readouterr()
    assert told in shown.err
    assert shown.out == ""


def test_ctrl_c_prints_the_best_so_far(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kinds = small_types()

    def interrupted(plan: Plan, watch: Watch) -> Plan:
        plan.cheapest = Tried(mixed(kinds["L40S-TP1"], 2), verdict(busy=(0.5,), full=(0.1,)))
        watch(plan, "searching")
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "make_plan", interrupted)
    assert planned() == 130
    shown = capsys.readouterr().out
    assert "interrupted; best so far: 2 mixed L40S-TP1: 3.60 $/h" in shown
    assert "cheapest found" in shown


def test_ctrl_c_before_anything_is_found_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(plan: Plan, watch: Watch) -> Plan:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "make_plan", interrupted)
    assert planned(as_json=True) == 130
    shown = capsys.readouterr()
    assert "no fleet found yet" in shown.err
    assert json.loads(shown.out)["cheapest"] is None


def test_the_command_is_there_and_explains_itself() -> None:
    code = "from splitweave.cluster.live.cli.entry import main; main()"
    command = [sys.executable, "-c", code, "plan", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    for word in ("--trace", "--slo", "--budget", "--machines", "docs/planner.md"):
        assert word in done.stdout


def verdict(**changes: object) -> Verdict:
    given: dict[str, object] = {
        "met": True, "requests": 100, "misses": 5, "late_first": 4, "late_rest": 1, "refused": 0,
        "ttft_s": 0.9, "tpot_s": 0.03, "goodput_per_s": 2.0, "span_s": 5.0, "placing_s": 0.0,
        "queueing_s": 0.0, "computing_s": 0.0, "busy": (0.5, 0.4), "full": (0.3, 0.2),
        "stopped": False, **changes,
    }  # fmt: skip
    return Verdict(**given)  # type: ignore[arg-type]


def test_the_front_leaves_out_what_another_beats_and_what_was_stopped() -> None:
    kinds = small_types()
    small, large = mixed(kinds["A10G-TP1"], 1), mixed(kinds["A10G-TP1"], 3)
    worse = mixed(kinds["L40S-TP1"], 2)
    plan = Plan(ask=small_ask())
    plan.tried = [
        Tried(large, verdict(misses=0)),
        Tried(small, verdict(misses=30, met=False)),
        Tried(worse, verdict(misses=10)),
        Tried(mixed(kinds["A10G-TP1"], 2), verdict(stopped=True)),
        Tried(small, verdict(misses=0), 0.5),
    ]
    assert [one.fleet for one in front(plan)] == [small, large]


def test_what_binds_names_the_bound_and_the_pool() -> None:
    kinds = small_types()
    plan = Plan(ask=small_ask())
    assert binding(plan) == []
    fleet = pair(kinds["L40S-TP1"], 2, kinds["A10G-TP1"], 1)
    plan.cheapest = Tried(fleet, verdict())
    lines = binding(plan)
    assert lines[0] == "nearest bound: TTFT, at 90% of it at p90"
    assert lines[1].startswith("prefill workers compute 50% of the time; at most 30% of their KV")
    assert as_json(plan)["cheapest"]["pools"][0]["machine"] == "L40S"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"late_first": 20, "queueing_s": 3.0}, "requests queue 3.0 s on average"),
        ({"late_first": 20, "computing_s": 3.0}, "prefill itself takes 3.0 s"),
        ({"late_first": 20, "placing_s": 3.0}, "every worker's queue is full"),
        ({"late_first": 20, "placing_s": 3.0, "full": (0.2, 0.99)}, "no worker has KV blocks left"),
        ({"late_first": 0, "late_rest": 20}, "batches are too large"),
        ({"refused": 50}, "50 requests were refused"),
    ],
)
def test_a_strain_says_what_was_missed_and_why(changes: dict[str, object], told: str) -> None:
    fleet = pair(small_types()["L40S-TP1"], 2, small_types()["A10G-TP1"], 1)
    strain = Weakness("+20 % load", Tried(fleet, verdict(met=False, **changes)))
    assert told in strained(strain, small_ask().question.slo)
