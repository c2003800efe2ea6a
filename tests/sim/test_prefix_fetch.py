"""Prefix fetches in the simulator: they save work, and no fault during one breaks a rule."""

from dataclasses import replace
from typing import Any

import pytest
from sim_worlds import EXAMPLES, poisson, pool, scenario
from splitweave.cluster.core.core import ClusterCore
from splitweave.cluster.policy.placement import SLO
from splitweave.cluster.policy.predicted_seconds import PredictedSeconds
from splitweave.proto.move import MoveKind, Stage
from splitweave.sim.campaign import run_seeds
from splitweave.sim.cores import CoreBuilder
from splitweave.sim.run import Outcome, simulate
from splitweave.sim.scenario import Scenario, load_scenario
from splitweave.sim.workloads.lengths import Fixed
from splitweave.sim.workloads.specs import PoissonSpec

GROUP = 10


class Keen(CoreBuilder):
    """A router that fetches whatever is worth it: from one block on, over links it trusts."""

    tokens_min = 1

    def cluster(self) -> ClusterCore:
        slo = SLO(ttft_ns=1_000_000_000, tpot_ns=100_000_000)
        policy = PredictedSeconds(slo=slo, fetch_tokens_min=self.tokens_min, link_latency_ns=0)
        policy.links.default_bytes_per_s = 1e12
        return ClusterCore(self.cluster_limits, policy, self._scenario.block_tokens)


class Never(Keen):
    """The same router without fetches."""

    tokens_min = 0


def crowd(builder: type[CoreBuilder], **changes: Any) -> Outcome:
    """Long shared prefixes on workers that compute slowly: one has it, all are needed."""
    given = scenario(
        hardware={"a": {"kind": "affine", "iteration_us": 2000, "token_us": 400}},
        pools=[pool("m", "mixed", count=4, blocks=300)],
        workload=poisson(12, 60, 320, 20, shared_prefix_tokens=256, prefix_groups=6),
        checked=True,
        **changes,
    )
    return simulate(given, builder=builder(given))


def fetches(outcome: Outcome) -> list[Any]:
    accounts = [s.account for s in outcome.world.clients.streams.values() if s.account]
    return [m for account in accounts for m in account.moves if m.kind is MoveKind.FETCH]


def cached(outcome: Outcome, name: str) -> int:
    accounts = [s.account for s in outcome.world.clients.streams.values() if s.account]
    return sum(getattr(account, name) for account in accounts)


def test_prefixes_are_fetched_instead_of_computed_and_each_is_accounted() -> None:
    keen, never = crowd(Keen), crowd(Never)
    done = [move for move in fetches(keen) if move.outcome is Stage.COMMITTED]
    assert done
    assert fetches(never) == []
    assert all(move.transfer_bytes > 0 and not move.reason for move in done)
    assert cached(keen, "cached_peer_tokens") > 0
    assert cached(never, "cached_peer_tokens") == 0
    assert cached(keen, "cached_tokens") > cached(never, "cached_tokens")
    assert keen.wall_ns <= never.wall_ns


def hurt(**pools: Any) -> Scenario:
    """A bad hour in which most prompts begin alike."""
    given = load_scenario(EXAMPLES / "faults.toml")
    assert isinstance(given.workload, PoissonSpec)
    prompt = Fixed(kind="fixed", tokens=52)
    workload = replace(given.workload, prompt=prompt, shared_prefix_tokens=44, prefix_groups=4)
    return replace(given, workload=workload, pools=[replace(p, **pools) for p in given.pools])


@pytest.mark.parametrize("first", range(0, 60, GROUP))
@pytest.mark.parametrize("host_blocks", [0, 40])
def test_no_seed_breaks_a_rule_while_prefixes_are_fetched(first: int, host_blocks: int) -> None:
    given = hurt(host_blocks=host_blocks, host_gbytes_per_s=0.05)
    results = run_seeds(given, range(first, first + GROUP), Keen)
    assert [f"{result.seed}: {result.error}" for result in results if result.error] == []


def test_those_seeds_do_fetch_and_some_fetches_fail() -> None:
    outcomes: dict[Stage, int] = {}
    for seed in range(8):
        given = replace(hurt(), seed=seed, checked=True)
        for move in fetches(simulate(given, builder=Keen(given))):
            outcomes[move.outcome] = outcomes.get(move.outcome, 0) + 1
    assert outcomes.get(Stage.COMMITTED, 0) > 5
    assert outcomes.get(Stage.ABORTED, 0) > 0
