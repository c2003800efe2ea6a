"""Coverage beside the moves: prefix fetches, host memory, classes, clients that come back."""

from typing import Any

import pytest
from sim_worlds import poisson, pool, scenario
from splitweave.sim.campaign import run_seed
from splitweave.sim.cores import CoreBuilder
from splitweave.sim.coverage import (
    ARRIVALS,
    FETCH_SOURCE,
    FETCH_TARGET,
    HOST,
    STAGES,
    Coverage,
)
from splitweave.sim.reachable import impossible
from splitweave.sim.swarm import KEEN, swarm


def _run(**changes: Any) -> Coverage:
    coverage = Coverage()
    result = run_seed(scenario(**changes), 3, coverage=coverage)
    assert result.error == ""
    assert impossible(coverage) == {}
    return coverage


@pytest.fixture(scope="module")
def fetching() -> Coverage:
    """Long shared prefixes on four workers that compute slowly, and a router that fetches."""
    return _run(
        hardware={"a": {"kind": "affine", "iteration_us": 2000, "token_us": 400}},
        pools=[pool("m", "mixed", count=4, blocks=300)],
        workload=poisson(12, 40, 320, 8, shared_prefix_tokens=256, prefix_groups=4),
        limits=KEEN,
    )


def test_a_fetch_takes_both_sides_through_every_stage(fetching: Coverage) -> None:
    source, target = fetching.table(STAGES[FETCH_SOURCE]), fetching.table(STAGES[FETCH_TARGET])
    done = source["handover", "committed"]
    assert done > 0
    for stages in (source, target):
        assert stages["handover", "committed"] == done
        assert stages["reserve", "copy"] >= stages["copy", "handover"] >= done


def test_both_sides_of_a_fetch_count_the_same_letters(fetching: Coverage) -> None:
    source, target = fetching.table(FETCH_SOURCE), fetching.table(FETCH_TARGET)
    offers = sum(count for (row, _), count in target.items() if row == "FetchOffered")
    asks = sum(count for (row, _), count in source.items() if row == "FetchAsked")
    assert asks >= offers > 0
    assert source["FetchGranted", "reserve"] == target["FetchOffered", "reserve"]
    assert target["RequestAssigned", "none"] > 0


def test_copies_to_host_memory_and_back_are_counted_as_they_end() -> None:
    coverage = _run(
        pools=[pool("m", "mixed", host_blocks=1000, blocks=80)],
        workload=poisson(4, 40, 512, 4, shared_prefix_tokens=480, prefix_groups=10),
    )
    table = coverage.table(HOST)
    assert table["spill", "ordered"] >= table["spill", "done"] > 5
    assert table["restore", "ordered"] == table["restore", "done"] > 0
    assert ("spill", "failed") not in table


def test_host_copies_that_fail_are_counted_and_break_no_rule() -> None:
    coverage = _run(
        pools=[pool("m", "mixed", host_blocks=1000, blocks=80)],
        workload=poisson(4, 40, 512, 4, shared_prefix_tokens=480, prefix_groups=10),
        faults={"until_s": 8.0, "host_troubles": 40},
        limits={"worker": {"spill_again_ns": 50_000_000}},
    )
    assert coverage.table(HOST)["spill", "failed"] > 0


def test_requests_are_counted_by_class_and_by_how_they_stood() -> None:
    coverage = _run(classes={"interactive": 0.4, "batch": 0.3})
    arrived = coverage.table(ARRIVALS)
    assert sum(arrived.values()) >= 25
    assert {row for row, _ in arrived} == {"interactive", "standard", "batch"}


def test_a_client_that_comes_back_is_counted_as_such() -> None:
    coverage = _run(
        network={"gateways": 2},
        faults={"until_s": 1.2, "gateway_crashes": 4, "ask_again_s": 0.005},
    )
    rows = {row for row, _ in coverage.table(ARRIVALS)}
    assert "resumed" in rows


def test_the_swarm_draws_host_memory_classes_and_routers_that_fetch() -> None:
    drawn = [swarm(seed) for seed in range(60)]
    assert {p.host_blocks for given in drawn for p in given.pools} == {0, 8, 64}
    assert {bool(given.classes.batch) for given in drawn} == {True, False}
    fetching = [CoreBuilder(given)._policy().fetch_tokens_min == 1 for given in drawn]
    assert 20 < sum(fetching) < 55
