"""Campaigns: seeds one by one, every rule checked, and the way back to a failure."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sim_worlds import scenario
from splitweave.sim import cli
from splitweave.sim.campaign import first_failure, run_seed, run_seeds
from splitweave.sim.cores import CoreBuilder
from splitweave.sim.scenario import Scenario

FAILING = """
end_within_s = 0.05
[hardware.a]
kind = "affine"
iteration_us = 5000
token_us = 20
[[pools]]
name = "mixed"
role = "mixed"
hardware = "a"
blocks = 200
[workload]
kind = "poisson"
rate_per_s = 20
requests = 2
prompt = { kind = "fixed", tokens = 40 }
output = { kind = "fixed", tokens = 90 }
"""


def _breaking(error: type[Exception], bad: int) -> Callable[[Scenario], CoreBuilder]:
    """A builder whose controller cannot be built under the seed `bad`."""

    def build(given: Scenario) -> CoreBuilder:
        class Builder(CoreBuilder):
            def cluster(self) -> Any:
                if given.seed == bad:
                    raise error("planted")
                return super().cluster()

        return Builder(given)

    return build


def test_every_seed_is_its_own_run_and_a_failing_one_stops_no_other() -> None:
    results = list(run_seeds(scenario(), range(3, 7), _breaking(AssertionError, 4)))
    assert [r.seed for r in results] == [3, 4, 5, 6]
    assert [r.error for r in results] == ["", "AssertionError: planted", "", ""]
    assert "planted" in results[1].trace
    assert results[0].trace == ""
    assert results[1].events == 0 < results[0].events


def test_seeds_are_checked_whatever_the_scenario_says() -> None:
    def build(given: Scenario) -> CoreBuilder:
        assert given.checked
        return CoreBuilder(given)

    assert run_seed(scenario(checked=False), 9, build).error == ""


def test_what_is_no_fault_of_a_core_is_not_taken_for_one() -> None:
    with pytest.raises(MemoryError):
        run_seed(scenario(), 4, _breaking(MemoryError, 4))


def test_the_search_ends_at_the_first_failure() -> None:
    asked: list[int] = []

    def seeds() -> Iterator[int]:
        for seed in range(10):
            asked.append(seed)
            yield seed

    found = first_failure(scenario(), seeds(), _breaking(KeyError, 2))
    assert found is not None
    assert (found.seed, asked) == (2, [0, 1, 2])
    assert first_failure(scenario(), range(2), _breaking(KeyError, 2)) is None


def test_a_campaign_prints_one_replay_per_failing_seed_and_the_replay_fails_alike(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "with space.toml"
    path.write_text(FAILING)
    assert cli.run(path, seed=4, seeds=2) == 1
    shown = capsys.readouterr().out
    for seed in (4, 5):
        assert f"replay: splitweave simulate '{path}' --seed {seed}\n" in shown
    assert cli.run(path, seed=5) == 1
    again = capsys.readouterr().out
    (first,) = [line for line in shown.splitlines() if line.startswith("seed 5: ")]
    assert first in again.splitlines()


def test_a_campaign_gives_up_after_a_few_failures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "failing.toml"
    path.write_text(FAILING)
    assert cli.run(path, seeds=40) == 1
    assert capsys.readouterr().out.count("replay: ") == cli.SHOWN_FAILURES
