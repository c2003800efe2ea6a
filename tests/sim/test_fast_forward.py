"""Fast-forward and step by step are the same run: each request's row, each gap, each move."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from calm_worlds import calm_world
from sim_worlds import EXAMPLES, poisson, pool, scenario, world_of
from splitweave.sim import cli
from splitweave.sim.metrics import measure
from splitweave.sim.results.records import MoveTally
from splitweave.sim.run import Outcome, simulate
from splitweave.sim.scenario import Scenario, load_scenario
from splitweave.sim.streams import VOCAB, quick_token, quick_tokens
from splitweave.sim.transcript import Transcript

WORLDS = 200
TWO_POOLS = EXAMPLES / "two_pools.toml"


def both(given: Scenario) -> tuple[Outcome, Outcome]:
    """The run in jumps, and the same run step by step."""
    return simulate(given), simulate(replace(given, fast_forward=False))


def seen(outcome: Outcome) -> dict[str, Any]:
    """All that anybody can say of a run, but for how many steps it took.

    Requests that end at the same nanosecond end in no order.
    """
    records = outcome.world.clients.records
    gaps = records.gaps
    percentiles = [gaps.percentile_ns(percent) for percent in range(101)]
    return {
        "rows": dict(records.by_arrival()),
        "gaps": (gaps.count, gaps.mean_ns, gaps.max_ns, percentiles),
        "moves": {kind: _tally(tally) for kind, tally in records.moves.items()},
        "metrics": measure(outcome).as_json(),
        "workers": _workers(outcome),
    }


def _tally(tally: MoveTally) -> dict[str, Any]:
    return vars(tally) | {"downtimes_ns": sorted(tally.downtimes_ns)}


def _workers(outcome: Outcome) -> list[tuple[Any, ...]]:
    """What each worker holds at the end, and how fast it believes to be."""
    return [
        (party.core.view(0), party.engine.iterations, party.engine.busy_ns)
        for party in outcome.world.mail.workers.values()
    ]


def told_apart(given: Scenario) -> list[str]:
    """What differs between the two runs of a world."""
    ahead, stepped = map(seen, both(given))
    return [name for name in ahead if ahead[name] != stepped[name]]


@pytest.mark.parametrize("first", range(0, WORLDS, 20))
def test_a_random_world_in_jumps_is_the_same_bit_for_bit(first: int) -> None:
    for seed in range(first, first + 20):
        assert told_apart(calm_world(seed)) == [], f"calm_world({seed})"


@pytest.mark.parametrize("name", ["two_pools.toml", "chat_and_batch.toml", "like_mooncake.toml"])
def test_an_example_in_jumps_is_the_same(name: str) -> None:
    given = load_scenario(EXAMPLES / name)
    if getattr(given.workload, "requests", None):
        given = replace(given, workload=replace(given.workload, requests=60))
    assert told_apart(given) == []


@pytest.mark.parametrize(
    ("seed", "blocks", "rate_per_s", "prompt"), [(27, 90, 8.0, 100), (32, 40, 4.0, 40)]
)
def test_a_request_that_has_just_begun_in_a_full_memory_is_planned_for(
    seed: int, blocks: int, rate_per_s: float, prompt: int
) -> None:
    given = scenario(
        seed=seed,
        workload=poisson(rate_per_s, 40, prompt, 150),
        pools=[pool("p", "prefill", count=2), pool("d", "decode", blocks=blocks)],
        limits={"worker": {"watermark_blocks": 0}},
    )
    assert told_apart(given) == []


def test_jumps_spare_most_of_the_steps() -> None:
    ahead, stepped = both(scenario(workload=poisson(2.0, 20, 40, 300)))
    assert ahead.events * 4 < stepped.events


def test_where_steps_are_recorded_none_is_jumped_over(tmp_path: Path) -> None:
    digests = []
    for fast in (True, False):
        transcript = Transcript(tmp_path / str(fast))
        simulate(replace(calm_world(1), fast_forward=fast), transcript=transcript)
        transcript.close()
        digests.append(transcript.digest())
    assert digests[0] == digests[1]


def test_whoever_looks_between_two_steps_finds_a_worker_as_of_now() -> None:
    """At odd times; only what nobody was told yet may differ, and a view does not show that."""
    looks = [_looks(replace(calm_world(4), fast_forward=fast)) for fast in (True, False)]
    assert looks[0] == looks[1]
    assert len(looks[0]) > 10


def _looks(given: Scenario) -> list[Any]:
    world, run, queue = world_of(given, checked=False)
    looks = []
    while not run.done:
        queue.run_until(queue.now_ns + 7_654_321)
        world.catch_up()
        looks.append([party.core.view(queue.now_ns) for party in world.mail.workers.values()])
    return looks


def test_quick_tokens_are_quick_token_again_and_again() -> None:
    for seed in (0, 5, 1 << 40):
        for position, count in ((0, 7), (VOCAB - 3, 9), (123, 3 * VOCAB)):
            each = [quick_token(seed, position + index) for index in range(count)]
            assert quick_tokens(seed, position, count) == each
            assert np.all([token.token_id < VOCAB for token in each])


def test_a_flag_turns_the_jumps_off_and_the_figures_stay(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = []
    path = tmp_path / "small.toml"
    path.write_text(re.sub(r"requests = \d+", "requests = 20", TWO_POOLS.read_text()))
    for flag in (True, False):
        assert cli.run(path, step_by_step=flag, as_json=True) == 0
        out, err = capsys.readouterr()
        shown.append((out, [line for line in err.splitlines() if " events" in line]))
    assert shown[0][0] == shown[1][0]
    assert shown[0][1] != shown[1][1]
