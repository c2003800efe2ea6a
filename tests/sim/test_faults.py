"""Three hundred bad hours: no rule is broken, and every admitted request ends."""

from pathlib import Path

import pytest
from splitweave.sim.campaign import run_seeds
from splitweave.sim.scenario import load_scenario

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SEEDS = 300
GROUP = 20


@pytest.mark.parametrize("first", range(0, SEEDS, GROUP))
def test_no_seed_breaks_a_rule(first: int) -> None:
    scenario = load_scenario(EXAMPLES / "faults.toml")
    results = run_seeds(scenario, range(first, first + GROUP))
    failed = [
        f"splitweave simulate examples/faults.toml --seed {result.seed}\n{result.error}"
        for result in results
        if result.error
    ]
    assert not failed, "\n".join(failed)
