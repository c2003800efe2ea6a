"""The same seed is the same run, to the last effect."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from splitweave.sim.metrics import measure
from splitweave.sim.run import simulate
from splitweave.sim.scenario import load_scenario
from splitweave.sim.transcript import Transcript

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SCRIPT = """
import sys
from pathlib import Path
from splitweave.sim import Transcript, load_scenario, simulate
transcript = Transcript()
simulate(load_scenario(Path(sys.argv[1])), transcript=transcript)
print(transcript.digest())
"""


def _digest(scenario: Any) -> Any:
    transcript = Transcript()
    simulate(scenario, transcript=transcript)
    return transcript.digest()


def test_a_seed_gives_one_digest_and_another_seed_another() -> None:
    scenario = load_scenario(EXAMPLES / "faults.toml")
    first = _digest(scenario)
    assert _digest(scenario) == first
    assert _digest(replace(scenario, seed=scenario.seed + 1)) != first


def test_a_seed_gives_the_same_digest_in_another_process() -> None:
    path = EXAMPLES / "faults.toml"
    digests = [
        subprocess.run(
            [sys.executable, "-P", "-c", SCRIPT, str(path)],
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONHASHSEED": hash_seed, "PYTHONPATH": ":".join(p for p in sys.path if p)},
        ).stdout
        for hash_seed in ("1", "2")
    ]
    assert digests[0] == digests[1] == _digest(load_scenario(path)) + "\n"


def test_checking_does_not_change_the_timing() -> None:
    scenario = load_scenario(EXAMPLES / "faults.toml")
    # Fast worlds draw other tokens, so nothing may depend on which they are.
    calm = replace(scenario, stop_chance=0.0, faults=replace(scenario.faults, until_s=0.0))
    calm = replace(calm, faults=type(calm.faults)())
    checked = measure(simulate(replace(calm, checked=True)))
    fast = measure(simulate(replace(calm, checked=False)))
    assert fast == checked
