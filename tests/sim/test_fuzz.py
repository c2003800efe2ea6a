"""`splitweave fuzz`: seeds in processes, their coverage together, failures with their replay."""

from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from splitweave.sim import cli, fuzz
from splitweave.sim.campaign import SeedResult, run_seed
from splitweave.sim.coverage import SOURCE, Coverage
from splitweave.sim.fuzz import Batch, run_batch, run_batches
from splitweave.sim.reachable import impossible
from splitweave.sim.scenario import Scenario
from splitweave.sim.swarm import KINDS, SHAPES, swarm

SEEDS = 240
GROUP = 20


@pytest.mark.parametrize("first", range(0, SEEDS, GROUP))
def test_no_seed_of_the_swarm_breaks_a_rule(first: int) -> None:
    coverage = Coverage()
    failed = []
    for seed in range(first, first + GROUP):
        result = run_seed(swarm(seed), seed, coverage=coverage)
        if result.error:
            failed.append(f"splitweave fuzz --seeds 1 --first {seed}\n{result.error}")
    assert not failed, "\n".join(failed)
    assert impossible(coverage) == {}


def test_a_seed_is_a_scenario_and_no_two_are_alike() -> None:
    drawn = [swarm(seed) for seed in range(60)]
    assert drawn[7] == swarm(7)
    assert all(given.checked and given.seed == seed for seed, given in enumerate(drawn))
    assert len({str(given) for given in drawn}) == 60


def test_the_swarm_draws_every_shape_and_every_kind_on_and_off() -> None:
    drawn = [swarm(seed) for seed in range(200)]
    shapes = {" ".join(f"{p.count}{p.role[0].upper()}" for p in given.pools) for given in drawn}
    assert shapes == set(SHAPES)
    for kind in KINDS:
        on = [given for given in drawn if getattr(given.faults, kind)]
        assert 40 < len(on) < 160, kind


def test_processes_and_one_process_come_to_the_same() -> None:
    seeds = range(30, 30 + fuzz.SEEDS_PER_TASK + 2)
    alone, together = (_all(run_batches(None, seeds, jobs)) for jobs in (1, 2))
    assert alone == together
    assert [result.seed for result in alone[0]] == list(seeds)
    assert sum(alone[1].values()) > 1000


def _all(batches: Generator[Batch, None, None]) -> tuple[list[SeedResult], Any]:
    results: list[SeedResult] = []
    coverage = Coverage()
    for batch in batches:
        results += batch.results
        coverage.add(batch.coverage)
    return sorted(results, key=lambda result: result.seed), coverage.counts


def _planted(monkeypatch: pytest.MonkeyPatch, *bad: int) -> None:
    """Seeds `bad` fail; the others are quick."""

    def one(_: Scenario, seed: int, coverage: Coverage) -> SeedResult:
        coverage.count(SOURCE, "MoveOrdered", "none")
        return SeedResult(seed=seed, error="a rule" if seed in bad else "", events=3, requests=2)

    monkeypatch.setattr(fuzz, "run_seed", one)


def test_a_failing_seed_is_printed_with_the_command_that_replays_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _planted(monkeypatch, 105)
    assert cli.fuzz(None, seeds=10, first=100, jobs=1) == 1
    shown = capsys.readouterr().out
    assert "seed 105: a rule" in shown
    assert "replay: splitweave fuzz --seeds 1 --first 105\n" in shown
    assert "10 seeds: 30 events, 20 requests, 0 faults" in shown


def test_of_a_scenario_the_replay_is_simulates(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    _planted(monkeypatch, 3)
    path = Path(__file__).resolve().parents[2] / "examples" / "faults.toml"
    assert cli.fuzz(path, seeds=8, jobs=1) == 1
    assert f"replay: splitweave simulate {path} --seed 3" in capsys.readouterr().out


def test_what_was_never_taken_is_listed_and_fails_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _planted(monkeypatch)
    assert cli.fuzz(None, seeds=4, jobs=1) == 0
    shown = capsys.readouterr().out
    assert "untaken, reachable: " in shown
    assert "source: LeaseOpened x ended | reserve" in shown
    assert "no rule broken" in shown


def test_a_pair_taken_although_unreachable_fails_the_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def one(_: Scenario, seed: int, coverage: Coverage) -> SeedResult:
        coverage.count(SOURCE, "CopySent", "reserve")
        return SeedResult(seed=seed)

    monkeypatch.setattr(fuzz, "run_seed", one)
    assert cli.fuzz(None, seeds=1, jobs=1) == 1
    assert "taken although unreachable: source: CopySent x reserve" in capsys.readouterr().out


def test_it_gives_up_after_a_few_failures(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _planted(monkeypatch, *range(1000))
    assert cli.fuzz(None, seeds=1000, jobs=1) == 1
    assert capsys.readouterr().out.count("replay: ") < 2 * fuzz.SEEDS_PER_TASK


def test_ctrl_c_prints_what_there_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def batches(*_: Any) -> Generator[Batch, None, None]:
        yield run_batch(None, [5])
        raise KeyboardInterrupt

    _planted(monkeypatch)
    monkeypatch.setattr(cli, "run_batches", batches)
    assert cli.fuzz(None, seeds=100, jobs=1) == 130
    shown = capsys.readouterr().out
    assert "interrupted" in shown
    assert "1 seeds: 3 events" in shown


def test_a_scenario_that_cannot_be_read_is_status_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.fuzz(tmp_path / "none.toml", seeds=1, jobs=1) == 2
    assert "none.toml" in capsys.readouterr().err
