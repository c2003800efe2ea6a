"""The same seed is the same run, to the last effect."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from splitweave.sim.metrics import measure
from splitweave.sim.results import api
from splitweave.sim.run import simulate
from splitweave.sim.scenario import load_scenario
from splitweave.sim.transcript import Transcript

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SCRIPT = """
import sys
from pathlib import Path
from splitweave.sim import Transcript, simulate
transcript = Transcript()
results = simulate(Path(sys.argv[1]), transcript=transcript, workload={"requests": 30})
print(transcript.digest())
print(results.as_json())
"""
HASH_SEEDS = ("0", "1", "4242", "random")


def _digest(scenario: Any) -> Any:
    transcript = Transcript()
    simulate(scenario, transcript=transcript)
    return transcript.digest()


def test_a_seed_gives_one_digest_and_another_seed_another() -> None:
    scenario = load_scenario(EXAMPLES / "faults.toml")
    first = _digest(scenario)
    assert _digest(scenario) == first
    assert _digest(replace(scenario, seed=scenario.seed + 1)) != first


def _start(path: Path, hash_seed: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-P", "-c", SCRIPT, str(path)],
        stdout=subprocess.PIPE,
        text=True,
        env={"PYTHONHASHSEED": hash_seed, "PYTHONPATH": ":".join(p for p in sys.path if p)},
    )


@pytest.mark.parametrize("name", ["faults.toml", "devices.toml", "like_mooncake.toml"])
def test_a_seed_gives_the_same_digest_and_results_in_processes_of_any_hash_seed(name: str) -> None:
    """All at once, so that they compete for the processors."""
    path, transcript = EXAMPLES / name, Transcript()
    processes = [_start(path, hash_seed) for hash_seed in HASH_SEEDS]
    results = api.simulate(path, transcript=transcript, workload={"requests": 30})
    here = f"{transcript.digest()}\n{results.as_json()}\n"
    said = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes)
    assert [each == here for each in said] == [True] * len(said)


def test_checking_does_not_change_the_timing() -> None:
    scenario = load_scenario(EXAMPLES / "faults.toml")
    # Fast worlds draw other tokens, so nothing may depend on which they are.
    calm = replace(scenario, stop_chance=0.0, faults=replace(scenario.faults, until_s=0.0))
    calm = replace(calm, faults=type(calm.faults)())
    checked = measure(simulate(replace(calm, checked=True)))
    fast = measure(simulate(replace(calm, checked=False)))
    assert fast == checked
